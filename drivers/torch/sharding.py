"""A frozen backbone in parts, one on each of several processes: FSDP (Zhao et al., 2023, arXiv:2304.11277), as torch's
fully_shard has it.

A block is whole while it computes, forward and backward. What is tuned is whole everywhere and travels as ever, and so
do the embeddings and the head, which are tied in many a model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastprompt.data.sampler import LOSS_WEIGHT
from fastprompt.errors import ConfigError, LostProcess

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(backbone: nn.Module, device: str, processes: int) -> None:
    """Leave this process its part of every block of `backbone`, on `device`; nothing where that is done already.

    Raises:
        ConfigError: the backbone is trained or quantized, or has no blocks.
    """
    if is_sharded(backbone):
        return
    parameters = list(backbone.parameters())
    if any(p.requires_grad for p in parameters):
        raise ConfigError("fsdp shards a frozen backbone, and this one is trained; leave it off, or tune a prompt.")
    if not all(p.is_floating_point() for p in parameters):
        raise ConfigError("fsdp shards no quantized backbone; leave it off, or load_in_8bit and load_in_4bit.")
    blocks = list(_blocks(backbone))
    if not blocks:
        raise ConfigError("This backbone has no list of blocks to shard; leave fsdp off.")
    mesh = init_device_mesh(device.partition(":")[0], (processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    whole = set(backbone.parameters()) - {p for block in blocks for p in block.parameters()}
    fully_shard(backbone, mesh=mesh, ignored_params=whole)  # one root: a block is fetched while another computes


def is_sharded(model: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule) for module in model.modules())


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


class SynchronizedLoader:
    """A loader whose stand-ins for missing examples the model sees, as all processes compute a block together, and
    nobody else."""

    def __init__(self, loader: Any, compute: Callable[[dict], Any]) -> None:
        self.loader = loader
        self.compute = compute

    def __iter__(self) -> Iterator[dict]:
        for batch in self.loader:
            if batch[LOSS_WEIGHT] == 0:
                self.compute(batch)
            else:
                yield batch

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@contextmanager
def computing_together() -> Iterator[None]:
    """Where a model in parts computes: errors of the exchange with other processes, and others, come up in here."""
    try:
        yield
    except LostProcess:
        raise
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise LostProcess(str(error)) from error
        raise
