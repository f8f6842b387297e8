"""What differs between model families, apart from their layers: names in checkpoints and in config.json."""

from dataclasses import dataclass
from typing import Any

from fastprompt.errors import CheckpointError


@dataclass(frozen=True)
class Family:
    """One Hugging Face model type.

    Args:
        prefix: what stands before the base model's names in a checkpoint with a head ("bert.").
        head: whose layout its tasks' heads have, a key in `models.heads.HEADS`.
        portable: module under `fastprompt.backbones` that defines it for paddle and jittor.
        positions_follow_padding: positions count real tokens only, from padding_idx + 1 on (RoBERTa).
        token_types: whether it takes token_type_ids.
        pooler_in_head: its pooler belongs to the classification head, not to the base model (DeBERTa).
        causal: a token sees those before it and none behind it.
        alibi: scores fall with distance, counted by the attention mask; it takes no position_ids (BLOOM).
        tied: whether its vocabulary head is tied to the word embeddings where config.json does not say.
        encoder_decoder: a decoder attends to the text that an encoder has read; its prefix may have three parts.
        distances: it knows no positions but only how far apart tokens stand, and so no last one (T5).
        scales_states: states are divided by the square root of their width before a tied vocabulary head, where
            config.json does not say (T5).
    """

    prefix: str
    head: str = "others"
    portable: str | None = None
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


_BERT = Family("bert", head="bert", portable="bert")
_ROBERTA = Family("roberta", head="roberta", portable="roberta", positions_follow_padding=True, token_types=False)
_DEBERTA = Family("deberta", head="deberta", pooler_in_head=True)
_LLAMA = Family("model", head="causal", portable="llama", token_types=False, causal=True, tied=False)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Family("distilbert", head="distilbert", portable="distilbert", token_types=False),
    "electra": Family("electra", head="electra", portable="electra"),
    "ernie": Family("ernie", head="bert", portable="ernie"),
    "albert": Family("albert", head="albert", portable="albert"),
    "modernbert": Family("model", head="modernbert", token_types=False),
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,  # and -v3
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gpt2": Family("transformer", head="causal", portable="gpt2", token_types=False, causal=True),
    "bloom": Family("transformer", head="causal", portable="bloom", token_types=False, causal=True, alibi=True),
    "mpnet": Family("mpnet", head="roberta", positions_follow_padding=True, token_types=False),
    "t5": Family("", token_types=False, encoder_decoder=True, distances=True, scales_states=True),
    "mt5": Family("", token_types=False, encoder_decoder=True, distances=True),
    "bart": Family("model", token_types=False, encoder_decoder=True),
}


def family_of(model_type: str) -> Family:
    """The family of a config.json's model_type; one that only torch knows has the common defaults."""
    return FAMILIES.get(model_type, Family(model_type.split("-")[0]))


def padding_id(config: dict[str, Any]) -> int | None:
    """The token id of padding, whose embedding is never trained; None where config.json says that there is none."""
    return config.get("pad_token_id", 1 if family_of(config["model_type"]).positions_follow_padding else 0)


@dataclass(frozen=True)
class Geometry:
    """The sizes a prompt is made for, whatever config.json calls them; of an encoder-decoder, its encoder's."""

    layers: int
    heads: int
    heads_kv: int
    head_dim: int
    hidden_size: int
    embedding_size: int
    max_positions: int | None
    initializer_range: float


def geometry(config: dict[str, Any]) -> Geometry:
    """Read the sizes out of a config.json."""

    def first(*names: str, default: Any = None) -> Any:
        for name in names:
            if config.get(name) is not None:
                return config[name]
        if default is None:
            raise CheckpointError(f"config.json of the {config['model_type']} model lacks {' or '.join(names)}.")
        return default

    hidden = first("hidden_size", "dim", "n_embd", "n_embed", "d_model")
    heads = first("num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads")
    family = family_of(config["model_type"])
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if positions and family.positions_follow_padding:
        positions -= padding_id(config) + 1
    return Geometry(
        # times ALBERT's inner layers
        layers=first("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
        * config.get("inner_group_num", 1),
        heads=heads,
        heads_kv=first("num_key_value_heads", default=heads),
        head_dim=first("head_dim", "d_kv", default=hidden // heads),
        hidden_size=hidden,
        embedding_size=first("embedding_size", default=hidden),
        max_positions=None if family.distances else positions,
        initializer_range=first("initializer_range", default=0.02),
    )


@dataclass(frozen=True)
class Layout:
    """What a family calls the head's parts.

    Args:
        dense, norm: the layer and the norm; bias: the vocabulary's.
        activation: its key in config.json; None where it is always gelu.
        eps: the norm's; None where config.json says it.
    """

    dense: str
    norm: str
    bias: str
    activation: str | None = None
    eps: float | None = None


# family, by its `Family.head` -> layout
LAYOUTS: dict[str, Layout] = {
    "bert": Layout(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        activation="hidden_act",
    ),
    "roberta": Layout("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": Layout(
        "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", activation="activation", eps=1e-12
    ),
    "electra": Layout("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "albert": Layout("predictions.dense", "predictions.LayerNorm", "predictions.bias", activation="hidden_act"),
}
