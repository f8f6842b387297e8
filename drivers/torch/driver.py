"""fastNLP drivers for PyTorch: of one device, and of one process among several."""

from fastprompt.checkpoint_driver import CheckpointFiles
from fastprompt.distributed import ManyProcesses
from fastprompt.drivers.torch import collective
from fastprompt.errors import BackendError
from fastprompt.processes import place

import torch
from fastNLP.core.drivers.torch_driver import TorchDDPDriver, TorchSingleDriver
from torch.nn import Module


class Driver(CheckpointFiles, TorchSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""


class _ProcessDriver(ManyProcesses, Driver):
    """The same of one process among those that torchrun started."""

    spread = TorchDDPDriver.set_dist_repro_dataloader


def get_driver(model: Module, device: str = "cpu") -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "cuda", "cuda:1").

    Of several processes on a machine, "cuda" gives each a GPU of its own.

    Raises:
        BackendError: there is no such device.
    """
    here = place()
    if here.size > 1 and device == "cuda":
        device = f"cuda:{here.local_rank}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"torch finds no device {device!r} here; use 'cpu'.") from error
    if here.size == 1:
        return Driver(model, device=device)
    if device != "cpu":
        torch.cuda.set_device(device)
    collective.join(device)
    return _ProcessDriver(model, device)
