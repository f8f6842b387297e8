"""Hidden states that were computed once, in the batches of a dataloader."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastprompt.framework import ops

import numpy


class FrozenStates(NamedTuple):
    """What enters the first layer that changes, for a batch.

    Attributes:
        states: (B, T, hidden), or (B, C, T, hidden) of multiple choice.
        source: what computed them: a model takes its own alone.
    """

    states: Any
    source: str


def as_keyword(states: FrozenStates | None) -> dict[str, FrozenStates]:
    """Frozen states as a keyword argument where there are some: a `forward` of a user's own need know none."""
    return {} if states is None else {"frozen_states": states}


class RowsWithStates(Sequence):
    """Rows, each with its states (tokens, hidden) as "frozen_states"."""

    def __init__(self, rows: Sequence[dict[str, Any]], states: Sequence[numpy.ndarray]) -> None:
        self.rows = rows
        self.states = states

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {**self.rows[place], "frozen_states": self.states[place]}


class PadStates:
    """Makes one batch of such rows, "frozen_states" of it a `FrozenStates`; the rest by `pad`.

    Args:
        whole: whether a row's states go on after its tokens, of padding up to the longest row of all; else they are 0
            at padding.
    """

    def __init__(
        self, pad: Callable[[list[dict[str, Any]]], dict[str, numpy.ndarray]], source: str, whole: bool
    ) -> None:
        self.pad = pad
        self.source = source
        self.whole = whole

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        rows = [{name: x for name, x in example.items() if name != "frozen_states"} for example in examples]
        batch = self.pad(rows)
        mask = batch["attention_mask"].astype(bool)
        if self.whole:
            states = numpy.stack([example["frozen_states"][: mask.shape[1]] for example in examples])
            return {**batch, "frozen_states": FrozenStates(states, self.source)}
        found = numpy.concatenate([example["frozen_states"] for example in examples])
        states = numpy.zeros((*mask.shape, found.shape[1]), "float32")
        states[mask] = found  # in the order of their tokens
        return {**batch, "frozen_states": FrozenStates(states, self.source)}


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of arrays as one of tensors."""
    return {
        name: FrozenStates(ops.tensor(x.states), x.source) if isinstance(x, FrozenStates) else ops.tensor(x)
        for name, x in batch.items()
    }
