"""fastNLP driver for PyTorch on one device."""

from fastprompt.checkpoint_driver import CheckpointFiles
from fastprompt.errors import BackendError

import torch
from fastNLP.core.drivers.torch_driver import TorchSingleDriver
from torch.nn import Module


class Driver(CheckpointFiles, TorchSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""


def get_driver(model: Module, device: str = "cpu") -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "cuda", "cuda:1").

    Raises:
        BackendError: there is no such device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"torch finds no device {device!r} here; use 'cpu'.") from error
    return Driver(model, device=device)
