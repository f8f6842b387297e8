"""Heads over pooled hidden states, laid out per family and named as transformers lays them out and names them."""

from collections.abc import Callable
from typing import Any

from fastprompt.backbones.portable import activation
from fastprompt.framework import nn, ops


def classifier_dropout(config: dict[str, Any], *names: str) -> float:
    """The head's dropout rate: the first of `names` that config.json sets."""
    for name in (*names, "hidden_dropout_prob"):
        if config.get(name) is not None:
            return config[name]
    return 0.1


class Pooler(nn.Module):
    """BERT's pooler, pretrained with next-sentence prediction."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, x: Any) -> Any:
        return ops.tanh(self.dense(x))


class LinearHead(nn.Module):
    """Dropout and one layer: families without a layout of their own."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(classifier_dropout(config, "classifier_dropout"))
        self.classifier = nn.Linear(hidden, num_labels)

    def forward(self, pooled: Any) -> Any:
        return self.classifier(self.dropout(pooled))


class PooledHead(LinearHead):
    """BERT, ERNIE: the base model's pooler, then dropout and one layer."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
        self.pooler = Pooler(hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(self.pooler(pooled))


class AlbertHead(LinearHead):
    """ALBERT: as BERT, its pooler being a bare layer; the rate is classifier_dropout_prob."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__({**config, "classifier_dropout": config.get("classifier_dropout_prob")}, hidden, num_labels)
        self.pooler = nn.Linear(hidden, hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(ops.tanh(self.pooler(pooled)))


class ContextPooler(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.get("pooler_dropout", 0.0))
        self.dense = nn.Linear(hidden, hidden)
        self.activation = activation(config.get("pooler_hidden_act", "gelu"))

    def forward(self, x: Any) -> Any:
        return self.activation(self.dense(self.dropout(x)))


class DebertaHead(LinearHead):
    """DeBERTa: a pooler that is the head's own, dropout, classifier."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__({**config, "classifier_dropout": config.get("cls_dropout")}, hidden, num_labels)
        self.pooler = ContextPooler(config, hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(self.pooler(pooled))


class DenseClassifier(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int, activation: Callable) -> None:
        super().__init__()
        self.dropout = nn.Dropout(classifier_dropout(config, "classifier_dropout"))
        self.dense = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, num_labels)
        self.activation = activation

    def forward(self, pooled: Any) -> Any:
        return self.out_proj(self.dropout(self.activation(self.dense(self.dropout(pooled)))))


class DenseTanhHead(nn.Module):
    """RoBERTa, XLM-R, MPNet: dense, tanh, out_proj."""

    activation = staticmethod(ops.tanh)

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.classifier = DenseClassifier(config, hidden, num_labels, self.activation)

    def forward(self, pooled: Any) -> Any:
        return self.classifier(pooled)


class DenseGeluHead(DenseTanhHead):
    """ELECTRA: dense, gelu, out_proj."""

    activation = staticmethod(ops.gelu)


class DistilBertHead(nn.Module):
    """DistilBERT: pre_classifier, relu, dropout, classifier."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(classifier_dropout(config, "seq_classif_dropout"))
        self.pre_classifier = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, num_labels)

    def forward(self, pooled: Any) -> Any:
        return self.classifier(self.dropout(ops.relu(self.pre_classifier(pooled))))


class PredictionHead(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden, bias=config.get("classifier_bias", False))
        self.norm = nn.LayerNorm(hidden, eps=config.get("norm_eps", 1e-5), bias=config.get("norm_bias", False))

    def forward(self, pooled: Any) -> Any:
        return self.norm(ops.gelu(self.dense(pooled)))


class ModernBertHead(LinearHead):
    """ModernBERT: dense, gelu, norm, dropout, classifier."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__({"classifier_dropout": 0.0, **config}, hidden, num_labels)
        self.head = PredictionHead(config, hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(self.head(pooled))


LAYOUTS: dict[str, type[nn.Module]] = {
    "linear": LinearHead,
    "pooled": PooledHead,
    "albert": AlbertHead,
    "dense_tanh": DenseTanhHead,
    "dense_gelu": DenseGeluHead,
    "distilbert": DistilBertHead,
    "modernbert": ModernBertHead,
    "deberta": DebertaHead,
}
