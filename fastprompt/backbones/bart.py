"""BART (Lewis et al., 2020, arXiv:1910.13461), portable, without its vocabulary head.

Positions are learned; norms stand after each part of a layer.
"""

from typing import Any

from fastprompt.backbones.cache import DecoderLayerCache, LayerCache
from fastprompt.backbones.encoder_decoder import EncoderDecoderBackbone, PartAttention, Stack
from fastprompt.backbones.portable import ScaledEmbedding, activation
from fastprompt.framework import nn, ops

_OFFSET = 2  # rows of the position table before that of the first place


class BartAttention(PartAttention):
    def __init__(self, config: dict[str, Any], heads: int) -> None:
        super().__init__()
        hidden, self.heads = config["d_model"], heads
        self.dropout_p = config.get("attention_dropout", 0.0)
        self.k_proj = nn.Linear(hidden, hidden)
        self.v_proj = nn.Linear(hidden, hidden)
        self.q_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def project(self, hidden: Any) -> Any:
        return self.q_proj(hidden)

    def read(self, states: Any) -> tuple[Any, Any]:
        return self.k_proj(states), self.v_proj(states)

    def write(self, attended: Any) -> Any:
        return self.out_proj(attended)


class BartLayer(nn.Module):
    """A layer of the encoder, or of the decoder, which has cross-attention too."""

    def __init__(self, config: dict[str, Any], part: str) -> None:
        super().__init__()
        hidden, heads, inner = config["d_model"], config[f"{part}_attention_heads"], config[f"{part}_ffn_dim"]
        self.self_attn = BartAttention(config, heads)
        self.self_attn_layer_norm = nn.LayerNorm(hidden)
        if part == "decoder":
            self.encoder_attn = BartAttention(config, heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(hidden)
        self.fc1 = nn.Linear(hidden, inner)
        self.fc2 = nn.Linear(inner, hidden)
        self.final_layer_norm = nn.LayerNorm(hidden)
        self.activation = activation(config.get("activation_function", "gelu"))
        self.dropout = nn.Dropout(config.get("dropout", 0.1))
        self.activation_dropout = nn.Dropout(config.get("activation_dropout", 0.0))

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        bias: None,
        key: Any | None,
        value: Any | None,
        states: Any | None = None,
        cross_mask: Any | None = None,
        cross_key: Any | None = None,
        cross_value: Any | None = None,
        cache: DecoderLayerCache | None = None,
    ) -> Any:
        own, cross = cache or (None, None)
        attended = self.self_attn(hidden, mask, None if key is None else (key, value), bias, own)
        hidden = self.self_attn_layer_norm(hidden + self.dropout(attended))
        if states is not None:
            hidden = self._attend_to_text(hidden, cross_mask, cross_key, cross_value, cross, states)
        inner = self.activation_dropout(self.activation(self.fc1(hidden)))
        return self.final_layer_norm(hidden + self.dropout(self.fc2(inner)))

    def _attend_to_text(
        self, hidden: Any, mask: Any | None, key: Any | None, value: Any | None, cache: LayerCache | None, states: Any
    ) -> Any:
        pair = None if key is None else (key, value)
        attended = self.encoder_attn(hidden, mask, pair, None, cache, states)
        return self.encoder_attn_layer_norm(hidden + self.dropout(attended))


class BartStack(Stack):
    def __init__(self, config: dict[str, Any], part: str, layers: int) -> None:
        super().__init__()
        hidden = config["d_model"]
        self.embed_positions = nn.Embedding(config["max_position_embeddings"] + _OFFSET, hidden)
        self.layernorm_embedding = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList([BartLayer(config, part) for _ in range(layers)])
        self.dropout = nn.Dropout(config.get("dropout", 0.1))

    def embed(self, inputs_embeds: Any, start: int) -> Any:
        places = ops.arange(inputs_embeds.shape[1], like=inputs_embeds) + (start + _OFFSET)
        positions = ops.reshape(self.embed_positions(places), (1, *inputs_embeds.shape[1:]))
        return self.dropout(self.layernorm_embedding(inputs_embeds + positions))

    def layer_modules(self) -> list[Any]:
        return list(self.layers)


class Backbone(EncoderDecoderBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        factor = config["d_model"] ** 0.5 if config.get("scale_embedding") else 1.0
        self.shared = ScaledEmbedding(config["vocab_size"], config["d_model"], config.get("pad_token_id", 1), factor)
        self.encoder = BartStack(config, "encoder", self.geometry.layers)
        self.decoder = BartStack(config, "decoder", self.geometry.decoder_layers)

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, int, int]]:
        sizes, heads = self.geometry, self.config["decoder_attention_heads"]
        decoder = (sizes.decoder_layers, heads, self.config["d_model"] // heads)
        return {"encoder": (sizes.layers, sizes.heads, sizes.head_dim), "decoder": decoder, "cross": decoder}
