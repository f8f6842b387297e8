"""A fastNLP dataloader over batches chosen by a batch sampler, which fastNLP 1.0 has none of for Jittor."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastprompt.data.frozen import as_tensors
from fastprompt.data.sampler import with_weight

from fastNLP import JittorDataLoader
from fastNLP.core.samplers import ReproducibleSampler
from jittor import Var


class _SamplerView(ReproducibleSampler):
    """A batch sampler as the sampler that fastNLP's jittor driver knows how to keep, save and bring back.

    The driver counts in samples of full batches: so many are in an epoch, so many are left.
    """

    def __init__(self, batch_sampler: Any, **of_another: Any) -> None:
        super().__init__()
        # fastNLP makes a trainer's or an evaluator's own sampler by calling the class with vars(sampler).
        self.batch_sampler = copy.copy(batch_sampler) if of_another else batch_sampler

    def __len__(self) -> int:
        return len(self.batch_sampler) * _batch_size(self.batch_sampler)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))  # looked at for the type of its first element; reading batches would use them up

    @property
    def num_left_samples(self) -> int:
        return len(self) - self.batch_sampler.batch_idx_in_epoch * _batch_size(self.batch_sampler)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.batch_sampler, "set_epoch"):
            self.batch_sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.batch_sampler.state_dict()

    def load_state_dict(self, states: dict[str, Any]) -> None:
        self.batch_sampler.load_state_dict(states)


def _batch_size(batch_sampler: Any) -> int:
    return getattr(batch_sampler, "batch_size", None) or 1


class _Batches:
    """Examples with the batch sampler over them, under the names that fastNLP reads from a jittor `Dataset`."""

    shuffle = drop_last = endless = keep_numpy_array = False
    num_workers, buffer_size, stop_grad = 0, 0, True

    def __init__(self, examples: Sequence[Any], batch_sampler: Any) -> None:
        self.examples, self.sampler = examples, _SamplerView(batch_sampler)

    @property
    def dataset(self) -> "_Batches":
        return self  # fastNLP's replace_sampler goes one level down, copies what it finds, and sets its sampler

    def __deepcopy__(self, memo: dict) -> "_Batches":
        return _Batches(self.examples, self.sampler.batch_sampler)

    def set_attrs(self, sampler: _SamplerView) -> None:
        self.sampler = sampler

    @property
    def batch_size(self) -> int:
        return _batch_size(self.sampler.batch_sampler)

    def __len__(self) -> int:
        return len(self.sampler.batch_sampler)


class BatchSamplerLoader(JittorDataLoader):
    """Yields one dict of Vars for each list of indices that `batch_sampler` yields."""

    def __init__(self, dataset: Sequence[Any], batch_sampler: Any, collate_fn: Callable[[list], dict]) -> None:
        self.dataset = dataset if isinstance(dataset, _Batches) else _Batches(dataset, batch_sampler)
        self.collate_fn = collate_fn
        self.cur_batch_indices = None

    @property
    def batch_sampler(self) -> Any:
        return self.dataset.sampler.batch_sampler

    def __iter__(self) -> Iterator[dict[str, Var]]:
        for indices in self.batch_sampler:
            self.cur_batch_indices = indices
            arrays = self.collate_fn([self.dataset.examples[i] for i in indices])
            yield with_weight(as_tensors(arrays), indices)


def make_dataloader(
    dataset: Sequence[Any], batch_sampler: Any, collate_fn: Callable[[list], dict]
) -> BatchSamplerLoader:
    """`collate_fn` gets the examples of one batch and returns NumPy arrays by name; the loader yields Vars."""
    return BatchSamplerLoader(dataset, batch_sampler, collate_fn)
