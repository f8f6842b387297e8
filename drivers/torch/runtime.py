"""PyTorch: what is set before its import, and what is asked of the machine after it."""

import random
from contextlib import AbstractContextManager, nullcontext


def prepare() -> None:
    """Nothing to set before `import torch`."""


def version() -> str:
    import torch

    return torch.__version__


def seed(value: int) -> None:
    """Seed Python, NumPy and PyTorch (dropout draws from it)."""
    import numpy
    import torch

    random.seed(value)
    numpy.random.seed(value % 2**32)
    torch.manual_seed(value)


def one_thread() -> AbstractContextManager[None]:
    """Within it a model answers; threads may do so at once here."""
    return nullcontext()


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def supports_bf16(device: str) -> bool:
    """Whether a frozen backbone can be in bf16 on `device`."""
    import torch

    return device == "cpu" or torch.cuda.is_bf16_supported()


def peak_device_memory_mb() -> float | None:
    """Peak memory of the GPU in MiB; None where the run was on the CPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
