"""fastNLP driver for PaddlePaddle on one device."""

from fastprompt.checkpoint_driver import CheckpointFiles
from fastprompt.drivers.paddle import runtime
from fastprompt.errors import BackendError

from fastNLP.core.drivers.paddle_driver import PaddleSingleDriver
from paddle.nn import Layer


class Driver(CheckpointFiles, PaddleSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""


def get_driver(model: Layer, device: str = "cpu") -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "gpu", "gpu:1"; torch's "cuda" says the same).

    Raises:
        BackendError: a GPU is asked for and paddle sees none.
    """
    device = device.replace("cuda", "gpu")
    if device != "cpu" and not runtime.has_gpu():
        raise BackendError(
            f"Paddle {runtime.version()} sees no GPU for device {device!r}: use 'cpu', or install paddlepaddle-gpu."
        )
    return Driver(model, device=device)
