"""Initial values of fresh tensors, drawn with NumPy so that they are the same under every framework.

Each tensor draws from a generator of its own, seeded by the run's seed and the tensor's name: neither the order in
which a framework creates its parameters nor a tensor more or less changes the others.
"""

import zlib
from collections.abc import Callable, Sequence

from fastprompt.errors import ConfigError

import numpy


def generator(seed: int, name: str) -> numpy.random.Generator:
    return numpy.random.default_rng([seed, zlib.crc32(name.encode())])


def normal(seed: int, name: str, shape: tuple[int, ...], std: float) -> numpy.ndarray:
    if std == 0:  # a product with it would have zeros of both signs
        return numpy.zeros(shape, "float32")
    return (generator(seed, name).standard_normal(shape) * std).astype("float32")


def uniform(seed: int, name: str, shape: tuple[int, ...], bound: float) -> numpy.ndarray:
    values = generator(seed, name).random(shape, dtype="float32")  # in place from here on: an LSTM's are large
    values *= 2 * bound
    values -= bound
    return values


def tokens_of_text(text: str, length: int, tokenize: Callable[[str], Sequence[int]]) -> list[int]:
    """The ids of a text's tokens, repeated or cut to `length`.

    Raises:
        ConfigError: it has none.
    """
    ids = tokenize(text)
    if not ids:
        raise ConfigError(f"init_text {text!r} has no token.")
    return [ids[i % len(ids)] for i in range(length)]
