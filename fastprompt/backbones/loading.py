"""A checkpoint -> the backbone of this process's framework, its weights in place."""

import importlib
from typing import Any

from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import backend, driver_module, frameworks_with, has, nn
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.families import FAMILIES


def load_backbone(
    checkpoint: Checkpoint,
    *,
    portable: bool = False,
    hidden_dropout_prob: float | None = None,
    attention_probs_dropout_prob: float | None = None,
) -> Any:
    """The backbone of `checkpoint`: the stock model on torch unless `portable`, the portable definition elsewhere.

    Args:
        hidden_dropout_prob: replaces the checkpoint's rate for hidden states.
        attention_probs_dropout_prob: replaces its rate for attention probabilities.

    Raises:
        CheckpointError: the family has no portable definition, or its weights are missing, cut or of other shapes.
        ConfigError: the family has one rate for both.
    """
    config, family = dict(checkpoint.config), checkpoint.family
    if attention_probs_dropout_prob is not None and not family.attention_dropout:
        raise ConfigError(
            f"{checkpoint.model_type} has one dropout rate for hidden states and attention; "
            f"leave attention_probs_dropout_prob off."
        )
    known = checkpoint.model_type in FAMILIES  # of another the record's names are guesses
    rates = ((family.hidden_dropout, hidden_dropout_prob), (family.attention_dropout, attention_probs_dropout_prob))
    for names, rate in rates:
        if rate is not None:
            config.update({name: rate for name in names if known or name in config or name == names[0]})
    if has("stock") and not portable:
        return driver_module("stock").load_backbone(checkpoint, config)
    return _load_portable(checkpoint, config)


def _load_portable(checkpoint: Checkpoint, config: dict[str, Any]) -> Any:
    if checkpoint.family.portable is None:
        known = ", ".join(sorted(name for name, family in FAMILIES.items() if family.portable))
        stock = " and ".join(frameworks_with("stock"))
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.model_type} model, which runs on {stock} only; "
            f"on {backend()} there are {known}."
        )
    module = importlib.import_module(f"fastprompt.backbones.{checkpoint.family.portable}")
    try:
        backbone = module.Backbone(config)
    except KeyError as error:
        raise CheckpointError(f"config.json of {checkpoint.name} lacks {error}; fetch it again.") from error
    missing = backbone.stock_parameters()
    for name, value in checkpoint.read(only=missing):
        parameter = missing.pop(name)
        expected, found = tuple(parameter.shape), value.shape
        if expected != found:
            raise CheckpointError(f"{checkpoint.name}: {name} has the shape {found}, config.json asks for {expected}.")
        nn.set_value(parameter, value.astype("float32"))
    if missing:
        name = next(iter(missing))
        raise CheckpointError(f"{checkpoint.name} lacks the tensor {name}; is it a {checkpoint.model_type} model?")
    return backbone
