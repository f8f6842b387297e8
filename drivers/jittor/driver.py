"""fastNLP driver for Jittor on one device."""

from fastprompt.checkpoint_driver import CheckpointFiles
from fastprompt.drivers.jittor.runtime import has_gpu
from fastprompt.errors import BackendError
from fastprompt.processes import place

import jittor
from fastNLP.core.drivers.jittor_driver import JittorSingleDriver


class Driver(CheckpointFiles, JittorSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""


def get_driver(model: jittor.nn.Module, device: str = "cpu") -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu"; "gpu" or "cuda").

    Raises:
        BackendError: jittor cannot use that device here, or mpirun started several processes.
    """
    if place().size > 1:
        raise BackendError(
            "fastprompt trains in one process under jittor: it has no driver on jittor's MPI yet. Start it without "
            "mpirun, or take torch or paddle."
        )
    check_device(device)
    return Driver(model, device=device)


def check_device(device: str) -> None:
    """Raises BackendError where jittor cannot compute on `device`."""
    if device not in ("cpu", "gpu", "cuda"):
        raise BackendError(f"jittor runs on one device, 'cpu' or 'cuda', not {device!r}.")
    if device != "cpu" and not has_gpu():
        raise BackendError("jittor finds no GPU it can use (driver, CUDA toolkit before 13, cuDNN): use device='cpu'.")


def use_device(device: str) -> None:
    """Compute on `device` from here on; jittor has one for everything.

    Raises:
        BackendError: jittor cannot use that device here.
    """
    check_device(device)
    jittor.flags.use_cuda = int(device != "cpu")
