"""Communication between several PaddlePaddle processes, on paddle.distributed: NCCL on GPUs, Gloo on CPUs."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastprompt.errors import LostProcess

import numpy
import paddle
import paddle.distributed as dist
from paddle import Tensor


def missing() -> str | None:
    """What to do where several processes cannot be had; None where they can."""
    return None if dist.is_available() else "take a build of paddle with paddle.distributed"


def join(device: str) -> None:
    """Meet the other processes, once; returns when all are there."""
    if dist.is_initialized():
        return
    if device == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # "auto" makes no process group on CPUs
    with _lost_process_errors():
        dist.init_parallel_env()


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
    own = numpy.frombuffer(pickle.dumps(x), "uint8")
    sizes = [int(size.item()) for size in _all_gather(numpy.array([len(own)], "int64"))]
    padded = _all_gather(numpy.pad(own, (0, max(sizes) - len(own))))
    return [pickle.loads(part[:size].tobytes()) for part, size in zip(padded, sizes, strict=True)]


def _all_gather(x: numpy.ndarray) -> list[numpy.ndarray]:
    found: list[Tensor] = []
    with _lost_process_errors():
        dist.all_gather(found, paddle.to_tensor(x))
    return [part.numpy() for part in found]


def barrier() -> None:
    """Wait until all processes are here."""
    with _lost_process_errors():
        dist.barrier()


@contextmanager
def _lost_process_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:  # paddle's errors are of many kinds
        raise LostProcess(str(error)) from error
