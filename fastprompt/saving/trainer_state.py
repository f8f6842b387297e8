"""A trainer's state as two files, JSON and safetensors: nothing is executed when they are read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.prompt_file import CONFIG_FILE, TENSOR_FILE

import numpy
from safetensors import SafetensorError
from safetensors.numpy import load, save

STATE_FILE = "trainer_state.json"
ARRAY_FILE = "trainer_state.safetensors"
_HASHED = (ARRAY_FILE, CONFIG_FILE, TENSOR_FILE)  # what the state answers for, where it is there


def write_state(directory: Path, state: dict[str, Any]) -> None:
    """Write `state`: nested dicts, lists and tuples of plain values, arrays and tensors.

    The prompt's files, where they lie in the folder already, are sealed with it: a byte that changes later is found.

    Raises:
        CheckpointError: a value is of another kind, or the folder cannot be written.
    """
    arrays: dict[str, numpy.ndarray] = {}
    content = {"state": _pack(state, arrays, "state")}
    write_whole({directory / ARRAY_FILE: save(arrays)})
    content["sha256"] = {name: _digest(directory / name) for name in _HASHED if (directory / name).exists()}
    content["seal"] = _seal(content)
    write_whole({directory / STATE_FILE: as_json(content)})  # last: a folder without it is no checkpoint


def read_state(directory: Path) -> dict[str, Any]:
    """What `write_state` was given; arrays come back as arrays, tensors as tensors.

    Raises:
        CheckpointError: a file is missing, cut short, or has changed since it was written.
    """
    try:
        content = json.loads((directory / STATE_FILE).read_bytes())
        seal = content.pop("seal")
        intact = seal == _seal(content)
        damaged = [name for name, digest in content["sha256"].items() if _digest(directory / name) != digest]
        arrays = load((directory / ARRAY_FILE).read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{directory} is no whole checkpoint ({Path(error.filename).name} is missing)."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{directory} is damaged ({STATE_FILE} or {ARRAY_FILE} cannot be read).") from error
    if damaged or not intact:
        raise CheckpointError(f"{directory} is damaged ({damaged[0] if damaged else STATE_FILE} has changed).")
    return _unpack(content["state"], arrays)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pack(value: Any, arrays: dict[str, numpy.ndarray], where: str) -> Any:
    """`value` as JSON; arrays and tensors go into `arrays`, and their key says which they were."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_pack(item, arrays, f"{where}.{index}") for index, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": _pack(list(value), arrays, where)}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, arrays, f"{where}.{key}")] for key, item in value.items()]}
    if isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    kind = "array" if isinstance(value, numpy.ndarray) else "tensor"
    try:
        arrays[where] = numpy.ascontiguousarray(value if kind == "array" else ops.to_numpy(value))
    except (AttributeError, TypeError) as error:
        raise CheckpointError(f"A checkpoint cannot hold {where}, which is of {type(value).__name__}.") from error
    return {kind: where}


def _unpack(value: Any, arrays: dict[str, numpy.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_unpack(content, arrays))
    if kind == "dict":
        return {key: _unpack(item, arrays) for key, item in content}
    return ops.tensor(arrays[content]) if kind == "tensor" else arrays[content]
