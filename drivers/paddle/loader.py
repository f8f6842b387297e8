"""A fastNLP dataloader over batches chosen by a batch sampler."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastprompt.data.sampler import with_weight

from fastNLP import PaddleDataLoader


class _Loader(PaddleDataLoader):
    """Makes each batch when it is asked for.

    Paddle's loader, even without workers, reads ahead in a thread that the end of the interpreter may interrupt.
    """

    def __iter__(self) -> Iterator[dict]:
        for indices in self.batch_sampler:
            self.cur_batch_indices = indices
            # fastNLP has wrapped the data set: it gives (index, example)
            batch = self.collate_fn([self.dataset[index][1] for index in indices])
            yield with_weight(batch, indices)


def make_dataloader(dataset: Sequence[Any], batch_sampler: Any, collate_fn: Callable[[list], dict]) -> PaddleDataLoader:
    """`collate_fn` gets the examples of one batch and returns NumPy arrays by name; the loader yields tensors."""
    from fastprompt.data.frozen import as_tensors  # and with it the framework

    def collate(examples: list) -> dict:
        return as_tensors(collate_fn(examples))

    if not hasattr(batch_sampler, "batch_size"):
        batch_sampler.batch_size = None  # else fastNLP asks the first batch for its .shape, which a dict has not
    return _Loader(dataset, batch_sampler=batch_sampler, collate_fn=collate, use_shared_memory=False)
