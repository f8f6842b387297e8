"""How a model reads examples: its tokenizer, how much of them fits, and what is noted on the way."""

import sys
from dataclasses import dataclass, field
from functools import cached_property

from fastprompt.models.base import PromptModel
from fastprompt.options.groups import DataOptions, EvaluationOptions
from fastprompt.pretrained.tokenizer import Tokenizer, load_tokenizer


@dataclass
class Reading:
    """A model with the options of data and answers that it reads with.

    Attributes:
        version_2: whether questions may have no answer, as in SQuAD 2.0; a split of data says it by itself.
        notes: what was cut or left out so far.
    """

    model: PromptModel
    data: DataOptions
    evaluation: EvaluationOptions
    version_2: bool = False
    notes: list[str] = field(default_factory=list)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.model.checkpoint.directory)

    @property
    def max_length(self) -> int:
        """max_seq_length, or what the backbone's positions leave beside the prompt where that is less."""
        max_seq_length, limit = self.data.max_seq_length, self.model.max_length
        return max_seq_length if limit is None else min(max_seq_length, limit)

    def print_notes(self) -> None:
        print_notes(self.notes)
        self.notes.clear()


def print_notes(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)  # "fastprompt: " begins an error, which `compare` quotes as the reason
