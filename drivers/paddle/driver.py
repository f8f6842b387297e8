"""fastNLP drivers for PaddlePaddle: of one device, and of one process among several."""

from fastprompt.drivers.common.checkpoint_files import CheckpointFiles
from fastprompt.drivers.common.distributed import Distributed
from fastprompt.drivers.paddle import collective, runtime
from fastprompt.errors import BackendError
from fastprompt.framework import require
from fastprompt.launch.world import world

from fastNLP.core.drivers.paddle_driver import PaddleFleetDriver, PaddleSingleDriver
from paddle.nn import Layer


class Driver(CheckpointFiles, PaddleSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""


class _ProcessDriver(Distributed, Driver):
    """The same of one process among those that paddle.distributed.launch started."""

    spread = PaddleFleetDriver.set_dist_repro_dataloader


def get_driver(model: Layer, device: str = "cpu", fsdp: bool = False, fp16: bool = False) -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "gpu", "gpu:1"; torch's "cuda" says the same).

    Of several processes each sees the GPU that the launcher gave it.

    Raises:
        BackendError: a GPU is asked for and paddle sees none, fp16 on a CPU, or fsdp.
    """
    if fsdp:
        require("fsdp")
    device = device.replace("cuda", "gpu")
    if device != "cpu" and not runtime.has_gpu():
        raise BackendError(
            f"Paddle {runtime.version()} sees no GPU for device {device!r}: use 'cpu', or install paddlepaddle-gpu."
        )
    if fp16 and device == "cpu":
        raise BackendError("Paddle has no fp16 on the CPU; leave it off.")
    if world().size == 1:
        return Driver(model, device=device, fp16=fp16)
    collective.join(device)
    return _ProcessDriver(model, device, fp16=fp16)
