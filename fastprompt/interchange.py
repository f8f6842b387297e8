"""The prompt file, one for all frameworks: prompt_config.json beside prompt.safetensors.

It holds what was tuned and not the backbone: `key` and `value` [layers, heads_kv, pre_seq_len, head_dim] of a deep
prefix or `embedding` [length, embedding_size] of a shallow prompt, the head under its Hugging Face names, what an
encoder needs to go on training ("prompt.trans.0.weight"), and tuned backbone tensors of a yardstick.
"""

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastprompt.backbones.checkpoint import Checkpoint, open_safetensors, read_json
from fastprompt.config import METHODS, MethodConfig
from fastprompt.errors import CheckpointError

import numpy
from safetensors import SafetensorError
from safetensors.numpy import save

if TYPE_CHECKING:
    from fastprompt.models.base import PromptModel

CONFIG_FILE = "prompt_config.json"
TENSOR_FILE = "prompt.safetensors"
FORMAT_VERSION = 1


@dataclass
class SavedPrompt:
    """A prompt read from its folder, not yet in a model."""

    directory: Path
    config: MethodConfig
    task: str
    num_labels: int
    label_names: list[str]
    backbone_name: str
    fingerprint: str
    tensors: dict[str, numpy.ndarray]
    problem_type: str | None = None

    def check_task(self, task: str) -> None:
        if self.task != task:
            raise CheckpointError(
                f"{self.directory} was tuned for {self.task}, not for {task}; fp.load_prompt_model opens it as it is."
            )

    def check_backbone(self, checkpoint: Checkpoint) -> None:
        """Refuse weights other than those the prompt was tuned on."""
        if checkpoint.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{self.directory} was tuned on {self.backbone_name}, whose weights are not {checkpoint.name}'s; "
                f"name its backbone's folder (backbone=, --backbone DIR)."
            )


def is_prompt(directory: str | Path) -> bool:
    return (Path(directory).expanduser() / CONFIG_FILE).is_file()


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_FILE
    if not is_prompt(directory):
        raise CheckpointError(f"{directory} holds no prompt ({CONFIG_FILE}); model.save_pretrained(folder) writes one.")
    content = read_json(path)
    if content.get("format_version", 0) > FORMAT_VERSION:
        raise CheckpointError(f"{path} has format {content['format_version']}; update fastprompt to read it.")
    return content


def saved_task(directory: str | Path) -> str:
    """What the prompt in `directory` was tuned for; its tensors are not read.

    Raises:
        CheckpointError: there is no prompt, or its JSON is cut or names no task.
    """
    directory = Path(directory).expanduser()
    content = _read_config(directory)
    if "task" not in content:
        raise CheckpointError(f"{directory / CONFIG_FILE} lacks the key 'task'; save the prompt again.")
    return content["task"]


def read_prompt(directory: str | Path) -> SavedPrompt:
    """Read a saved prompt.

    Raises:
        CheckpointError: there is no prompt, a file is missing or cut, or a key of the JSON is missing or unknown.
    """
    directory = Path(directory).expanduser()
    path = directory / CONFIG_FILE
    content = _read_config(directory)
    try:
        kind = METHODS[content["method"]]
        fields = {field.name for field in dataclasses.fields(kind)}
        config = kind(**{name: content[name] for name in fields})
        saved = SavedPrompt(
            directory=directory,
            config=config,
            task=content["task"],
            num_labels=content["num_labels"],
            label_names=content["labels"],
            backbone_name=content["backbone"]["name_or_path"],
            fingerprint=content["backbone"]["fingerprint"],
            tensors=_read_tensors(directory / TENSOR_FILE),
            problem_type=content.get("problem_type"),  # the first files had none: one output was not yet a number
        )
        shapes = content["tensors"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} lacks the key {error}; save the prompt again.") from error
    found = {name: list(array.shape) for name, array in saved.tensors.items()}
    for name in sorted(set(shapes) | set(found)):
        if shapes.get(name) != found.get(name):
            raise CheckpointError(
                f"{directory / TENSOR_FILE}: {name} has the shape {found.get(name, 'none: it is missing')}, "
                f"{CONFIG_FILE} says {shapes.get(name, 'nothing of it')}; the two do not belong together."
            )
    return saved


def _read_tensors(path: Path) -> dict[str, numpy.ndarray]:
    opened = open_safetensors(path)
    try:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); save the prompt again.") from error


def write_prompt(model: "PromptModel", directory: str | Path) -> None:
    """Write `model`'s tuned tensors and their description into `directory`."""
    from fastprompt.framework import ops

    tensors = {name: ops.to_numpy(p) for name, p in model.kept_parameters().items()}
    if model.method_config.prompt_kind is not None:
        collapsed = model.prompt.collapse()
        if not getattr(model.method_config, "prefix_projection", False):
            # The weights are the prompt itself in another order.
            tensors = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
        tensors.update(collapsed)
    content = {
        "format_version": FORMAT_VERSION,
        **model.method_config.to_dict(),
        "task": model.task,
        "num_labels": model.num_labels,
        "labels": model.label_names,
        "problem_type": model.problem_type,
        "template": None,
        "verbalizer": None,
        "backbone": {
            "name_or_path": _lasting_name(model.checkpoint),
            "model_type": model.checkpoint.model_type,
            "fingerprint": model.checkpoint.fingerprint,
        },
        "tensors": {name: list(array.shape) for name, array in sorted(tensors.items())},
    }
    directory = Path(directory).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: numpy.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    write_whole(
        {
            directory / TENSOR_FILE: save(arrays),
            directory / CONFIG_FILE: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(),
        }
    )


def _lasting_name(checkpoint: Checkpoint) -> str:
    """A hub id as it is, a folder by its full path: the prompt is read from elsewhere one day."""
    return str(checkpoint.directory.resolve()) if Path(checkpoint.name).expanduser().is_dir() else checkpoint.name


def write_whole(contents: dict[Path, bytes]) -> None:
    """Write files so that each appears whole, and none before all are on the disk; a failure leaves the old ones.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    finished: list[tuple[str, Path]] = []
    os.umask(umask := os.umask(0))  # mkstemp makes files for their owner alone
    try:
        for path, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            finished.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in finished:
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or next(iter(contents))} cannot be written ({error.strerror}); nothing was changed there."
        ) from error
    finally:
        for temporary, _ in finished:
            Path(temporary).unlink(missing_ok=True)
