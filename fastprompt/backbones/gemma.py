"""Gemma (Gemma Team, 2024, arXiv:2403.08295), portable: Llama with scaled word embeddings, norms whose weights count
from 1, and another activation.
"""

from typing import Any

from fastprompt.backbones import llama
from fastprompt.backbones.portable import ScaledEmbedding
from fastprompt.errors import CheckpointError


class GemmaNorm(llama.RMSNorm):
    """Its weight is what is added to 1."""

    def scale(self) -> Any:
        return self.weight + 1.0


class GemmaMLP(llama.LlamaMLP):
    """By the tanh form of gelu, also where config.json has the first release's "gelu"."""

    def __init__(self, config: dict[str, Any]) -> None:
        named = config.get("hidden_act", "gelu_pytorch_tanh")
        super().__init__({**config, "hidden_act": "gelu_pytorch_tanh" if named == "gelu" else named})


class GemmaLayer(llama.LlamaLayer):
    mlp_class, norm_class = GemmaMLP, GemmaNorm


class Backbone(llama.Backbone):
    layer_class = GemmaLayer

    def __init__(self, config: dict[str, Any]) -> None:
        if config.get("use_bidirectional_attention"):
            raise CheckpointError(
                "config.json asks for use_bidirectional_attention, which the portable definition lacks; use torch."
            )
        super().__init__(config)

    def make_embeddings(self, config: dict[str, Any]) -> ScaledEmbedding:
        hidden = config["hidden_size"]
        return ScaledEmbedding(config["vocab_size"], hidden, config.get("pad_token_id"), hidden**0.5)
