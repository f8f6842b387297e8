"""Which examples make a batch: lengths grouped, reproducible, the same under every framework."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastprompt.errors import ConfigError

import numpy
from fastNLP import ReproducibleBatchSampler

_POOL = 100  # batches sorted by length together; more would mix less and save no more padding


class LengthGroupedBatchSampler(ReproducibleBatchSampler):
    """A fastNLP batch sampler that groups examples of like length.

    With `shuffle` the examples are shuffled, sorted by length within pools of 100 batches, cut into batches, and the
    batches shuffled; anew in every epoch, from `seed` and the epoch's number. Without it they stand by length.

    Args:
        lengths: the examples' lengths in tokens.
    """

    # fastNLP makes a copy by calling the class with vars(sampler): attributes are named as the arguments.
    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        shuffle: bool,
        seed: int,
        epoch: int = 0,
        consumed: int = 0,
        **_: Any,
    ) -> None:
        super().__init__()
        self.lengths = numpy.asarray(lengths)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.consumed = consumed  # batches of this epoch already handed out
        self._start = consumed  # where the next iteration begins: behind those, once, after a resume

    def _batches(self) -> list[list[int]]:
        order = numpy.arange(len(self.lengths))
        if not self.shuffle:
            return self._cut(order[numpy.argsort(self.lengths, kind="stable")])
        generator = numpy.random.default_rng([self.seed, max(self.epoch, 0)])  # fastNLP evaluates in epoch -1
        generator.shuffle(order)
        size = self.batch_size * _POOL
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        pools = [pool[numpy.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = self._cut(numpy.concatenate(pools))
        generator.shuffle(batches)
        return batches

    def _cut(self, order: numpy.ndarray) -> list[list[int]]:
        return [order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        self.consumed, self._start = self._start, 0
        for batch in self._batches()[self.consumed :]:
            self.consumed += 1
            yield batch
        self.consumed = 0
        self.epoch += 1  # fastNLP calls set_epoch under some drivers only

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    @property
    def batch_idx_in_epoch(self) -> int:
        return self.consumed

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def set_distributed(self, num_replicas: int, rank: int, pad: bool = True) -> "LengthGroupedBatchSampler":
        if num_replicas != 1:
            raise ConfigError("Training on several processes is not built yet; use one.")
        return self

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, states: dict[str, int]) -> None:
        self.seed, self.epoch, self.consumed = states["seed"], states["epoch"], states["consumed"]
        self._start = self.consumed
