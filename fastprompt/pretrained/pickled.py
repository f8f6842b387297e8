"""State dicts that torch pickled (pytorch_model.bin), read as tensors alone and without torch.

`torch.save` has written two formats: since torch 1.6 a zip archive with one pickle and a record for each storage, and
before it five pickles in a row, with the storages after them. Both pickles name a few functions of torch; here they
make records of where a tensor lies, and any other name is refused. The numbers are read one tensor at a time.
"""

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from fastprompt.errors import CheckpointError

import ml_dtypes  # noqa: F401 - teaches NumPy the name "bfloat16"
import numpy

_DTYPES = {
    **{"torch.DoubleStorage": "float64", "torch.FloatStorage": "float32", "torch.HalfStorage": "float16"},
    **{"torch.BFloat16Storage": "bfloat16", "torch.LongStorage": "int64", "torch.IntStorage": "int32"},
    **{"torch.ShortStorage": "int16", "torch.CharStorage": "int8", "torch.ByteStorage": "uint8"},
    "torch.BoolStorage": "bool",
}
_ZIP = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before a record's name in a zip archive
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles before torch 1.6


class Storage(NamedTuple):
    """`count` numbers of a type that tensors share; `key` is its name in the file."""

    dtype: str
    key: str
    count: int


class View(NamedTuple):
    """A tensor: where in its storage it lies, `offset` and `stride` in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Place(NamedTuple):
    """A storage's bytes in the file, and their checksum where the file has one."""

    start: int
    size: int
    crc: int | None

    def damaged(self, content: bytes | numpy.ndarray) -> bool:
        return self.crc is not None and zlib.crc32(content) != self.crc


class _Refused(pickle.UnpicklingError):
    """The pickle calls for what is no tensor."""


class _Function:
    """What stands for a function that a pickle names; a pickle can call it and change nothing about it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("it changes a function")


class _Dict(dict):
    """For OrderedDict, whose attributes (torch's `_metadata`: the versions of the modules) are left out."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _view(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> View:
    """For torch._utils._rebuild_tensor_v2; requires_grad and hooks follow."""
    shape, stride = tuple(shape), tuple(stride)
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f"a tensor with the sizes {numbers}")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if all(shape) and last >= storage.count:
        raise pickle.UnpicklingError("a tensor that is larger than its storage")
    return View(storage, offset, shape, stride)


def _parameter(view: Any, *_: Any) -> Any:
    """For torch._utils._rebuild_parameter; requires_grad and hooks follow."""
    return view


_KNOWN = {
    "collections.OrderedDict": _Dict,
    "torch._utils._rebuild_tensor": _Function(_view),
    "torch._utils._rebuild_tensor_v2": _Function(_view),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    **_DTYPES,
}


class _Unpickler(pickle.Unpickler):
    """Makes Views; what a pickle names is looked up here and never imported."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")  # for the strings of Python 2
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (full := f"{module}.{name}") not in _KNOWN:
            raise _Refused(full)
        return _KNOWN[full]

    def persistent_load(self, pid: Any) -> Storage:
        kind, *rest = pid
        if kind != "storage":
            raise _Refused(f"a {kind}")
        dtype, key, _, count, *more = rest
        if more not in ([], [None]):
            raise _Refused("a storage that is part of another")
        if dtype not in _DTYPES.values() or not isinstance(key, str) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("a storage without type, key and size")
        storage = Storage(dtype, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError("a storage with two sizes")
        return storage


class PickledFile:
    """A state dict in a file; its tensors' numbers are read when they are asked for.

    Raises:
        CheckpointError: there is no such file, it is cut, it is no state dict, or it holds more than tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                in_zip = file.read(len(_ZIP)) == _ZIP
                file.seek(0)
                found, self._places = (_open_zip if in_zip else _open_legacy)(file)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing; fetch it again.") from error
        except _Refused as error:
            raise CheckpointError(
                f"{path} holds more than tensors ({error}) and is not read, since that may run code from the file; "
                f"save its state dict alone (torch.save(model.state_dict(), ...) or model.save_pretrained(folder))."
            ) from error
        except Exception as error:  # a cut pickle fails in any way
            reason = " ".join(str(error).split())[:80]
            raise CheckpointError(f"{path} is cut short or no torch file ({reason}); fetch it again.") from error
        self._views = _state_dict(found, path)
        self._intact: set[str] = set()  # storages whose checksum was found right

    def names(self) -> list[str]:
        return list(self._views)

    def place(self, name: str) -> Hashable:
        """Where a tensor lies: the same for two names of one tensor."""
        return self.path, self._views[name]

    def read(self, name: str) -> numpy.ndarray:
        """One tensor, read by a map of its storage that ends with it.

        Raises:
            CheckpointError: the file has no such tensor, or was damaged.
        """
        if name not in self._views:
            raise CheckpointError(f"{self.path} lacks the tensor {name}; fetch the weights again.")
        storage, offset, shape, stride = self._views[name]
        place = self._places[storage.key]
        dtype = numpy.dtype(storage.dtype)
        if not math.prod(shape):
            return numpy.empty(shape, dtype)
        try:
            raw = numpy.memmap(self.path, "uint8", "r", place.start, (place.size,))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path} has changed while it was read ({error}).") from error
        if storage.key not in self._intact and place.damaged(raw):
            raise CheckpointError(f"{self.path} is damaged: {name} has another checksum; fetch it again.")
        self._intact.add(storage.key)
        steps = [step * dtype.itemsize for step in stride]
        return numpy.array(numpy.ndarray(shape, dtype, raw, offset * dtype.itemsize, steps), order="C")


