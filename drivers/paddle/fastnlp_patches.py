"""fastNLP 1.0.1 on today's PaddlePaddle; `drivers/compat.py` says when each function runs."""

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

from fastprompt.drivers.common.batches import take_mappings
from fastprompt.drivers.paddle import collective

import numpy
import paddle
import paddle.distributed as dist
import paddle.distributed.parallel_helper
import paddle.io.reader


def provide_fluid(module: ModuleType) -> None:
    """Lay out the few names fastNLP reads from `paddle.fluid`, which paddle 2.5 dissolved.

    Can go when fastNLP no longer mentions `paddle.fluid`.
    """
    if hasattr(paddle, "fluid"):
        return
    fluid, dygraph = ModuleType("paddle.fluid"), ModuleType("paddle.fluid.dygraph")
    fluid.core = fluid.core_avx = paddle.base.core  # Place, default_cpu_generator
    fluid.reader = paddle.io.reader  # _DatasetKind
    fluid.dygraph = dygraph
    dygraph.parallel_helper = paddle.distributed.parallel_helper
    paddle.fluid = fluid
    sys.modules |= {
        "paddle.fluid": fluid,
        "paddle.fluid.core": fluid.core,
        "paddle.fluid.reader": fluid.reader,
        "paddle.fluid.dygraph": dygraph,
    }


def pad_without_paddle_in_workers(module: ModuleType) -> None:
    """Let fastNLP's collator give arrays in a loader's worker; paddle's own loader makes tensors of them.

    A tensor that a worker of paddle 3 puts into shared memory is a segmentation fault. What is patched is fastNLP's
    view of paddle, not paddle. Can go when paddle's DataLoader survives a `collate_fn` that returns tensors.
    """

    def to_tensor(data: Any, dtype: Any = None) -> Any:
        if paddle.io.get_worker_info() is None:
            return paddle.to_tensor(data, dtype=dtype)
        return numpy.asarray(data, dtype and paddle.base.data_feeder.convert_dtype(dtype))

    module.paddle = ModuleType("paddle")
    module.paddle.__getattr__ = functools.partial(getattr, paddle)
    module.paddle.to_tensor = to_tensor


def collect_before_workers(module: ModuleType) -> None:
    """Collect garbage before workers are forked.

    An iterator of an earlier loop (a trainer leaves some) may be collected in the worker instead, which waits for ever
    for threads that the fork left out. Can go when paddle's workers do not collect what is their parent's.
    """
    iterate = module.PaddleDataLoader.__iter__

    @functools.wraps(iterate)
    def __iter__(self: Any) -> Any:
        if self.num_workers:
            gc.collect()
        return iterate(self)

    module.PaddleDataLoader.__iter__ = __iter__


def change_driver(module: ModuleType) -> None:
    load_from_memory(module)
    take_mappings(module.PaddleDriver)


def load_from_memory(module: ModuleType) -> None:
    """Let `load_model` read a BytesIO, where `LoadBestModelCallback` keeps the model if it is given no folder.

    fastNLP treats it as a path. Can go when it does not.
    """
    load = module.PaddleDriver.load_model

    @functools.wraps(load)
    def load_model(self: Any, filepath: Any, only_state_dict: bool = True, **kwargs: Any) -> None:
        if hasattr(filepath, "read"):
            self.unwrap_model().set_state_dict(paddle.load(filepath))
        else:
            load(self, filepath, only_state_dict, **kwargs)

    module.PaddleDriver.load_model = load_model


def gather_on_any_device(module: ModuleType) -> None:
    """Gather metrics' elements and objects with today's paddle.

    fastNLP takes a process for one of several only where the launcher gave it a GPU, and gathers through paddle 2's
    inner functions. Can go when it asks `paddle.distributed`.
    """

    def all_gather_object(self: Any, obj: Any, group: Any = None) -> list[Any]:
        if not dist.is_initialized():
            return [obj]
        if isinstance(obj, paddle.Tensor):
            return [paddle.to_tensor(part) for part in collective.all_gather_object(obj.numpy())]
        return collective.all_gather_object(obj)

    module.PaddleBackend.is_distributed = staticmethod(dist.is_initialized)
    module.PaddleBackend.all_gather_object = all_gather_object


def feed_paddle_metrics(module: ModuleType) -> None:
    """Call `compute` and `update` of a `paddle.metric.Metric` as paddle documents it.

    fastNLP refuses their `*args`, and hands several results of `compute` on as one. Can go when it does neither.
    """
    wrapper = module._MetricsWrapper
    update_others = wrapper.update

    @functools.wraps(update_others)
    def update(self: Any, batch: Any, outputs: Any) -> None:
        metrics = self._metrics
        self._metrics = [metric for metric in metrics if not isinstance(metric, paddle.metric.Metric)]
        try:
            update_others(self, batch, outputs)
        finally:
            self._metrics = metrics
        outputs = module.dataclass_to_dict(outputs) if is_dataclass(outputs) else outputs
        found = {**batch, **outputs} if isinstance(batch, dict) else outputs
        for metric in metrics:
            if not isinstance(metric, paddle.metric.Metric):
                continue
            names = _argument_names(metric.compute) or _argument_names(metric.update)
            if missing := [name for name in names if name not in found]:
                raise ValueError(
                    f"{type(metric).__name__} needs {missing}; evaluate_step and batch give {list(found)}."
                )
            result = metric.compute(*(found[name] for name in names))
            metric.update(*(result if isinstance(result, list | tuple) else [result]))

    wrapper.update = update


def _argument_names(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
