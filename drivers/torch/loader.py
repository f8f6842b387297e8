"""A fastNLP dataloader over batches chosen by a batch sampler."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastprompt.data.sampler import with_weight

from fastNLP import TorchDataLoader


class _Loader(TorchDataLoader):
    """Makes each batch when it is asked for; one that is a share of a larger one gets its weight."""

    def __iter__(self) -> Iterator[dict]:
        for indices in self.batch_sampler:
            self.cur_batch_indices = indices
            # fastNLP has wrapped the data set: it gives (index, example)
            batch = self.collate_fn([self.dataset[index][1] for index in indices])
            yield with_weight(batch, indices)


def make_dataloader(dataset: Sequence[Any], batch_sampler: Any, collate_fn: Callable[[list], dict]) -> TorchDataLoader:
    """`collate_fn` gets the examples of one batch and returns NumPy arrays by name; the loader yields tensors."""
    from fastprompt.data.frozen import as_tensors  # and with it the framework

    def collate(examples: list) -> dict:
        return as_tensors(collate_fn(examples))

    return _Loader(dataset, batch_sampler=batch_sampler, collate_fn=collate)
