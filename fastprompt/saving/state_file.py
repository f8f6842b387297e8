"""A file of hidden states: rows of unequal length one after another, read through a memory map.

It is a safetensors file with the tensors `states` [tokens, width], bfloat16 as the upper halves of float32's bits, and
`offsets` [rows + 1], and a checksum of both in its metadata. It appears whole or not at all.
"""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from fastprompt.errors import CheckpointError

import numpy

_DTYPES = {"U16": numpy.dtype("<u2"), "F32": numpy.dtype("<f4")}
_OFFSETS = numpy.dtype("<i8")
_BLOCK = 1 << 24  # bytes that are summed up at once


class StateFile:
    """The rows of a file, each (tokens, width) float32."""

    def __init__(self, states: numpy.ndarray, offsets: numpy.ndarray) -> None:
        self._states = states
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> numpy.ndarray:
        found = numpy.asarray(self._states[self._offsets[row] : self._offsets[row + 1]])
        if found.dtype == _DTYPES["U16"]:
            return (found.astype("uint32") << 16).view("float32")
        return found

    def write(self, row: int, states: numpy.ndarray) -> None:
        """Put (tokens, width) float32 in place; in bfloat16 their lower bits are 0."""
        if self._states.dtype == _DTYPES["U16"]:
            states = (numpy.ascontiguousarray(states, "float32").view("uint32") >> 16).astype("uint16")
        self._states[self._offsets[row] : self._offsets[row + 1]] = states


def size_of(lengths: numpy.ndarray, width: int, bf16: bool) -> int:
    """How many bytes the states of rows of these lengths take."""
    return int(lengths.sum()) * width * (2 if bf16 else 4) + (len(lengths) + 1) * 8


def open_states(path: Path) -> StateFile:
    """Read a file that `make_states` wrote, once all of it was summed up.

    Raises:
        CheckpointError: it is cut short or changed.
    """
    try:
        header, start = _read_header(path)
        states, offsets = _maps(path, header, start, "r")
        whole = path.stat().st_size == start + states.nbytes + offsets.nbytes
        if whole and _sum(states, offsets) == _stored_sum(header):
            return StateFile(states, numpy.array(offsets))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    raise CheckpointError(f"{path} is cut short or was changed.")


def make_states(
    path: Path, lengths: numpy.ndarray, width: int, bf16: bool, fill: Callable[[StateFile], None]
) -> StateFile:
    """Write a file of rows of these lengths; `fill` writes every row.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing of the file is left.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    header = _header(lengths, width, bf16, 0)
    start = len(header)
    try:
        with part.open("xb") as file:
            file.write(header)
            file.flush()
            # Of the whole length now: where a map finds no room, the process would end without a word.
            os.posix_fallocate(file.fileno(), 0, start + size_of(lengths, width, bf16))
        states, offsets = _maps(part, json.loads(header[8:]), start, "r+")
        offsets[1:] = numpy.cumsum(lengths)
        fill(StateFile(states, numpy.array(offsets)))
        states.flush()
        offsets.flush()
        with part.open("r+b") as file:
            file.write(_header(lengths, width, bf16, _sum(states, offsets)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return StateFile(_maps(path, json.loads(header[8:]), start, "r")[0], numpy.array(offsets))


def _header(lengths: numpy.ndarray, width: int, bf16: bool, checksum: int) -> bytes:
    tokens = int(lengths.sum())
    end = tokens * width * (2 if bf16 else 4)
    content = {
        "__metadata__": {"crc32": f"{checksum:08x}"},
        "states": {"dtype": "U16" if bf16 else "F32", "shape": [tokens, width], "data_offsets": [0, end]},
        "offsets": {
            "dtype": "I64",
            "shape": [len(lengths) + 1],
            "data_offsets": [end, end + (len(lengths) + 1) * _OFFSETS.itemsize],
        },
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_header(path: Path) -> tuple[dict, int]:
    """(the header, where the tensors begin)"""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 1 << 20:
            raise ValueError("its header is too long")
        return json.loads(file.read(length)), 8 + length


def _maps(path: Path, header: dict, start: int, mode: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(states, offsets) of a file."""
    entry, rows = header["states"], header["offsets"]
    states = _map(path, _DTYPES[entry["dtype"]], mode, start + entry["data_offsets"][0], entry["shape"])
    return states, _map(path, _OFFSETS, mode, start + rows["data_offsets"][0], rows["shape"])


def _map(path: Path, dtype: numpy.dtype, mode: str, offset: int, shape: list[int]) -> numpy.ndarray:
    return numpy.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=tuple(shape))


def _sum(*arrays: numpy.ndarray) -> int:
    checksum = 0
    for array in arrays:
        flat = memoryview(array.reshape(-1).view("uint8"))
        for start in range(0, len(flat), _BLOCK):
            checksum = zlib.crc32(flat[start : start + _BLOCK], checksum)
    return checksum


def _stored_sum(header: dict) -> int:
    return int(header["__metadata__"]["crc32"], 16)
