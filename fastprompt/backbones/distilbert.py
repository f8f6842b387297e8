"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108), portable."""

from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PortableBackbone, activation, attend, read_of, split_heads
from fastprompt.framework import nn
from fastprompt.pretrained.geometry import padding_id

_EPS = 1e-12  # fixed in the stock model


class Embeddings(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config["vocab_size"], config["dim"], padding_idx=padding_id(config))
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], config["dim"])
        self.LayerNorm = nn.LayerNorm(config["dim"], eps=_EPS)
        self.dropout = nn.Dropout(config.get("dropout", 0.1))

    def forward(self, inputs_embeds: Any, position_ids: Any) -> Any:
        return self.dropout(self.LayerNorm(inputs_embeds + self.position_embeddings(position_ids)))


class SelfAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.heads = config["n_heads"]
        self.dropout_p = config.get("attention_dropout", 0.1)
        self.q_lin = nn.Linear(config["dim"], config["dim"])
        self.k_lin = nn.Linear(config["dim"], config["dim"])
        self.v_lin = nn.Linear(config["dim"], config["dim"])
        self.out_lin = nn.Linear(config["dim"], config["dim"])

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        cache: LayerCache | None,
        read: int | None,
    ) -> Any:
        query = split_heads(self.q_lin(read_of(hidden, read)), self.heads)  # (B, heads, T or 1, head_dim)
        key = split_heads(self.k_lin(hidden), self.heads)
        value = split_heads(self.v_lin(hidden), self.heads)
        return self.out_lin(attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training))


class FeedForward(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(config["dim"], config["hidden_dim"])
        self.lin2 = nn.Linear(config["hidden_dim"], config["dim"])
        self.activation = activation(config.get("activation", "gelu"))
        self.dropout = nn.Dropout(config.get("dropout", 0.1))

    def forward(self, hidden: Any) -> Any:
        return self.dropout(self.lin2(self.activation(self.lin1(hidden))))


class TransformerBlock(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.sa_layer_norm = nn.LayerNorm(config["dim"], eps=_EPS)
        self.ffn = FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config["dim"], eps=_EPS)

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        key: Any | None,
        value: Any | None,
        cache: LayerCache | None = None,
        read: int | None = None,
    ) -> Any:
        attended = self.attention(hidden, mask, None if key is None else (key, value), cache, read)
        attended = self.sa_layer_norm(attended + read_of(hidden, read))
        return self.output_layer_norm(self.ffn(attended) + attended)


class Transformer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.layer = nn.ModuleList([TransformerBlock(config) for _ in range(config["n_layers"])])


class Backbone(PortableBackbone):
    reads_one = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)

    def word_embeddings(self) -> Any:
        return self.embeddings.word_embeddings

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.embeddings(inputs_embeds, position_ids)

    def layer_modules(self) -> list[Any]:
        return list(self.transformer.layer)
