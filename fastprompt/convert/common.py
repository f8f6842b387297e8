"""What converters share: taking apart another tool's tensors and settings, refused by name where they do not fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.checks import numbered_labels
from fastprompt.pretrained.checkpoint import Checkpoint, first_file
from fastprompt.pretrained.geometry import geometry
from fastprompt.pretrained.tensor_files import read_tensors
from fastprompt.saving.prompt_file import SavedPrompt

import numpy

# Heads that every family has in one layer of this name.
_ONE_LAYER = {"token_classification": "classifier", "question_answering": "qa_outputs"}
SPAN = ["start", "end"]  # what the outputs of question answering stand for


def setting(settings: Mapping[str, Any], name: str, path: Path) -> Any:
    """A key of a JSON file that must be there."""
    if settings.get(name) is None:
        raise CheckpointError(f"{path} lacks the key {name!r}; is it whole?")
    return settings[name]


def make_config(kind: type[MethodConfig], path: Path, **options: Any) -> Any:
    """A method's configuration out of the JSON file `path`."""
    try:
        return kind(**options)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} holds what no prompt can have: {error}") from error


def check_sizes(settings: Mapping[str, Any], sizes: Mapping[str, int], checkpoint: Checkpoint, path: Path) -> None:
    """Refuse a backbone of other sizes than a tool's JSON file names."""
    for name, size in sizes.items():
        if settings.get(name) not in (None, size):
            raise CheckpointError(
                f"{path} is for {name}={settings[name]}, {checkpoint.name} has {size}: another backbone."
            )


def read_weights(source: Path, *names: str) -> tuple[Path, dict[str, numpy.ndarray]]:
    """The first of these files that `source` has, and its tensors.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path = first_file(source, names)
    if path is None:
        raise CheckpointError(f"{source} has neither {' nor '.join(names)}.")
    return path, read_tensors(path)


def take(tensors: dict[str, numpy.ndarray], name: str, shape: tuple[int, ...], path: Path) -> numpy.ndarray:
    """Remove a tensor of that shape from `tensors`, in float32."""
    if name not in tensors:
        raise CheckpointError(f"{path} lacks the tensor {name}.")
    array = tensors.pop(name)
    if array.shape != shape:
        raise CheckpointError(f"{path}: {name} has the shape {array.shape}, this backbone asks for {shape}.")
    return array.astype("float32")


def prefix_sizes(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """(layers, heads_kv, head_dim) of the backbone's deep prefix."""
    sizes = geometry(checkpoint.config)
    return sizes.layers, sizes.heads_kv, sizes.head_dim


def label_names(checkpoint: Checkpoint, count: int, settings: Mapping[str, Any] | None = None) -> list[str]:
    """The names in a config.json's id2label where it has `count` of them, else LABEL_0 and so on."""
    for config in (settings or {}, checkpoint.config):
        names = config.get("id2label") or {}
        if len(names) == count and set(names) == {str(index) for index in range(count)}:
            return [names[str(index)] for index in range(count)]
    return numbered_labels(count)


def _head_names(checkpoint: Checkpoint, task: str, path: Path) -> list[str]:
    """The tensors of the family's head for a task but a pooler's, in order."""
    layers = checkpoint.family.heads.layers
    if not layers:
        raise CheckpointError(f"{path}: the {task} head of {checkpoint.model_type} cannot be converted yet.")
    if task in _ONE_LAYER:
        layers = (_ONE_LAYER[task],)
    return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def _own_head(checkpoint: Checkpoint, names: list[str]) -> dict[str, numpy.ndarray]:
    """What the backbone's checkpoint has of a head."""
    own = checkpoint.tensors(only={*names, *(f"head:{name}" for name in names)})
    return {name.removeprefix("head:"): array for name, array in own.items()}


def whole_head(saved: SavedPrompt, checkpoint: Checkpoint) -> dict[str, numpy.ndarray]:
    """A prompt's head; a frozen one that its file leaves out is the backbone's own."""
    names = _head_names(checkpoint, saved.task, saved.directory)
    found = _own_head(checkpoint, names) | {name: saved.tensors[name] for name in names if name in saved.tensors}
    if missing := [name for name in names if name not in found]:
        raise CheckpointError(f"{saved.directory} lacks the head's tensor {missing[0]}, and so does {checkpoint.name}.")
    return found


def take_head(
    tensors: dict[str, numpy.ndarray], checkpoint: Checkpoint, task: str, path: Path
) -> dict[str, numpy.ndarray]:
    """Remove the family's head for a task from `tensors`; what is not there is the backbone's own.

    Raises:
        CheckpointError: neither has it, its shape does not fit, or the family's head is not known here.
    """
    names = _head_names(checkpoint, task, path)
    own = _own_head(checkpoint, names)
    last = names[-2]
    classes = tensors[last].shape[0] if last in tensors and tensors[last].ndim == 2 else 0
    if task == "question_answering":
        classes = len(SPAN)
    hidden = geometry(checkpoint.config).hidden_size
    head = {}
    for name in names:
        rows = classes if name in names[-2:] else hidden
        if name not in tensors and name in own:
            tensors[name] = own[name]
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the head's tensor {name}, and so does {checkpoint.name}.")
        head[name] = take(tensors, name, (rows, hidden) if name.endswith("weight") else (rows,), path)
    return head


def classes_of(head: dict[str, numpy.ndarray]) -> int:
    return len(list(head.values())[-1])


def unsupported(saved: SavedPrompt, tool: str, what: str) -> CheckpointError:
    """The error for what the other tool cannot express."""
    return CheckpointError(f"{saved.directory} cannot be written for {tool}, which has no {what}.")
