"""The sizes of a model, read out of its config.json whatever its family calls them."""

from dataclasses import dataclass
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.pretrained.families import family_of


def padding_id(config: dict[str, Any]) -> int | None:
    """The token id of padding, whose embedding is never trained; None where config.json says that there is none."""
    return config.get("pad_token_id", 1 if family_of(config["model_type"]).positions_follow_padding else 0)


def reads_token_types(config: dict[str, Any]) -> bool:
    """Whether a model has embeddings of token types; DeBERTa may have none."""
    return family_of(config["model_type"]).token_types and config.get("type_vocab_size") != 0


@dataclass(frozen=True)
class Geometry:
    """The sizes a prompt is made for, whatever config.json calls them; of an encoder-decoder, its encoder's.

    Attributes:
        decoder_layers: of an encoder-decoder, its decoder's number of layers.
    """

    layers: int
    decoder_layers: int
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
    layers = first("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
    return Geometry(
        layers=layers * config.get("inner_group_num", 1),  # ALBERT's
        decoder_layers=first("num_decoder_layers", "decoder_layers", default=layers),
        heads=heads,
        heads_kv=first("num_key_value_heads", default=heads),
        head_dim=first("head_dim", "d_kv", default=hidden // heads),
        hidden_size=hidden,
        embedding_size=first("embedding_size", default=hidden),
        max_positions=None if family.distances else positions,
        initializer_range=first("initializer_range", default=0.02),
    )
