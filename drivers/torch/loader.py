"""A fastNLP dataloader over batches chosen by a batch sampler."""

from collections.abc import Callable, Sequence
from typing import Any

from fastNLP import TorchDataLoader


def make_dataloader(dataset: Sequence[Any], batch_sampler: Any, collate_fn: Callable[[list], dict]) -> TorchDataLoader:
    """`collate_fn` gets the examples of one batch and returns NumPy arrays by name; the loader yields tensors."""
    from fastprompt.framework import ops

    def collate(examples: list) -> dict:
        return {name: ops.tensor(array) for name, array in collate_fn(examples).items()}

    return TorchDataLoader(dataset, batch_sampler=batch_sampler, collate_fn=collate)
