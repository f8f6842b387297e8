"""The layers of a frozen backbone that a method leaves as they are, and what leaves them."""

import hashlib
import json
from typing import Any

from fastprompt.backbones.portable import PortableBackbone
from fastprompt.data.frozen import FrozenStates
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import backend, nn, ops, runtime
from fastprompt.methods.base import MethodConfig
from fastprompt.models.protocol import Model
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.geometry import geometry

import numpy

_VERSION = 1  # rises with what the numbers of a file depend on


def first_changed_layer(config: MethodConfig, checkpoint: Checkpoint) -> int:
    """The index of the first layer that changes with the method or gets an input of its own; that after the last where
    none does.

    Raises:
        ConfigError: it is the first of all, or a backbone of this family cannot start at another.
    """
    config, family = config.for_backbone(checkpoint), checkpoint.family
    if config.tunes_backbone:
        raise ConfigError(f"{config.described} trains the backbone, so that none of its layers stays as it is.")
    if family.encoder_decoder:
        raise ConfigError(
            f"{checkpoint.name} is a {checkpoint.model_type} model, an encoder-decoder, whose frozen layers cannot be "
            f"cached: take cache_frozen_layers off."
        )
    if family.portable is None:
        raise ConfigError(
            f"{checkpoint.name} is a {checkpoint.model_type} model, whose frozen layers cannot be cached: of it "
            f"fastprompt has transformers' own definition alone."
        )
    layer = config.first_changed_layer(geometry(checkpoint.config).layers)
    if layer == 0 and config.length_before + config.num_pseudo:
        raise ConfigError(f"The prompt of {config.method} stands in the input of the first layer, so that all change.")
    if layer == 0:
        raise ConfigError(
            f"{config.method} has a prefix in layer 0, before which nothing can be cached; choose later layers with "
            f"prefix_layers, such as last:2."
        )
    return layer


def layer_of(model: Model) -> int:
    """`first_changed_layer` of a model."""
    return first_changed_layer(model.method_config, model.checkpoint)


def source_of(model: Model) -> str:
    """What a model's frozen states are computed from, beside the texts, in few letters.

    Raises:
        ConfigError: it has none, or its backbone is transformers' own.
    """
    layer = layer_of(model)
    if not isinstance(model.backbone, PortableBackbone):
        raise ConfigError(
            "Frozen layers are cached of a portable backbone alone, and this model has transformers' own; load it with "
            "portable=True."
        )
    settings = {
        "version": _VERSION,
        "backbone": model.checkpoint.fingerprint,
        "layer": layer,
        "bf16": model.bf16,
        "position_shift": model.method_config.position_shift,
        "framework": [backend(), runtime.version()],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def own_states(model: Model, given: FrozenStates) -> Any:
    """The tensor of frozen states.

    Raises:
        DataError: they were computed of another backbone, to another layer, or under another framework.
    """
    if given.source != model.frozen_source:
        raise DataError(
            "The frozen states of this dataloader are of another backbone, layer, precision or framework than this "
            "model's; make them with it (fp.cache_frozen_layers)."
        )
    return given.states


def compute_states(model: Model, batch: dict[str, numpy.ndarray]) -> numpy.ndarray:
    """The states of a batch that enter the first changed layer, (tokens, hidden) in their order: of real tokens, and of
    padding where the model reads it.

    The model is in evaluation mode.
    """
    width = batch["input_ids"].shape[-1]
    rows = {
        name: model.tensor(array.reshape(-1, width))
        for name, array in batch.items()
        if name in ("input_ids", "attention_mask", "token_type_ids")
    }
    with ops.no_grad():
        inputs = model.backbone_inputs(**rows)
        inputs.pop("prefix", None)
        states = ops.to_numpy(model.backbone.frozen_states(layer_of(model), **inputs))
    if model.reads_padding:
        return states.reshape(-1, states.shape[-1])
    return states[batch["attention_mask"].reshape(-1, width).astype(bool)]


def device_kind(model: Model) -> str:
    """Where a model computes, "cpu" or "gpu": the GPUs of a run share a file."""
    return "cpu" if "cpu" in str(nn.device_of(model)).lower() else "gpu"
