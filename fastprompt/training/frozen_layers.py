"""What leaves the frozen layers of a backbone, computed once for all texts and read from a file in every epoch."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastprompt.data.dataloader import LoaderParts
from fastprompt.data.frozen import PadStates, RowsWithStates
from fastprompt.data.packed import Lists
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.launch.lock import locked
from fastprompt.models.base import PromptModel
from fastprompt.models.frozen import compute_states, device_kind, layer_of
from fastprompt.saving.state_file import StateFile, make_states, open_states, size_of

import numpy

AUTO = "auto"
_TOKENS = 8192  # of a batch that is computed together, padding counted
_READ = ("input_ids", "token_type_ids")  # the columns of a row that the backbone reads


def cache_frozen_layers(
    model: PromptModel, dataloader: Any, directory: str | Path = AUTO, *, limit_gb: float | None = None
) -> Any:
    """A dataloader of the same batches with what enters the first layer that the method changes, so that a step runs
    the layers from there on alone.

    What is computed stays in `directory` for later runs: of other seeds, rates and prompt lengths too, and of other
    methods that leave the same layers as they are.

    Args:
        model: with the portable definition as its backbone: on torch `from_pretrained(..., portable=True)`.
        dataloader: of `fp.make_dataloader`; it is not to be used any more.
        directory: a folder, or "auto": `fastprompt/frozen_layers` in the user's cache folder.
        limit_gb: a file above so many gigabytes (1e9 bytes) is not made.

    Returns:
        The new dataloader; the old one, and a line on standard error, where its file would be above the limit or there
        is no room for it.

    Raises:
        ConfigError: the method leaves no layer as it is, the backbone has none to keep, or the dataloader is another.
    """
    from fastprompt.framework import loader  # imports fastNLP

    source = model.frozen_source
    parts = getattr(dataloader, "parts", None)
    if not isinstance(parts, LoaderParts):
        raise ConfigError("Frozen layers are cached for a dataloader of fp.make_dataloader, and this is another.")
    states = _find_or_make(model, parts, _folder(directory), limit_gb)
    if states is None:
        return dataloader
    made = loader.make_dataloader(
        RowsWithStates(parts.rows, states), parts.sampler, PadStates(parts.pad, source, model.reads_padding)
    )
    made.text_settings = dataloader.text_settings
    return made


def _folder(directory: str | Path) -> Path:
    if str(directory) != AUTO:
        return Path(directory).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fastprompt" / "frozen_layers"


def _find_or_make(model: PromptModel, parts: LoaderParts, folder: Path, limit_gb: float | None) -> StateFile | None:
    lengths, width = _state_counts(model, parts), model.backbone.geometry.hidden_size
    path = folder / f"{_key(model, parts)}.safetensors"
    size = size_of(lengths, width, model.bf16)
    what = f"{len(lengths):,} texts before layer {layer_of(model)}"
    if limit_gb is not None and size > limit_gb * 1e9:
        _say(f"{what} take {size / 1e9:.2f} GB, and the limit is {limit_gb:g}: every step computes them.")
        return None
    if (found := _open(path)) is not None:
        _say(f"{what} are read from {path} ({size / 1e9:.2f} GB).")
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if (found := _open(path)) is not None:  # another run made it meanwhile
                return found
            free = shutil.disk_usage(folder).free
            _say(f"{what} are computed once: {size / 1e9:.2f} GB in {path} ({free / 1e9:.1f} GB are free).")
            return make_states(path, lengths, width, model.bf16, lambda file: _fill(model, parts, lengths, file))
    except OSError as error:
        _say(f"{path} cannot be written ({error.strerror or error}): every step computes the frozen layers.")
        return None


def _open(path: Path) -> StateFile | None:
    """The file where it is there and whole."""
    if not path.exists():
        return None
    try:
        return open_states(path)
    except CheckpointError as error:
        _say(f"{error} It is computed anew.")
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; a lock that its holder's end gives back, however it ends."""
    with locked(path.with_suffix(".lock"), lambda: _say(f"waiting for another process that computes {path}.")):
        for left in path.parent.glob(f".{path.name}.*.part"):  # of a process that was killed
            left.unlink(missing_ok=True)
        yield


def _fill(model: PromptModel, parts: LoaderParts, counts: numpy.ndarray, file: StateFile) -> None:
    """Compute all rows, each of which has so many states."""
    training = model.training
    model.eval()
    try:
        done, started, said = 0, time.monotonic(), time.monotonic()
        for places in _batches(counts):
            batch = parts.pad([{name: x for name, x in parts.rows[p].items() if name in _READ} for p in places])
            if model.reads_padding:
                batch = _widened(batch, int(parts.rows.lengths.max()), parts.pad.fill)
            found = compute_states(model, batch)
            ends = numpy.cumsum(counts[places])
            for place, part in zip(places, numpy.split(found, ends[:-1]), strict=True):
                file.write(place, part)
            done += len(places)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                left = (said - started) / done * (len(parts.rows) - done)
                _say(f"frozen layers: {done:,} of {len(parts.rows):,} texts, {left:.0f} s left")
    finally:
        if training:
            model.train()


def _widened(batch: dict[str, numpy.ndarray], width: int, fill: dict[str, int]) -> dict[str, numpy.ndarray]:
    """A batch (B, T) with padding after it up to (B, width)."""
    return {
        name: numpy.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill.get(name, 0))
        for name, array in batch.items()
    }


def _state_counts(model: PromptModel, parts: LoaderParts) -> numpy.ndarray:
    """(rows,) of how many tokens each row has states: of padding too where the model reads it."""
    if model.reads_padding:
        return numpy.full(len(parts.rows), parts.rows.lengths.max(), "int64")
    return parts.rows.token_counts().astype("int64")


def _batches(counts: numpy.ndarray) -> Iterator[list[int]]:
    """Rows to compute together: of like length, and so many tokens."""
    batch: list[int] = []
    for place in numpy.argsort(counts, kind="stable").tolist():
        if batch and (len(batch) + 1) * counts[place] > _TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _key(model: PromptModel, parts: LoaderParts) -> str:
    """Names a file by all that its numbers depend on."""
    digest = hashlib.sha256(json.dumps([model.frozen_source, device_kind(model), model.reads_padding]).encode())
    for chunk in parts.rows.chunks:
        for name in _READ:
            if name in chunk:
                digest.update(name.encode())
                _update(digest.update, chunk[name])
    return digest.hexdigest()[:40]


def _update(update: Callable[[bytes], None], column: Lists) -> None:
    update(column.offsets.astype("<i8").tobytes())
    if isinstance(column.values, Lists):
        _update(update, column.values)
    else:
        update(column.values.astype("<i4").tobytes())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
