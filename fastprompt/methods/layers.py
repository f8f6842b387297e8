"""The choice of layers that have a prefix: indices from 0, or "last:N"."""

import re
from typing import Any

from fastprompt.errors import ConfigError

_FORMS = "it is last:N, or indices of layers, counted from 0, each once"


def read_layers(given: Any) -> tuple[int, ...] | str:
    """Indices in ascending order, or "last:N", from what a script or the command line gives.

    Raises:
        ConfigError: it is neither, empty, or names a layer twice.
    """
    wrong = ConfigError(f"prefix_layers is {given!r}; {_FORMS}.")
    words = given.split() if isinstance(given, str) else given
    if not isinstance(words, list | tuple | range) or not words:
        raise wrong
    if len(words) == 1 and isinstance(words[0], str) and re.fullmatch(r"last:0*[1-9]\d*", words[0], re.ASCII):
        return f"last:{int(words[0].removeprefix('last:'))}"
    layers = [int(word) if isinstance(word, str) and re.fullmatch(r"\d+", word, re.ASCII) else word for word in words]
    if any(isinstance(layer, bool) or not isinstance(layer, int) or layer < 0 for layer in layers):
        raise wrong
    if len(set(layers)) < len(layers):
        raise wrong
    return tuple(sorted(layers))


def layers_of(chosen: tuple[int, ...] | str, count: int, name: str) -> tuple[int, ...]:
    """The indices that `chosen`, as `read_layers` gives it, means in the backbone `name` of `count` layers.

    Raises:
        ConfigError: it has no such layer.
    """
    if isinstance(chosen, str):
        last = int(chosen.removeprefix("last:"))
        if last <= count:
            return tuple(range(count - last, count))
    elif chosen[-1] < count:
        return chosen
    raise ConfigError(f"prefix_layers is {chosen!r}, and {name} has {count} layers, 0 to {count - 1}.")
