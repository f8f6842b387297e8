"""MPNet (Song et al., 2020, arXiv:2004.09297), portable: BERT's layers without token types, and a learned bias for the
distance between query and key, which all layers share.

A deep prefix stands at no position: its scores are those of content alone, as on torch (see
drivers/torch/stock/attention_patches.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.backbones.bert import RelativeLayer
from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.distances import distance_buckets, learned_bias
from fastprompt.backbones.portable import PassInputs, PortableBackbone, attend, split_heads
from fastprompt.framework import nn
from fastprompt.pretrained.geometry import padding_id


class MPNetEmbeddings(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, padding = config["hidden_size"], padding_id(config)
        self.word_embeddings = nn.Embedding(config["vocab_size"], hidden, padding_idx=padding)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], hidden, padding_idx=padding)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.get("layer_norm_eps", 1e-12))
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(self, inputs_embeds: Any, position_ids: Any) -> Any:
        return self.dropout(self.LayerNorm(inputs_embeds + self.position_embeddings(position_ids)))


class MPNetSelfAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.dropout_p = config.get("attention_probs_dropout_prob", 0.1)
        self.q = nn.Linear(hidden, hidden)
        self.k = nn.Linear(hidden, hidden)
        self.v = nn.Linear(hidden, hidden)
        self.o = nn.Linear(hidden, hidden)

    def forward(
        self, hidden: Any, mask: Any | None, prefix: tuple[Any, Any] | None, bias: Any, cache: LayerCache | None
    ) -> Any:
        query, key, value = (split_heads(layer(hidden), self.heads) for layer in (self.q, self.k, self.v))
        return self.o(attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training, bias))


class MPNetAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.attn = MPNetSelfAttention(config)
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config.get("layer_norm_eps", 1e-12))
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(
        self, hidden: Any, mask: Any | None, prefix: tuple[Any, Any] | None, bias: Any, cache: LayerCache | None
    ) -> Any:
        return self.LayerNorm(self.dropout(self.attn(hidden, mask, prefix, bias, cache)) + hidden)


class MPNetEncoder(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [RelativeLayer(config, MPNetAttention(config)) for _ in range(config["num_hidden_layers"])]
        )
        buckets = config.get("relative_attention_num_buckets", 32)
        self.relative_attention_bias = nn.Embedding(buckets, config["num_attention_heads"])

    def position_bias(self, length: int, like: Any) -> Any:
        """What the distance between query and key adds to their score, (1, heads, T, T)."""
        return learned_bias(self.relative_attention_bias, distance_buckets(length, length), like)


class Backbone(PortableBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.embeddings = MPNetEmbeddings(config)
        self.encoder = MPNetEncoder(config)

    def word_embeddings(self) -> Any:
        return self.embeddings.word_embeddings

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.embeddings(inputs_embeds, position_ids)

    def layer_modules(self) -> list[Any]:
        return list(self.encoder.layer)

    def blocks(self, inputs: PassInputs) -> list[Callable]:
        bias = self.encoder.position_bias(inputs.inputs_embeds.shape[1], like=inputs.inputs_embeds)
        return [partial(layer, distances=bias) for layer in self.encoder.layer]
