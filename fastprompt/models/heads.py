"""Heads, laid out per task and family and named as transformers lays them out and names them.

A head of sequence classification and multiple choice gets pooled states (B, hidden), one of token classification and
question answering every token's (B, T, hidden).
"""

from collections.abc import Callable
from typing import Any

from fastprompt.backbones.portable import activation
from fastprompt.framework import nn, ops
from fastprompt.pretrained.families import family_of


def dropout_rate(config: dict[str, Any], name: str) -> float:
    """The head's dropout rate: what config.json says under `name`, or else of hidden states."""
    for key in (name, "hidden_dropout_prob"):
        if config.get(key) is not None:
            return config[key]
    return 0.1


class Pooler(nn.Module):
    """BERT's pooler, pretrained with next-sentence prediction."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, x: Any) -> Any:
        return ops.tanh(self.dense(x))


class LinearHead(nn.Module):
    """Dropout and one layer: most families' for tokens, and families without a layout of their own."""

    rate_name = "classifier_dropout"  # in config.json

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout_rate(config, self.rate_name))
        self.classifier = nn.Linear(hidden, num_labels)

    def forward(self, states: Any) -> Any:
        return self.classifier(self.dropout(states))


class ScoreHead(nn.Module):
    """Causal models: one layer without a bias."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, num_labels, bias=False)

    def forward(self, pooled: Any) -> Any:
        return self.score(pooled)


class PooledHead(LinearHead):
    """BERT, ERNIE: the base model's pooler, then dropout and one layer."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
        self.pooler = Pooler(hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(self.pooler(pooled))


class RobertaChoiceHead(PooledHead):
    """RoBERTa, XLM-R, MPNet, multiple choice: as BERT, with the rate of hidden states."""

    rate_name = "hidden_dropout_prob"


class AlbertTokenHead(LinearHead):
    """ALBERT, tokens: dropout and one layer."""

    rate_name = "classifier_dropout_prob"


class AlbertHead(AlbertTokenHead):
    """ALBERT: as BERT, its pooler being a bare layer."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
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

    rate_name = "cls_dropout"

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
        self.pooler = ContextPooler(config, hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(self.pooler(pooled))


class DenseClassifier(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int, activation: Callable) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout_rate(config, "classifier_dropout"))
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


class SummaryHead(nn.Module):
    """ELECTRA, multiple choice: the summary of its published checkpoints (a layer, gelu, dropout), classifier."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.sequence_summary = SequenceSummary(config, hidden)
        self.classifier = nn.Linear(hidden, num_labels)

    def forward(self, pooled: Any) -> Any:
        return self.classifier(self.sequence_summary(pooled))


class SequenceSummary(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int) -> None:
        super().__init__()
        self.summary = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout_rate(config, "summary_last_dropout"))

    def forward(self, pooled: Any) -> Any:
        return self.dropout(ops.gelu(self.summary(pooled)))


class DistilBertTokenHead(LinearHead):
    """DistilBERT, tokens: dropout and one layer."""

    rate_name = "dropout"


class DistilBertHead(LinearHead):
    """DistilBERT: pre_classifier, relu, dropout, classifier."""

    rate_name = "seq_classif_dropout"

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
        self.pre_classifier = nn.Linear(hidden, hidden)

    def forward(self, pooled: Any) -> Any:
        return super().forward(ops.relu(self.pre_classifier(pooled)))


class PredictionHead(nn.Module):
    def __init__(self, config: dict[str, Any], hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden, bias=config.get("classifier_bias", False))
        self.norm = nn.LayerNorm(hidden, eps=config.get("norm_eps", 1e-5), bias=config.get("norm_bias", False))
        self.activation = activation(config.get("classifier_activation", "gelu"))

    def forward(self, states: Any) -> Any:
        return self.norm(self.activation(self.dense(states)))


class ModernBertHead(LinearHead):
    """ModernBERT, every task: dense, activation, norm, dropout, classifier."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__({"classifier_dropout": 0.0, **config}, hidden, num_labels)
        self.head = PredictionHead(config, hidden)

    def forward(self, states: Any) -> Any:
        return super().forward(self.head(states))


class SpanHead(nn.Module):
    """Question answering: one layer, of which each token gets its logits as an answer's start and end."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__()
        self.qa_outputs = nn.Linear(hidden, num_labels)

    def forward(self, states: Any) -> Any:
        return self.qa_outputs(states)


class DistilBertSpanHead(SpanHead):
    """DistilBERT, question answering: dropout before it."""

    def __init__(self, config: dict[str, Any], hidden: int, num_labels: int) -> None:
        super().__init__(config, hidden, num_labels)
        self.dropout = nn.Dropout(dropout_rate(config, "qa_dropout"))

    def forward(self, states: Any) -> Any:
        return super().forward(self.dropout(states))


HEADS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(LinearHead, PooledHead, ScoreHead, SpanHead),
        *(DenseTanhHead, RobertaChoiceHead),
        *(DistilBertHead, DistilBertTokenHead, DistilBertSpanHead),
        *(DenseGeluHead, SummaryHead),
        *(AlbertHead, AlbertTokenHead),
        *(DebertaHead, ModernBertHead),
    )
}


def make_head(task: str, config: dict[str, Any], hidden: int, num_labels: int) -> nn.Module:
    """The head that a family's record names for a task.

    Args:
        task: a field of `fastprompt.pretrained.family.Heads`.
        config: the backbone's config.json, for its family and dropout rates.
    """
    return HEADS[getattr(family_of(config["model_type"]).heads, task)](config, hidden, num_labels)
