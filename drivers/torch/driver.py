"""fastNLP driver for PyTorch on one device."""

from fastNLP.core.drivers.torch_driver import TorchSingleDriver
from torch.nn import Module


def get_driver(model: Module, device: str = "cpu") -> TorchSingleDriver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "cuda", "cuda:1")."""
    return TorchSingleDriver(model, device=device)
