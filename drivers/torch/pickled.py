"""State dicts that torch pickled, read without running anything in them."""

import pickle
from pathlib import Path

from fastprompt.drivers.torch.ops import to_numpy
from fastprompt.errors import CheckpointError

import numpy
import torch


def read_state_dict(path: Path) -> dict[str, numpy.ndarray]:
    """The tensors of a state dict, by name.

    Raises:
        CheckpointError: the file holds more than tensors, or is cut.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and is not read, since that may run code from the file; "
            f"save its state dict alone."
        ) from error
    except Exception as error:  # a cut pickle fails in any way
        raise CheckpointError(f"{path} is cut short or no torch file ({' '.join(str(error).split())[:80]}).") from error
    if not isinstance(found, dict) or not all(isinstance(x, torch.Tensor) for x in found.values()):
        raise CheckpointError(f"{path} holds no state dict.")
    return {name: to_numpy(tensor) for name, tensor in found.items()}
