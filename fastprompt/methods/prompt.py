"""What every prompt module does, and what one is built from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastprompt.framework import nn

import numpy


class Prompt(nn.Module):
    """A trained prompt; calling it gives its values."""

    def attach(self, inputs: dict[str, Any], backbone: Any, pseudo_tokens: Any = None) -> dict[str, Any]:
        """What the backbone is called with for a batch and this prompt.

        Args:
            inputs: the batch: input_ids (B, T), attention_mask (B, T), and token_type_ids (B, T) where it has them.
            pseudo_tokens: (B, T), where a template has the prompt among its words: which pseudo token stands at a
                position, counted from 1, and 0 for the others.

        Raises:
            DataError: pseudo_tokens are missing.
        """
        raise NotImplementedError

    def collapse(self) -> dict[str, numpy.ndarray]:
        """The prompt as it is used, by the names of `MethodConfig.prompt_tensors`; the same bytes from the same
        weights under every framework."""
        raise NotImplementedError

    def expand_from(self, stored: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        """The weights of the module that give the values `stored`; of a prompt that is made by no network."""
        raise NotImplementedError


@dataclass
class BuildContext:
    """What a prompt is built from.

    Args:
        backbone: a loaded backbone; its sizes, and for some initial values its weights, are read.
        tokenize: text -> token ids without special tokens; for init="text".
        seed: seeds the initial values.
    """

    backbone: Any
    tokenize: Callable[[str], Sequence[int]]
    seed: int = 0
