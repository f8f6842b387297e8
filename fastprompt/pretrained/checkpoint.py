"""Hugging Face checkpoints, read without any framework: config.json and the weights, one file or sharded.

Nothing in a checkpoint is executed: of pickled weights (pytorch_model.bin) the tensors are read and nothing else.
"""

import hashlib
import json
from collections.abc import Collection, Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.family import Family
from fastprompt.pretrained.hub import hub_errors
from fastprompt.pretrained.tensor_files import TensorFile, open_tensors

import numpy

_HUB_FILES = ["*.json", "*.safetensors", "vocab.txt", "1_Pooling/*"]
_HUB_PICKLES = ["pytorch_model*.bin"]  # only of a model without safetensors: most have both
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in transformers' order; each alone or as shards with an index
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # Google's first BERTs


def locate(name_or_path: str | Path) -> Path:
    """The local folder of a checkpoint: `name_or_path` itself, or the hub's copy, downloaded if need be.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    check_name(name_or_path)
    return _download(str(name_or_path))


def check_name(name_or_path: str | Path) -> None:
    """Raises: CheckpointError: it is no folder, and can be no hub id; the hub is not asked."""
    path, name = Path(name_or_path).expanduser(), str(name_or_path)
    if path.is_dir():
        return
    if path.is_file():
        raise CheckpointError(f"{name} is a file; name the folder that holds config.json.")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise CheckpointError(f"There is no folder {name}; name a Hugging Face model folder or a hub id.")


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
        weights = weights_in(folder)
        if weights is None or weights.match("pytorch_model*"):
            folder = Path(snapshot_download(name, allow_patterns=_HUB_PICKLES))
        return folder


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


def weights_in(directory: Path) -> Path | None:
    """A model folder's weights, or the index of their shards: of several the one that transformers takes."""
    return first_file(directory, [name for weights in _WEIGHTS for name in (weights, f"{weights}.index.json")])


def first_file(directory: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that a folder has."""
    return next((directory / name for name in names if (directory / name).exists()), None)


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
    def _files(self) -> dict[str, TensorFile]:
        """Stored tensor name -> the file that holds it. Every file is opened, which refuses those that are cut."""
        path = weights_in(self.directory)
        if path is None:
            raise CheckpointError(
                f"{self.directory} holds no weights; it needs {' or '.join(_WEIGHTS)} "
                f"(transformers writes the first: model.save_pretrained(folder))."
            )
        if path.suffix != ".json":
            file = open_tensors(path)
            return dict.fromkeys(file.names(), file)
        where = read_json(path).get("weight_map", {})
        shards = {shard: open_tensors(self.directory / shard) for shard in sorted(set(where.values()))}
        return {name: shards[shard] for name, shard in where.items()}

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
        for name, stored in sorted(self._stored().items()):
            if only is None or name in only:
                yield name, self._files[stored].read(stored)

    def tensors(self, only: Collection[str] | None = None) -> dict[str, numpy.ndarray]:
        """What `read` gives, together."""
        return dict(self.read(only))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over sorted name, dtype, shape and bytes of the base model: which weights a prompt belongs to."""
        digest = hashlib.sha256()
        for name, array in self.read(only=self._base_names()):
            digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
            digest.update(array.tobytes())
        return f"sha256:{digest.hexdigest()}"

    def _base_names(self) -> set[str]:
        """The base model's tensors, each under one name: a pickle has those that are shared under several ("shared",
        "encoder.embed_tokens"), of which transformers writes the first to safetensors."""
        names: dict[Hashable, str] = {}
        stored = self._stored()
        for name in sorted(stored, key=lambda name: (name.count("."), name)):
            if not name.startswith("head:"):
                names.setdefault(self._files[stored[name]].place(stored[name]), name)
        return set(names.values())
