"""Files of tensors by name, safetensors or what torch pickled, read one tensor at a time and without a framework."""

from collections.abc import Hashable
from pathlib import Path

from fastprompt.errors import CheckpointError
from fastprompt.pretrained.pickled import PickledFile

import ml_dtypes  # noqa: F401 - teaches NumPy the name "bfloat16", which safetensors asks it for
import numpy
from safetensors import SafetensorError, safe_open


class SafetensorsFile:
    """A safetensors file.

    Raises:
        CheckpointError: it is missing, or its header says that it is cut or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(str(path), framework="numpy") as file:
                self._names = list(file.keys())
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing; fetch it again.") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is cut short or no safetensors file ({error}); fetch it again.") from error

    def names(self) -> list[str]:
        return self._names

    def place(self, name: str) -> Hashable:
        """Where a tensor lies: here no two names have one."""
        return self.path, name

    def read(self, name: str) -> numpy.ndarray:
        """One tensor, by a map of the file that ends with it: what was read does not stay in memory.

        Raises:
            CheckpointError: the file has no such tensor, or cannot be read.
        """
        try:
            with safe_open(str(self.path), framework="numpy") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.path}: {error}; fetch it again.") from error


TensorFile = SafetensorsFile | PickledFile


def open_tensors(path: Path) -> TensorFile:
    """A file whose name ends with .safetensors, or with .bin.

    Raises:
        CheckpointError: see the two kinds.
    """
    return PickledFile(path) if path.suffix == ".bin" else SafetensorsFile(path)


def read_tensors(path: Path) -> dict[str, numpy.ndarray]:
    """Every tensor of a file."""
    file = open_tensors(path)
    return {name: file.read(name) for name in file.names()}
