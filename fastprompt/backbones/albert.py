"""ALBERT (Lan et al., 2020, arXiv:1909.11942), portable, without its pooler: that belongs to the head.

Few layers are called many times: `num_hidden_layers` times a group of `inner_group_num` layers, the calls shared out
evenly over `num_hidden_groups` groups. Every call has a prefix of its own.
"""

from typing import Any

from fastprompt.backbones.bert import BertEmbeddings, BertSelfAttention
from fastprompt.backbones.cache import LayerCache
from fastprompt.backbones.portable import PortableBackbone, activation, read_of
from fastprompt.framework import nn

_DEFAULTS = {"hidden_act": "gelu_new", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # not BERT's


class AlbertAttention(BertSelfAttention):
    """BERT's, with projection, dropout, residual and normalisation in one module."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.dense = nn.Linear(config["hidden_size"], config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config.get("layer_norm_eps", 1e-12))
        self.output_dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(
        self,
        hidden: Any,
        mask: Any | None,
        prefix: tuple[Any, Any] | None,
        cache: LayerCache | None,
        read: int | None = None,
    ) -> Any:
        attended = self.dense(super().forward(hidden, mask, prefix, cache, read))
        return self.LayerNorm(read_of(hidden, read) + self.output_dropout(attended))


class AlbertLayer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.attention = AlbertAttention(config)
        self.ffn = nn.Linear(hidden, config["intermediate_size"])
        self.ffn_output = nn.Linear(config["intermediate_size"], hidden)
        self.activation = activation(config["hidden_act"])
        self.full_layer_layer_norm = nn.LayerNorm(hidden, eps=config.get("layer_norm_eps", 1e-12))

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
        return self.full_layer_layer_norm(self.ffn_output(self.activation(self.ffn(attended))) + attended)


class AlbertLayerGroup(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.albert_layers = nn.ModuleList([AlbertLayer(config) for _ in range(config.get("inner_group_num", 1))])


class AlbertTransformer(nn.Module):
    def __init__(self, config: dict[str, Any], embedding_size: int) -> None:
        super().__init__()
        self.embedding_hidden_mapping_in = nn.Linear(embedding_size, config["hidden_size"])
        groups = config.get("num_hidden_groups", 1)
        self.albert_layer_groups = nn.ModuleList([AlbertLayerGroup(config) for _ in range(groups)])


class Backbone(PortableBackbone):
    reads_one = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        config = {**_DEFAULTS, **config}
        self.embeddings = BertEmbeddings(config, self.geometry.embedding_size)
        self.encoder = AlbertTransformer(config, self.geometry.embedding_size)

    def word_embeddings(self) -> Any:
        return self.embeddings.word_embeddings

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        return self.encoder.embedding_hidden_mapping_in(self.embeddings(inputs_embeds, token_type_ids, position_ids))

    def layer_modules(self) -> list[Any]:
        groups, calls = list(self.encoder.albert_layer_groups), self.config["num_hidden_layers"]
        calls_of_a_group = calls / len(groups)  # a float, rounded as the stock model does
        chosen = [groups[int(index / calls_of_a_group)] for index in range(calls)]
        return [layer for group in chosen for layer in group.albert_layers]
