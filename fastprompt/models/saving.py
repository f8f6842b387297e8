"""Prompt files of a model: written, and put back in place."""

from pathlib import Path

from fastprompt.errors import CheckpointError
from fastprompt.framework import nn, ops
from fastprompt.models.protocol import Model
from fastprompt.models.trainable import named_tensors, stored_parameters
from fastprompt.saving.prompt_file import SavedPrompt, describe, write_saved

import numpy


def write_prompt(model: Model, directory: str | Path) -> None:
    """Write `model`'s tuned tensors and their description into `directory`."""
    tensors = {name: ops.to_numpy(p) for name, p in stored_parameters(model).items()}
    if model.prompt is not None:
        if not model.has_encoder:  # the weights are the prompt itself in another order
            tensors = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
        tensors.update(model.prompt.collapse())
    directory = Path(directory).expanduser()
    saved = describe(model.checkpoint, model.method_config, model.task, model.label_names, tensors, directory)
    saved.problem_type, saved.text_settings = model.problem_type, model.text_settings
    write_saved(saved, directory)


def load_tuned(model: Model, saved: SavedPrompt) -> None:
    """Put a saved prompt's tensors in place.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape, or the prompt has lost the encoder that
            this model's has.
    """
    stored = _weights(model, saved)
    targets = named_tensors(model)
    if missing := sorted(set(stored_parameters(model)) - set(stored)):
        raise CheckpointError(f"{saved.directory} lacks the tensor {missing[0]}; save the prompt again.")
    if unknown := sorted(set(stored) - set(targets)):
        raise CheckpointError(f"{saved.directory} has a tensor {unknown[0]} that this model has no place for.")
    for name, value in stored.items():
        if tuple(targets[name].shape) != value.shape:
            raise CheckpointError(
                f"{saved.directory}: {name} has the shape {value.shape}, the model {tuple(targets[name].shape)}."
            )
        nn.set_value(targets[name], value)
    model.text_settings = saved.text_settings


def _weights(model: Model, saved: SavedPrompt) -> dict[str, numpy.ndarray]:
    """A file's tensors by the names of the model's, the prompt's values as the weights that give them."""
    if saved.collapsed and model.has_encoder:
        raise CheckpointError(
            f"{saved.directory} holds a prompt without the encoder that this model makes its own with; "
            f"open it with from_pretrained."
        )
    names = model.method_config.prompt_tensors
    stored = {name: array for name, array in saved.tensors.items() if name not in names}
    if not names or model.has_encoder:
        return stored
    if missing := [name for name in names if name not in saved.tensors]:
        raise CheckpointError(f"{saved.directory} lacks the tensor {missing[0]}; save the prompt again.")
    rows = model.prompt.expand_from(saved.tensors)
    return stored | {f"prompt.{name}": value for name, value in rows.items()}