def _open_zip(file: BinaryIO) -> tuple[Any, dict[str, _Place]]:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise pickle.UnpicklingError("a zip archive without data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    byteorder = records.get(f"{folder}byteorder")
    if byteorder and _content(file, byteorder) != b"little":
        raise _Refused("numbers of a big-endian machine")
    unpickler = _Unpickler(io.BytesIO(_content(file, records[pickles[0]])))
    found = unpickler.load()
    places = {key: _place(file, records[f"{folder}data/{key}"]) for key in unpickler.storages}
    if any(places[key].size < _bytes(storage) for key, storage in unpickler.storages.items()):
        raise pickle.UnpicklingError("a storage that is shorter than its tensors")
    return found, places


def _place(file: BinaryIO, record: zipfile.ZipInfo) -> _Place:
    """Where a record's content lies."""
    if record.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{record.filename} is compressed")
    file.seek(record.header_offset)
    name, extra = struct.unpack("<HH", file.read(_LOCAL_HEADER)[-4:])
    start = record.header_offset + _LOCAL_HEADER + name + extra
    return _Place(start, record.file_size, record.CRC or None)  # 0 where torch was set to write none


def _content(file: BinaryIO, record: zipfile.ZipInfo) -> bytes:
    place = _place(file, record)
    file.seek(place.start)
    content = file.read(place.size)
    if place.damaged(content):
        raise pickle.UnpicklingError(f"{record.filename} has another checksum")
    return content


def _open_legacy(file: BinaryIO) -> tuple[Any, dict[str, _Place]]:
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise pickle.UnpicklingError("no file of torch.save")
    if not _Unpickler(file).load()["little_endian"]:
        raise _Refused("numbers of a big-endian machine")
    unpickler = _Unpickler(file)
    found = unpickler.load()
    places, start = {}, None
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        start = file.tell() if start is None else start
        file.seek(start)
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise pickle.UnpicklingError("a storage of another size than its tensors'")
        places[key] = _Place(start + 8, _bytes(storage), None)
        start += 8 + _bytes(storage)
    if (start or 0) > file.seek(0, io.SEEK_END) or places.keys() != unpickler.storages.keys():
        raise pickle.UnpicklingError("it ends before its tensors do")
    return found, places


def _bytes(storage: Storage) -> int:
    return storage.count * numpy.dtype(storage.dtype).itemsize


def _state_dict(found: Any, path: Path) -> dict[str, View]:
    """Raises: CheckpointError: it is no dict of tensors by their names."""
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not a state dict; save the state dict alone.")
    for name, view in found.items():
        if not isinstance(name, str) or not isinstance(view, View):
            kind = type(view).__name__
            raise CheckpointError(
                f"{path} is no state dict: under {name!r} it has a {kind}, not a tensor; save the state dict alone."
            )
    return dict(found)
