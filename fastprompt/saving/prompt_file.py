"""The prompt file, one for all frameworks: prompt_config.json beside prompt.safetensors.

It holds what was tuned and not the backbone: `key` and `value` [layers, heads_kv, pre_seq_len, head_dim] of a deep
prefix, of all layers or of those in `prefix_layers`, on an encoder-decoder `encoder.key` and so on for each part, or
`embedding` [length, embedding_size] of a shallow prompt, the head under its Hugging Face names, the weights of an
encoder that made the prompt ("prompt.mlp_head.0.weight"), and the backbone's tensors where they are tuned. Without its
encoder a prompt is "collapsed": it works, and trains on, as what the encoder made.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.registry import METHODS
from fastprompt.pretrained.checkpoint import Checkpoint, read_json
from fastprompt.pretrained.tensor_files import read_tensors
from fastprompt.saving.files import as_json, make_folder, same_folder, write_whole

import numpy
from safetensors.numpy import save

CONFIG_FILE = "prompt_config.json"
TENSOR_FILE = "prompt.safetensors"
FORMAT_VERSION = 2  # 2: prefix_layers
# How texts became tokens when a prompt was tuned: options, and keys of the JSON where they are known.
TEXT_SETTINGS = ("max_seq_length", "chat_template", "doc_stride", "max_query_length")
# keys that earlier files had not
_ADDED = {"problem_type": None, "prefix_parts": None, "prefix_layers": None, "use_lm_finetune": False}


@dataclass
class SavedPrompt:
    """A prompt read from its folder, not yet in a model."""

    directory: Path
    config: MethodConfig
    task: str
    num_labels: int
    label_names: list[str]
    backbone_name: str
    model_type: str
    fingerprint: str
    tensors: dict[str, numpy.ndarray]
    problem_type: str | None = None
    text_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def collapsed(self) -> bool:
        """Whether it holds what its method's encoder made, but not the encoder."""
        return self.config.has_encoder and not any(name.startswith("prompt.") for name in self.tensors)

    @property
    def default_learning_rate(self) -> float:
        """What training goes on with where no rate is given: without its encoder a prompt is trained as it is."""
        return self.config.learning_rate if self.collapsed else self.config.default_learning_rate

    @property
    def has_local_backbone(self) -> bool:
        """Whether its backbone is named by a folder of a machine, this one or another, and not by a hub id."""
        name = self.backbone_name
        return name.startswith(("/", "~", ".")) or "\\" in name or Path(name).expanduser().is_dir()

    def check_task(self, task: str) -> None:
        if self.task != task:
            raise CheckpointError(
                f"{self.directory} was tuned for {self.task}, not for {task}; fp.load_prompt_model opens it as it is."
            )

    def check_outputs(self, **outputs: Any) -> None:
        """Refuse outputs other than the prompt's own: num_labels, label_names, problem_type; None asks for nothing.

        Raises:
            ConfigError: with the name of what differs.
        """
        for name, value in outputs.items():
            own = getattr(self, name)
            if value is not None and value != own:
                raise ConfigError(
                    f"{name} is {value!r}, and {self.directory} is a saved prompt with {own!r}; leave {name} off."
                )

    def check_backbone(self, backbone: Checkpoint) -> None:
        """Refuse weights other than those the prompt was tuned on."""
        if backbone.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{self.directory} was tuned on {self.backbone_name}, whose weights are not {backbone.name}'s; "
                f"name its backbone's folder (backbone=, --backbone DIR)."
            )

    def open_backbone(self, backbone: str | Path | None = None) -> Checkpoint:
        """Its backbone's checkpoint.

        Args:
            backbone: where it lies, if not where the prompt's file says.

        Raises:
            CheckpointError: it is not there.
        """
        try:
            return Checkpoint(backbone or self.backbone_name)
        except CheckpointError as error:
            if backbone is not None:
                raise
            raise CheckpointError(
                f"The prompt {self.directory} was tuned on {self.backbone_name}, which is not there any more; say "
                f"where its backbone lies now: --backbone DIR, or backbone=. ({error})"
            ) from error


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
    saved, shapes = _described(Path(directory).expanduser())
    saved.tensors = read_tensors(saved.directory / TENSOR_FILE)
    found = {name: list(array.shape) for name, array in saved.tensors.items()}
    for name in sorted(set(shapes) | set(found)):
        if shapes.get(name) != found.get(name):
            raise CheckpointError(
                f"{saved.directory / TENSOR_FILE}: {name} has the shape {found.get(name, 'none: it is missing')}, "
                f"{CONFIG_FILE} says {shapes.get(name, 'nothing of it')}; the two do not belong together."
            )
    return saved


def read_description(directory: str | Path) -> SavedPrompt:
    """What the JSON of a saved prompt says; its tensors are named and not read.

    Raises:
        CheckpointError: there is no prompt, or its JSON is cut or lacks a key.
    """
    return _described(Path(directory).expanduser())[0]


def _described(directory: Path) -> tuple[SavedPrompt, dict[str, list[int]]]:
    """(the prompt, yet without its tensors; their shapes)"""
    path = directory / CONFIG_FILE
    content = _ADDED | _read_config(directory)
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
            model_type=content["backbone"]["model_type"],
            fingerprint=content["backbone"]["fingerprint"],
            tensors=dict.fromkeys(content["tensors"]),
            problem_type=content["problem_type"],
            text_settings={name: content[name] for name in TEXT_SETTINGS if name in content},
        )
        return saved, content["tensors"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} lacks the key {error}; save the prompt again.") from error


def describe(
    backbone: Checkpoint,
    config: MethodConfig,
    task: str,
    label_names: list[str],
    tensors: dict[str, numpy.ndarray],
    directory: Path,
) -> SavedPrompt:
    """A prompt on `backbone`, to be written into `directory`."""
    return SavedPrompt(
        directory=directory,
        config=config,
        task=task,
        num_labels=len(label_names),
        label_names=label_names,
        backbone_name=_full_name(backbone),
        model_type=backbone.model_type,
        fingerprint=backbone.fingerprint,
        tensors=tensors,
    )


def write_saved(saved: SavedPrompt, directory: Path) -> None:
    """Write a prompt's two files.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
        ConfigError: it is the backbone's own folder, which would be a saved prompt from then on.
    """
    if Path(saved.backbone_name).is_dir() and same_folder(saved.backbone_name, directory):
        raise ConfigError(f"{directory} is the backbone's own folder; choose another folder for the prompt.")
    content = {
        "format_version": FORMAT_VERSION,
        **saved.config.to_dict(),
        "task": saved.task,
        "num_labels": saved.num_labels,
        "labels": saved.label_names,
        "problem_type": saved.problem_type,
        **saved.text_settings,
        "backbone": {
            "name_or_path": saved.backbone_name,
            "model_type": saved.model_type,
            "fingerprint": saved.fingerprint,
        },
        "tensors": {name: list(array.shape) for name, array in sorted(saved.tensors.items())},
    }
    arrays = {name: numpy.ascontiguousarray(saved.tensors[name]) for name in sorted(saved.tensors)}
    make_folder(directory)
    write_whole(
        {
            directory / TENSOR_FILE: save(arrays),
            directory / CONFIG_FILE: as_json(content),
        }
    )


def _full_name(backbone: Checkpoint) -> str:
    """A hub id as it is, a folder by its full path: the prompt is read from elsewhere one day."""
    return str(backbone.directory.resolve()) if Path(backbone.name).expanduser().is_dir() else backbone.name
