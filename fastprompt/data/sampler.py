"""Which examples make a batch: lengths grouped, reproducible, the same under every framework."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
from fastNLP import ReproducibleBatchSampler

LOSS_WEIGHT = "loss_weight"  # a batch's key: how much its mean loss counts in that of the batch it is a share of
_POOL = 100  # batches sorted by length together; more would mix less and save no more padding


class Share(list):
    """The examples of a batch that one process gets, by their indices; in one process they are all.

    Attributes:
        weight: their share in what the whole batch's mean loss is over; None in one process.
        total: how many examples the whole batch has.
    """

    def __init__(self, indices: Sequence[int], weight: float | None, total: int) -> None:
        super().__init__(indices)
        self.weight = weight
        self.total = total


def with_weight(batch: dict[str, Any], indices: Sequence[int]) -> dict[str, Any]:
    """`batch`, with the weight of the share that it was made from where there is one."""
    weight = getattr(indices, "weight", None)
    return batch if weight is None else {**batch, LOSS_WEIGHT: weight}


class LengthGroupedBatchSampler(ReproducibleBatchSampler):
    """A fastNLP batch sampler that groups examples of like length.

    With `shuffle` the examples are shuffled, sorted by length within pools of 100 batches, cut into batches, and the
    batches shuffled; anew in every epoch, from `seed` and the epoch's number. Without it they stand by length.

    Of several processes each takes its share of every batch, which has then `batch_size` examples for each of them:
    the batches are those of one process with that many times the size.

    Args:
        lengths: the examples' lengths in tokens.
        counts: how many of an example's labels the mean loss is over; None: one each.
        pad: in training, let a process without an example in a batch take part with one that has no weight; else such
            a batch is left out.
    """

    # fastNLP makes a copy by calling the class with vars(sampler): attributes are named as the arguments.
    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        shuffle: bool,
        seed: int,
        counts: Sequence[int] | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        pad: bool = True,
        epoch: int = 0,
        consumed: int = 0,
        **_: Any,
    ) -> None:
        super().__init__()
        self.lengths = numpy.asarray(lengths)
        self.counts = numpy.ones(len(lengths)) if counts is None else numpy.asarray(counts)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.pad = pad
        self.epoch = epoch
        self.consumed = consumed  # batches of this epoch already handed out
        self._start = consumed  # where the next iteration begins: after those, once, after a resume

    def _batches(self) -> list[numpy.ndarray]:
        order = numpy.arange(len(self.lengths))
        if not self.shuffle:
            return self._cut(order[numpy.argsort(self.lengths, kind="stable")])
        generator = numpy.random.default_rng([self.seed, max(self.epoch, 0)])  # fastNLP evaluates in epoch -1
        generator.shuffle(order)
        size = self._whole * _POOL
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        pools = [pool[numpy.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = self._cut(numpy.concatenate(pools))
        generator.shuffle(batches)
        return batches

    def _cut(self, order: numpy.ndarray) -> list[numpy.ndarray]:
        return [order[start : start + self._whole] for start in range(0, len(order), self._whole)]

    @property
    def _whole(self) -> int:
        """Examples in a batch of all processes."""
        return self.batch_size * self.num_replicas

    def _share(self, whole: numpy.ndarray) -> Share:
        batch = whole.tolist()
        if self.num_replicas == 1:
            return Share(batch, None, len(batch))
        own = batch[self.rank :: self.num_replicas]  # in strides: they stand by length
        weight = self.counts[own].sum() / max(1, self.counts[batch].sum()) if own else 0.0
        return Share(own or batch[:1], float(weight), len(batch))

    def __iter__(self) -> Iterator[Share]:
        self.consumed, self._start = self._start, 0
        for batch in self._batches()[self.consumed :]:
            self.consumed += 1
            if self.pad or self.rank < len(batch):
                yield self._share(batch)
        self.consumed = 0
        self.epoch += 1  # fastNLP calls set_epoch under some drivers only

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self._whole)
        return whole + (rest > 0 if self.pad else rest > self.rank)

    @property
    def batch_idx_in_epoch(self) -> int:
        return self.consumed

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def set_distributed(self, num_replicas: int, rank: int, pad: bool = True) -> "LengthGroupedBatchSampler":
        self.num_replicas, self.rank, self.pad = num_replicas, rank, pad
        return self

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, states: dict[str, int]) -> None:
        self.seed, self.epoch, self.consumed = states["seed"], states["epoch"], states["consumed"]
        self._start = self.consumed
