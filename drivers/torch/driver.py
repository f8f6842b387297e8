"""fastNLP drivers for PyTorch: of one device, and of one process among several."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.drivers.common.checkpoint_files import CheckpointFiles
from fastprompt.drivers.common.distributed import Distributed
from fastprompt.drivers.torch import collective
from fastprompt.drivers.torch.sharding import SynchronizedLoader, computing_together, is_sharded, shard
from fastprompt.errors import BackendError, ConfigError
from fastprompt.launch.world import world

import torch
from fastNLP.core.drivers.torch_driver import TorchDDPDriver, TorchSingleDriver
from torch.nn import Module


class Driver(CheckpointFiles, TorchSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form.

    Args:
        fp16: on a CPU, too, where fastNLP has none.
    """

    def __init__(self, model: Module, device: str, fp16: bool = False) -> None:
        super().__init__(model, device=device)
        if fp16:
            kind = torch.device(device).type
            self.auto_cast = partial(torch.autocast, kind, dtype=torch.float16)
            self.grad_scaler = torch.amp.GradScaler(kind)


class _ProcessDriver(Distributed, Driver):
    """The same of one process among those that torchrun started."""

    spread = TorchDDPDriver.set_dist_repro_dataloader


class _ShardedDriver(_ProcessDriver):
    """The same with the backbone in parts: no process computes a batch without the others."""

    def set_dist_repro_dataloader(self, dataloader: Any, dist: Any = None, reproducible: bool = False) -> Any:
        evaluates = dist == "unrepeatdist"
        if evaluates and not isinstance(getattr(dataloader, "batch_sampler", None), LengthGroupedBatchSampler):
            raise ConfigError("A sharded backbone is evaluated on loaders of fastprompt.make_dataloader.")
        loader = super().set_dist_repro_dataloader(dataloader, dist, reproducible)
        if not evaluates:
            return loader
        loader.batch_sampler.pad = True
        return SynchronizedLoader(loader, self._compute)

    @torch.no_grad()
    def _compute(self, batch: dict) -> None:
        self.model_call(self.move_data_to_device(batch), self.unwrap_model().evaluate_step, None)

    def model_call(self, batch: Any, fn: Callable, signature_fn: Callable | None) -> Any:
        with computing_together():
            return super().model_call(batch, fn, signature_fn)

    def backward(self, loss: torch.Tensor) -> None:
        with computing_together():
            super().backward(loss)


def get_driver(model: Module, device: str = "cpu", fsdp: bool = False, fp16: bool = False) -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu", "cuda", "cuda:1").

    Of several processes on a machine, "cuda" gives each a GPU of its own.

    Raises:
        BackendError: there is no such device.
        ConfigError: the backbone cannot be sharded, or there is one process alone.
    """
    processes = world()
    if processes.size > 1 and device == "cuda":
        device = f"cuda:{processes.local_rank}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"torch finds no device {device!r} here; use 'cpu'.") from error
    if processes.size == 1:
        if fsdp:
            raise ConfigError(
                "fsdp shards the backbone among several processes: start them with torchrun or --num_processes."
            )
        return Driver(model, device, fp16)
    if device != "cpu":
        torch.cuda.set_device(device)
    collective.join(device)
    if fsdp:
        shard(model.backbone, device, processes.size)
    return (_ShardedDriver if is_sharded(model) else _ProcessDriver)(model, device, fp16=fp16)
