"""The record of a model family: what differs between families apart from their layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heads:
    """A family's task heads.

    Args:
        sequence_classification, token_classification, question_answering, multiple_choice: the class under
            `fastprompt.models.heads` that lays the task's head out as transformers does.
        layers: the classification head's layers in a checkpoint, in order, without a pooler; the last one's rows are
            the classes. Empty: prompts of other tools on this family cannot be converted.
        pooler: the base model's layer that the classification head reads through, where it has one.
    """

    sequence_classification: str = "LinearHead"
    token_classification: str = "LinearHead"
    question_answering: str = "SpanHead"
    multiple_choice: str = "LinearHead"
    layers: tuple[str, ...] = ()
    pooler: str | None = None


@dataclass(frozen=True)
class MaskedLMLayout:
    """Names of a masked language model's head in a checkpoint.

    Args:
        dense, norm: its layer and its norm; bias: the vocabulary's.
        activation: the key of its activation in config.json; None where it is always gelu.
        eps: the key of the norm's epsilon in config.json, or the number that is fixed in the stock model.
        biases: part -> the key in config.json that says whether it is there, and what holds without the key: "dense"
            and "norm" for the biases of those two, "bias" for the vocabulary's. What is not named is always there.
        newer: the layout of a checkpoint that holds it, or whose config.json says "legacy": false. In DeBERTa's
            lies the head of its published checkpoints, which transformers reads with that setting alone.
    """

    dense: str
    norm: str
    bias: str
    activation: str | None = None
    eps: str | float = "layer_norm_eps"
    biases: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    newer: "MaskedLMLayout | None" = None

    def has_bias(self, part: str, config: Mapping[str, Any]) -> bool:
        """Whether the head that a config.json describes has the bias of "dense", of "norm", or the vocabulary's."""
        return config.get(*self.biases[part]) if part in self.biases else True


@dataclass(frozen=True)
class Family:
    """One Hugging Face model type.

    Args:
        prefix: what stands before the base model's names in a checkpoint with a head ("bert.").
        heads: its task heads.
        masked_lm: its masked language model's head; None where fastprompt does not know it, or it has none.
        portable: the module under `fastprompt.backbones` that defines it for every framework; None: torch alone has it.
        hidden_dropout, attention_dropout: keys in config.json of the dropout rates of hidden states (the heads' among
            them) and of attention probabilities; no key for the latter where one rate is for both.
        positions_follow_padding: positions count real tokens only, from padding_idx + 1 on (RoBERTa).
        token_types: whether it takes token_type_ids.
        pooler_in_head: its pooler belongs to the classification head, not to the base model (DeBERTa).
        causal: a token attends to itself and those before it only.
        alibi: scores fall with distance, counted by the attention mask; it takes no position_ids (BLOOM).
        tied: whether its vocabulary head is tied to the word embeddings where config.json does not say.
        encoder_decoder: a decoder attends to the text that an encoder has read; its prefix may have three parts.
        distances: it has no absolute positions, only distances between tokens, and so no last position (T5).
        scales_states: states are divided by the square root of their width before a tied vocabulary head, where
            config.json does not say (T5).
    """

    prefix: str
    heads: Heads = field(default_factory=Heads)
    masked_lm: MaskedLMLayout | None = None
    portable: str | None = None
    hidden_dropout: tuple[str, ...] = ("hidden_dropout_prob", "classifier_dropout")
    attention_dropout: tuple[str, ...] = ("attention_probs_dropout_prob",)
    positions_follow_padding: bool = False
    token_types: bool = True
    pooler_in_head: bool = False
    causal: bool = False
    alibi: bool = False
    tied: bool = True
    encoder_decoder: bool = False
    distances: bool = False
    scales_states: bool = False

    def whole_name(self, name: str) -> str:
        """What a base model's tensor is called in a checkpoint with a head."""
        return f"{self.prefix}.{name}" if self.prefix else name
