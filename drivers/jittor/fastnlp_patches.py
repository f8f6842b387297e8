"""fastNLP 1.0.1 on Jittor; `drivers/compat.py` says when each function runs."""

import copy
import functools
from types import ModuleType
from typing import Any

from fastprompt.drivers.common.batches import take_mappings
from fastprompt.drivers.common.patching import replace
from fastprompt.launch.world import world

import numpy


def return_the_loader(module: ModuleType) -> None:
    """Make `prepare_dataloader` work under jittor.

    fastNLP hands `sampler=` to a function that does not take it, and forgets to return what that function makes. Can
    go when it does neither.
    """
    prepare_any, prepare_jittor = module.prepare_dataloader, module.prepare_jittor_dataloader

    @functools.wraps(prepare_any)
    def prepare_dataloader(
        dataset: Any,
        batch_size: int = 16,
        shuffle: bool | None = None,
        drop_last: bool = False,
        collate_fn: Any = "auto",
        num_workers: int = 0,
        backend: str = "auto",
    ) -> Any:
        if (module._get_backend() if backend == "auto" else backend) != "jittor":
            return prepare_any(dataset, batch_size, shuffle, drop_last, collate_fn, num_workers, backend)
        return prepare_jittor(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            collate_fn=collate_fn,
            num_workers=num_workers,
        )

    replace(module, "prepare_dataloader", prepare_dataloader)


def sample_any_dataset(module: ModuleType) -> None:
    """Let a trainer that writes checkpoints take a `JittorDataLoader` over any data set.

    To put its own sampler in, fastNLP looks for one on the user's data set, which only jittor's `Dataset` has. Can go
    when it does not.
    """
    replace_any = module.replace_sampler

    @functools.wraps(replace_any)
    def replace_sampler(dataloader: Any, sampler: Any) -> Any:
        if not isinstance(dataloader, module.JittorDataLoader):
            return replace_any(dataloader, sampler)
        dataloader = copy.copy(dataloader)
        dataloader.dataset = copy.copy(dataloader.dataset)
        dataloader.dataset.set_attrs(sampler=sampler)
        return dataloader

    replace(module, "replace_sampler", replace_sampler)


def gather_elements(module: ModuleType) -> None:
    """Gather metrics' elements and objects, which fastNLP's backend for jittor does not.

    Can go when it does.
    """

    def all_gather_object(self: Any, obj: Any, group: Any = None) -> list[Any]:
        if world().size == 1:
            return [obj]
        from fastprompt.drivers.jittor import collective  # imports fastNLP

        return collective.all_gather_object(obj)

    def aggregate(self: Any, tensor: Any, method: str | None) -> Any:
        if world().size == 1:
            return tensor
        if method not in ("sum", "mean", "max", "min"):
            from fastNLP.core.metrics.utils import AggregateMethodError

            raise AggregateMethodError(should_have_aggregate_method=method is None)
        parts = numpy.stack(self.all_gather_object(tensor.numpy()))
        return module.jittor.array(getattr(parts, method)(axis=0))

    module.JittorBackend.all_gather_object = all_gather_object
    module.JittorBackend.aggregate = aggregate


def change_driver(module: ModuleType) -> None:
    fix_checkpoints(module)
    take_mappings(module.JittorDriver)


def fix_checkpoints(module: ModuleType) -> None:
    """Make checkpoints and `LoadBestModelCallback` work under jittor.

    jittor saves to a path that is a string; fastNLP hands it a `Path` for a checkpoint and a BytesIO for the best
    model. Resuming, fastNLP takes the data set from the sampler just where there is none. What is patched is
    fastNLP's view of jittor, not jittor. Can go when jittor takes both and fastNLP asks the loader for its data set.
    """
    jittor, driver = module.jt, module.JittorDriver
    save, load, resume = driver.save_model, driver.load_model, driver.load_checkpoint

    @functools.wraps(save)
    def save_model(self: Any, filepath: Any, only_state_dict: bool = True, **kwargs: Any) -> None:
        if not hasattr(filepath, "write"):
            return save(self, filepath, only_state_dict, **kwargs)
        numpy.savez(filepath, **self.unwrap_model().state_dict("numpy"))

    @functools.wraps(load)
    def load_model(self: Any, filepath: Any, only_state_dict: bool = True, **kwargs: Any) -> None:
        if not hasattr(filepath, "read"):
            return load(self, filepath, only_state_dict, **kwargs)
        self.unwrap_model().load_parameters(dict(numpy.load(filepath)))

    @functools.wraps(resume)
    def load_checkpoint(self: Any, folder: Any, dataloader: Any, *args: Any, **kwargs: Any) -> dict:
        of_loader = self.get_dataloader_args(dataloader)
        if of_loader.sampler is None:
            sampler = module.RandomSampler(of_loader.dataset, shuffle=of_loader.shuffle)
            dataloader = self.set_dist_repro_dataloader(dataloader, sampler)
        return resume(self, folder, dataloader, *args, **kwargs)

    driver.save_model, driver.load_model, driver.load_checkpoint = save_model, load_model, load_checkpoint
    module.jt = ModuleType(jittor.__name__)
    module.jt.__getattr__ = functools.partial(getattr, jittor)
    module.jt.save = lambda states, path: jittor.save(states, str(path))
