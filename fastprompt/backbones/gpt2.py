"""GPT-2 (Radford et al., 2019), portable; its vocabulary head is tied to the word embeddings."""

from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import activation, attend, split_heads
from fastprompt.backbones.portable_causal import CausalBackbone
from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops


class Conv1D(nn.Module):
    """A linear layer whose weight is [in, out]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.parameter((width, out))
        self.bias = nn.parameter((out,))

    def forward(self, x: Any) -> Any:
        return ops.linear(x, ops.transpose(self.weight, (1, 0)), self.bias)


class GPT2Attention(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, heads: int) -> None:
        super().__init__()
        self.hidden, self.heads = hidden, heads
        self.dropout_p = config.get("attn_pdrop", 0.1)
        self.c_attn = Conv1D(hidden, 3 * hidden)
        self.c_proj = Conv1D(hidden, hidden)
        self.resid_dropout = nn.Dropout(config.get("resid_pdrop", 0.1))

    def forward(self, hidden: Any, mask: Any, prefix: tuple[Any, Any] | None, cache: LayerCache | None) -> Any:
        fused, width = self.c_attn(hidden), self.hidden  # (B, T, 3 * hidden)
        query, key, value = (split_heads(fused[:, :, i * width : (i + 1) * width], self.heads) for i in range(3))
        attended = attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training)
        return self.resid_dropout(self.c_proj(attended))


class GPT2MLP(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int) -> None:
        super().__init__()
        inner = config.get("n_inner") or 4 * hidden
        self.c_fc = Conv1D(hidden, inner)
        self.c_proj = Conv1D(inner, hidden)
        self.act = activation(config.get("activation_function", "gelu_new"))
        self.dropout = nn.Dropout(config.get("resid_pdrop", 0.1))

    def forward(self, hidden: Any) -> Any:
        return self.dropout(self.c_proj(self.act(self.c_fc(hidden))))


class GPT2Block(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, heads: int) -> None:
        super().__init__()
        eps = config.get("layer_norm_epsilon", 1e-5)
        self.ln_1 = nn.LayerNorm(hidden, eps=eps)
        self.attn = GPT2Attention(config, hidden, heads)
        self.ln_2 = nn.LayerNorm(hidden, eps=eps)
        self.mlp = GPT2MLP(config, hidden)

    def forward(
        self, hidden: Any, mask: Any, key: Any | None, value: Any | None, cache: LayerCache | None = None
    ) -> Any:
        prefix = None if key is None else (key, value)
        hidden = hidden + self.attn(self.ln_1(hidden), mask, prefix, cache)
        return hidden + self.mlp(self.ln_2(hidden))


class Backbone(CausalBackbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        supported = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
        for name, value in supported.items():
            if config.get(name, value) != value:
                raise CheckpointError(
                    f"config.json asks for {name}={config[name]}, which the portable definition lacks; use torch."
                )
        sizes = self.geometry
        self.wte = nn.Embedding(config["vocab_size"], sizes.hidden_size)
        self.wpe = nn.Embedding(sizes.max_positions, sizes.hidden_size)
        self.drop = nn.Dropout(config.get("embd_pdrop", 0.1))
        self.h = nn.ModuleList([GPT2Block(config, sizes.hidden_size, sizes.heads) for _ in range(sizes.layers)])
        self.ln_f = nn.LayerNorm(sizes.hidden_size, eps=config.get("layer_norm_epsilon", 1e-5))

    def word_embeddings(self) -> Any:
        return self.wte

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.drop(inputs_embeds + self.wpe(position_ids))

    def layer_modules(self) -> list[Any]:
        return list(self.h)

    def finish(self, hidden: Any) -> Any:
        return self.ln_f(hidden)
