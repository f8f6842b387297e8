"""BERT (Devlin et al., 2019, arXiv:1810.04805), portable, without its pooler: that belongs to the head."""

from typing import Any

from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PortableBackbone, activation, attend, read_of, split_heads
from fastprompt.framework import nn
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.geometry import padding_id


class BertEmbeddings(nn.Module):
    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        padding = padding_id(config)
        self.word_embeddings = nn.Embedding(config["vocab_size"], width, padding_idx=padding)
        follow = family_of(config["model_type"]).positions_follow_padding  # then padding has a position of its own
        self.position_embeddings = nn.Embedding(
            config["max_position_embeddings"], width, padding_idx=padding if follow else None
        )
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.get("layer_norm_eps", 1e-12))
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        if token_type_ids is None:
            token_type_ids = position_ids * 0
        embedded = inputs_embeds + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embedded))


class BertSelfAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.dropout_p = config.get("attention_probs_dropout_prob", 0.1)
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        cache: LayerCache | None,
        read: int | None = None,
    ) -> Any:
        query = split_heads(self.query(read_of(hidden, read)), self.heads)  # (B, heads, T or 1, head_dim)
        key = split_heads(self.key(hidden), self.heads)
        value = split_heads(self.value(hidden), self.heads)
        return attend(query, key, value, mask, prefix, cache, self.dropout_p, self.training)


class BertOutput(nn.Module):
    """Projection, dropout, residual and normalisation, after the attention and after the feed-forward part."""

    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config.get("layer_norm_eps", 1e-12))
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(self, inner: Any, residual: Any) -> Any:
        return self.LayerNorm(self.dropout(self.dense(inner)) + residual)


class BertAttention(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config, config["hidden_size"])

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        cache: LayerCache | None,
        read: int | None,
    ) -> Any:
        return self.output(self.self(hidden, mask, prefix, cache, read), read_of(hidden, read))


class BertIntermediate(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.activation = activation(config.get("hidden_act", "gelu"))

    def forward(self, hidden: Any) -> Any:
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    def __init__(self, config: dict[str, Any], attention: nn.Module | None = None) -> None:
        super().__init__()
        self.attention = BertAttention(config) if attention is None else attention
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config["intermediate_size"])

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
        return self.output(self.intermediate(attended), attended)


class RelativeLayer(BertLayer):
    """The same around an attention that reads something of the texts' distances too."""

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        key: Any | None,
        value: Any | None,
        distances: Any,
        cache: LayerCache | None = None,
    ) -> Any:
        attended = self.attention(hidden, mask, None if key is None else (key, value), distances, cache)
        return self.output(self.intermediate(attended), attended)


class BertEncoder(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.layer = nn.ModuleList([BertLayer(config) for _ in range(config["num_hidden_layers"])])


class Backbone(PortableBackbone):
    reads_one = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.embeddings = self.make_embeddings(config)
        self.encoder = BertEncoder(config)

    def make_embeddings(self, config: dict[str, Any]) -> BertEmbeddings:
        return BertEmbeddings(config, config["hidden_size"])

    def word_embeddings(self) -> Any:
        return self.embeddings.word_embeddings

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.embeddings(inputs_embeds, token_type_ids, position_ids)

    def layer_modules(self) -> list[Any]:
        return list(self.encoder.layer)
