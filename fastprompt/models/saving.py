"""Prompt files of a model: written, and put back in place."""

import tempfile
from pathlib import Path
from typing import Any

from fastprompt.errors import BackendError, CheckpointError
from fastprompt.framework import backend, driver_module, frameworks_with, has, nn, ops
from fastprompt.models.card import write_card
from fastprompt.models.protocol import Model
from fastprompt.models.sharing import push_to_hub
from fastprompt.models.trainable import named_tensors, stored_parameters
from fastprompt.saving.prompt_file import SavedPrompt, describe, write_saved

import numpy


def write_prompt(model: Model, directory: str | Path) -> None:
    """Write `model`'s tuned tensors, their description and a model card into `directory`."""
    tensors = {name: ops.to_numpy(p) for name, p in stored_parameters(model).items()}
    if model.prompt is not None:
        if not model.has_encoder:  # the weights are the prompt itself in another order
            tensors = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
        tensors.update(model.prompt.collapse())
    directory = Path(directory).expanduser()
    saved = describe(model.checkpoint, model.method_config, model.task, model.label_names, tensors, directory)
    saved.problem_type, saved.text_settings = model.problem_type, model.text_settings
    write_saved(saved, directory)
    write_card(saved, directory, {})


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


def push(model: Model, repo_id: str, **options: Any) -> str:
    """Upload a model's prompt; see `push_to_hub` for the options and the result."""
    with tempfile.TemporaryDirectory() as folder:
        write_prompt(model, folder)
        return push_to_hub(folder, repo_id, **options)


def export(model: Model, path: str | Path, overwrite: bool) -> None:
    """Write a model as ONNX, where this process's framework can.

    Raises:
        BackendError: it cannot, or the exporter's packages are missing.
    """
    if not has("export"):
        other = frameworks_with("export")[0]
        raise BackendError(
            f"export runs on {other}, this process on {backend()}: save the prompt, start again with "
            f"FASTNLP_BACKEND={other}, and load the same folder there."
        )
    driver_module("export").export(model, path, overwrite)
