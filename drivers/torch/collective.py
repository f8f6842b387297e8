"""Communication between several PyTorch processes, on torch.distributed: NCCL between GPUs, Gloo between CPUs."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastprompt.errors import LostProcess

import torch.distributed as dist
from torch import Tensor


def missing() -> str | None:
    """What to do where several processes cannot be had; None where they can."""
    return None if dist.is_available() else "take a build of torch with torch.distributed"


def join(device: str) -> None:
    """Meet the other processes, once; returns when all are there."""
    if not dist.is_initialized():
        with _lost_process_errors():
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        atexit.register(_leave)  # Gloo's threads abort a process that ends while they still run


def _leave() -> None:
    if dist.is_initialized():  # a script may have left of itself
        dist.destroy_process_group()


def all_reduce(x: Tensor) -> Tensor:
    """The sum over all processes."""
    with _lost_process_errors():
        dist.all_reduce(x)
    return x


def broadcast(x: Tensor) -> Tensor:
    """The first process's `x`."""
    with _lost_process_errors():
        dist.broadcast(x, 0)
    return x


def all_gather_object(x: Any) -> list[Any]:
    """Every process's `x`, in the order of their ranks."""
    found = [None] * dist.get_world_size()
    with _lost_process_errors():
        dist.all_gather_object(found, x)
    return found


def barrier() -> None:
    """Wait until all processes are here."""
    with _lost_process_errors():
        dist.barrier()


@contextmanager
def _lost_process_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # dist.DistError is one
        raise LostProcess(str(error)) from error
