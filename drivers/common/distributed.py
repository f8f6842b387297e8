"""What a fastNLP driver of one process among several does, whatever the framework."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fastprompt.data.sampler import LOSS_WEIGHT, LengthGroupedBatchSampler
from fastprompt.drivers.common.parameters import tuned_by
from fastprompt.framework import collective, nn, ops, optim
from fastprompt.launch.world import world

import numpy
from fastNLP.envs import FASTNLP_NO_SYNC


class Distributed:
    """A fastNLP driver of one process among several that tune one prompt together.

    It stands before the framework's driver of one device. Only what is tuned travels: from the first process to the
    others at the start, and the gradients once a step, in one piece. Each process has the frozen backbone whole, and
    nothing is wrapped around the model.

    A batch is one process's share of a larger one, whose mean loss is the sum of the shares' mean losses by their
    weights; the gradients are those of that mean. A loader that is not `fastprompt.make_dataloader`'s names no
    weights, and its shares all weigh the same.

    Attributes:
        bytes_reduced: bytes of gradients that this process has handed to all-reduce so far.
    """

    spread: Callable[..., Any]  # fastNLP's own way to divide a loader's examples among processes

    def __init__(self, model: Any, device: Any, **options: Any) -> None:
        super().__init__(model, device=device, **options)
        processes = world()
        self.global_rank, self.world_size, self.local_rank = processes.rank, processes.size, processes.local_rank
        self.bytes_reduced = 0
        self._reduces = True
        self._weight = 1 / processes.size

    def setup(self) -> None:
        super().setup()
        tuned = tuned_by(self)
        if not tuned:
            return
        with ops.no_grad():
            flat = ops.cat([ops.reshape(p, (-1,)) for p in tuned], axis=0)
        values = ops.to_numpy(collective.broadcast(flat))
        for parameter, value in zip(tuned, _cut(values, tuned), strict=True):
            nn.set_value(parameter, value.reshape(tuple(parameter.shape)))

    # -- a step ------------------------------------------------------------------------------------------------------

    def model_call(self, batch: Any, fn: Callable, signature_fn: Callable | None) -> Any:
        equal = 1 / self.world_size
        self._weight = batch.get(LOSS_WEIGHT, equal) if isinstance(batch, dict) else equal
        return super().model_call(batch, fn, signature_fn)

    def backward(self, loss: Any) -> None:
        super().backward(loss * self._weight)
        if self._reduces:
            self._reduce_gradients()

    def get_model_no_sync_context(self) -> Callable[[], AbstractContextManager]:
        return self._without_reduction

    @contextmanager
    def _without_reduction(self) -> Iterator[None]:
        self._reduces = False
        try:
            yield
        finally:
            self._reduces = True

    def _reduce_gradients(self) -> None:
        with_gradient = [p for p in tuned_by(self) if optim.gradient(p, self.optimizers) is not None]
        if not with_gradient:
            return
        flat = ops.cat([ops.reshape(optim.gradient(p, self.optimizers), (-1,)) for p in with_gradient], axis=0)
        self.bytes_reduced += 4 * int(flat.shape[0])  # float32
        flat = collective.all_reduce(flat)
        for parameter, value in zip(with_gradient, _cut(flat, with_gradient), strict=True):
            optim.set_gradient(parameter, ops.reshape(value, tuple(parameter.shape)), self.optimizers)

    # -- the data ----------------------------------------------------------------------------------------------------

    def set_dist_repro_dataloader(self, dataloader: Any, dist: Any = None, reproducible: bool = False) -> Any:
        """A loader of this process's share; in training every process gets as many batches ("dist"), in an evaluation
        every example comes once ("unrepeatdist")."""
        if isinstance(dist, str) and isinstance(getattr(dataloader, "batch_sampler", None), LengthGroupedBatchSampler):
            loader = super().set_dist_repro_dataloader(dataloader, None, reproducible)
            loader.batch_sampler.set_distributed(self.world_size, self.global_rank, pad=dist == "dist")
            return loader
        return self.spread(dataloader, dist, reproducible)

    # -- among the processes -----------------------------------------------------------------------------------------

    def is_distributed(self) -> bool:
        return True

    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def get_local_rank(self) -> int:
        return self.local_rank

    def barrier(self) -> None:
        if _sync_level() < 1:
            collective.barrier()

    def all_gather(self, obj: Any, group: Any = None) -> list[Any]:
        return [obj] if _sync_level() == 2 else collective.all_gather_object(obj)

    def broadcast_object(self, obj: Any, src: int = 0, group: Any = None, **_: Any) -> Any:
        return None if _sync_level() == 2 else collective.all_gather_object(obj)[src]


def _cut(flat: Any, like: list[Any]) -> Iterator[Any]:
    """A flat tensor or array in pieces of the tensors' sizes."""
    start = 0
    for tensor in like:
        size = int(numpy.prod(tuple(tensor.shape)))
        yield flat[start : start + size]
        start += size


def _sync_level() -> int:
    """fastNLP's: 1 and 2 leave barriers out, 2 also whatever else is exchanged."""
    return int(os.environ.get(FASTNLP_NO_SYNC, 0))
