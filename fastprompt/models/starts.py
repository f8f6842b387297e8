"""A new prompt that starts with a saved one of the same backbone: transfer from another task (SPoT: Vu et al., 2022,
arXiv:2110.07904).

The prompt's values are taken, or its encoder's where the method has one; the head where task and labels are the same;
and the backbone where both train it.
"""

from pathlib import Path

from fastprompt.errors import ConfigError
from fastprompt.framework import nn
from fastprompt.methods.base import MethodConfig
from fastprompt.models.protocol import Model
from fastprompt.models.trainable import head_name, named_tensors
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving.prompt_file import SavedPrompt, read_prompt

import numpy

_OTHER_STARTS = ("text", "zero")  # values of a configuration's init that are no default


def check_new(saved: SavedPrompt, init_prompt: str | Path | None) -> None:
    """Raises: ConfigError: a saved prompt is to start with another."""
    if init_prompt is not None:
        raise ConfigError(f"{saved.directory} is a saved prompt and starts as it is; leave init_prompt off.")


def read_start(directory: str | Path, config: MethodConfig, checkpoint: Checkpoint) -> SavedPrompt:
    """The saved prompt that a new one of `config` on `checkpoint` is to start with.

    Raises:
        CheckpointError: there is none, or it is of another backbone.
        ConfigError: it cannot be this method's start.
    """
    saved = read_prompt(directory)
    saved.check_backbone(checkpoint)
    own, theirs = config.for_backbone(checkpoint), saved.config
    if not own.has_prompt:
        raise ConfigError(f"{own.method} has no prompt that could start with init_prompt; leave it off.")
    if not theirs.has_prompt:
        raise ConfigError(f"init_prompt {directory} is {theirs.method} and holds no prompt to start with.")
    if (init := getattr(own, "init", None)) in _OTHER_STARTS:
        raise ConfigError(f"init_prompt and init={init!r} are two starts; give one.")
    if theirs.tunes_backbone and not own.tunes_backbone:
        raise ConfigError(
            f"init_prompt {directory} was tuned together with its backbone; start with it under use_lm_finetune, or "
            f"choose one whose backbone was frozen."
        )
    if own.prompt_tensors != theirs.prompt_tensors:
        raise ConfigError(
            f"init_prompt {directory} ({theirs.method}) holds {_listed(theirs.prompt_tensors)}, and {own.method} has "
            f"{_listed(own.prompt_tensors)}; choose a prompt of the same form."
        )
    for name in ("prefix_layers", "shift_positions"):
        wanted, found = getattr(own, name, None), getattr(theirs, name, None)
        if wanted != found:
            raise ConfigError(f"init_prompt {directory} has {name} {found}, this prompt {wanted}; give it the same.")
    return saved


def takes_head(model: Model, saved: SavedPrompt) -> bool:
    """Whether the head of `saved` is of the same outputs as the model's."""
    theirs = (saved.task, saved.label_names, saved.problem_type)
    return theirs == (model.task, model.label_names, model.problem_type)


def start_from(model: Model, saved: SavedPrompt) -> None:
    """Give a new model the values of `saved`, which `read_start` has read.

    Raises:
        ConfigError: it has another length, or another encoder than the model's.
    """
    targets, values = named_tensors(model), _prompt_values(model, saved)
    taken = {model.backbone.family.whole_name(name) for name in model.backbone.stock_parameters()}
    if takes_head(model, saved):
        taken |= {head_name(model, name) for name in nn.named_parameters(model.head)}
    values |= {name: array for name, array in saved.tensors.items() if name in taken}
    for name, array in values.items():
        nn.set_value(targets[name], array)


def _prompt_values(model: Model, saved: SavedPrompt) -> dict[str, numpy.ndarray]:
    """The weights of the model's prompt, by the names of `named_tensors`."""
    for name, array in model.prompt.collapse().items():
        wanted, found = array.shape[-2], saved.tensors[name].shape[-2]  # (..., length, width)
        if wanted != found:
            raise ConfigError(
                f"init_prompt {saved.directory} has {found} positions, this prompt {wanted}; give it the same length."
            )
    if not model.has_encoder:
        return {f"prompt.{name}": array for name, array in model.prompt.expand_from(saved.tensors).items()}
    wanted = {f"prompt.{name}": tuple(p.shape) for name, p in nn.named_parameters(model.prompt).items()}
    found = {name: array.shape for name, array in saved.tensors.items() if name.startswith("prompt.")}
    if not found:
        raise ConfigError(
            f"init_prompt {saved.directory} has no encoder, and a network makes this prompt; take one that has one."
        )
    if wanted != found:
        raise ConfigError(
            f"init_prompt {saved.directory} has another encoder than the one that makes this prompt; take the same "
            f"method and sizes."
        )
    return {name: saved.tensors[name] for name in wanted}


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)
