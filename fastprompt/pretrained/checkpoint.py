"""Hugging Face checkpoints, read without any framework: config.json and safetensors, one file or sharded.

Nothing in a checkpoint is executed: pickled weights (pytorch_model.bin) are refused.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.family import Family

import ml_dtypes  # noqa: F401 - teaches NumPy the name "bfloat16", which safetensors asks it for
import numpy
from safetensors import SafetensorError, safe_open

_HUB_FILES = ["*.json", "*.safetensors", "vocab.txt", "1_Pooling/*"]
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # Google's first BERTs


def locate(name_or_path: str | Path) -> Path:
    """The local folder of a checkpoint: `name_or_path` itself, or the hub's copy, downloaded if need be.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = str(name_or_path)
    if path.is_file():
        raise CheckpointError(f"{name} is a file; name the folder that holds config.json.")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise CheckpointError(f"There is no folder {name}; name a Hugging Face model folder or a hub id.")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a well-formed hub id.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub has no model {name!r} (or it is private: `hf auth login`), and there is no such folder."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{name!r} is no folder here and the hub cannot be reached; go online, or name a downloaded model's folder."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}; is it a Hugging Face model folder?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch it again.")
    return content


def open_safetensors(path: Path) -> Any:
    """An open safetensors file; a cut or foreign file is refused here, by its header."""
    try:
        return safe_open(str(path), framework="numpy")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; fetch it again.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is cut short or no safetensors file ({error}); fetch it again.") from error


def read_tensors(path: Path) -> dict[str, numpy.ndarray]:
    """Every tensor of a safetensors file."""
    opened = open_safetensors(path)
    try:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fetch it again.") from error


class Checkpoint:
    """A model folder in Hugging Face form."""

    def __init__(self, name_or_path: str | Path) -> None:
        self.name = str(name_or_path)
        self.directory = locate(name_or_path)
        self.config = read_json(self.directory / "config.json")
        if "model_type" not in self.config:
            raise CheckpointError(f"{self.directory / 'config.json'} names no model_type; is it a model's config?")

    @property
    def model_type(self) -> str:
        return self.config["model_type"]

    @cached_property
    def family(self) -> Family:
        return family_of(self.model_type)

    @property
    def pooling(self) -> str:
        """What a head reads by default: "mean" or "first", as the checkpoint was trained; "last" of a causal model."""
        if self.family.causal:
            return "last"
        sentence_encoder = self.directory / "1_Pooling" / "config.json"
        if sentence_encoder.exists():
            return "mean" if read_json(sentence_encoder).get("pooling_mode_mean_tokens") else "first"
        return "mean" if self.config.get("classifier_pooling") == "mean" else "first"

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Stored tensor name -> the file that holds it."""
        index = self.directory / "model.safetensors.index.json"
        single = self.directory / "model.safetensors"
        if index.exists():
            where = read_json(index).get("weight_map", {})
            return {name: self.directory / file for name, file in where.items()}
        if single.exists():
            return dict.fromkeys(open_safetensors(single).keys(), single)
        pickled = next(self.directory.glob("pytorch_model*.bin"), None)
        found = f"only {pickled.name}, a pickle that is not read" if pickled else "no weights"
        raise CheckpointError(
            f"{self.directory} holds {found}; it needs model.safetensors "
            f"(transformers writes it: model.save_pretrained(folder))."
        )

    def _stored(self) -> dict[str, str]:
        """The name in the stock base model ("encoder.layer.0...", heads keep theirs) -> the stored name."""
        prefix = self.family.whole_name("")
        whole_model = any(name.startswith(prefix) for name in self._files)
        names = {}
        for stored in self._files:
            name = stored
            for old, new in _OLD_NAMES.items():
                name = name.replace(old, new)
            if whole_model:
                in_base = name.startswith(prefix) and not name.startswith("lm_head.")  # T5's prefix is empty
                name = name.removeprefix(prefix) if in_base else f"head:{name}"
            if not name.endswith("position_ids"):  # a buffer that old versions saved
                names[name] = stored
        return names

    def read(self, only: Collection[str] | None = None) -> Iterator[tuple[str, numpy.ndarray]]:
        """The base model's tensors under their stock names, a task head's after "head:", in the order of their names;
        those in `only`, or all.

        One at a time, each by a map of its file that ends with it: what was read does not stay in memory.
        """
        for path in set(self._files.values()):  # before any is read: refuses those that are cut
            open_safetensors(path)
        try:
            for name, stored in sorted(self._stored().items()):
                if only is None or name in only:
                    yield name, open_safetensors(self._files[stored]).get_tensor(stored)
        except SafetensorError as error:
            raise CheckpointError(f"{self.directory}: {error}; fetch the weights again.") from error

    def tensors(self, only: Collection[str] | None = None) -> dict[str, numpy.ndarray]:
        """What `read` gives, together."""
        return dict(self.read(only))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over sorted name, dtype, shape and bytes of the base model: which weights a prompt belongs to."""
        digest = hashlib.sha256()
        for name, array in self.read():
            if not name.startswith("head:"):
                digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
                digest.update(array.tobytes())
        return f"sha256:{digest.hexdigest()}"
