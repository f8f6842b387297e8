"""One dataclass per method: what a prompt is, apart from its values.

A configuration checks itself when it is made, and is written to and read from the prompt file as plain JSON.

A field whose metadata has a "help" text is an option of the command line. Further keys of the metadata: "option", its
name there where that is not the field's; "choices"; "read", which makes the value from a text; "only_with", the name
and the value of another field without which it has no effect.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastprompt.cloze.template import Template
from fastprompt.cloze.verbalizer import check_verbalizer, read_verbalizer
from fastprompt.errors import ConfigError
from fastprompt.methods.checks import at_least_one, one_of

POOLINGS = ("first", "last", "mean", "prompt")


@dataclass(kw_only=True)
class MethodConfig:
    """What all methods share.

    Args:
        pooling: what a head of sequence classification or multiple choice reads: the "first" real token (BERT's
            [CLS]), the "last", the "mean" of the real tokens, or "prompt", position 0 of the lengthened input of a
            shallow prompt, as fastNLP's tutorial E2 and PEFT's prompt tuning read it. None takes what the checkpoint
            was trained with: "mean" for a sentence encoder whose folder says so, "last" for a causal model, else
            "first". Heads of the other tasks read every token and take none.
        train_head: False freezes the head with the backbone, as tutorial E2 does (for comparison only).
        template: of a masked language model, how its texts are written: see `fastprompt.cloze.template`. Three numbers,
            "(3, 3, 3)", are P-Tuning's for LAMA. Its pseudo tokens [P] are a shallow prompt's places, and their number
            its length; without them a prompt stands before the text, and a deep one always does.
        verbalizer: of a masked language model, the words that stand for each label at the blank.
    """

    method: ClassVar[str]
    learning_rate: ClassVar[float]
    tunes_backbone: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    prompt_kind: ClassVar[str | None] = None  # "deep": keys and values of every layer, "shallow": input embeddings
    pooling: str | None = field(default=None, metadata={"help": "what the head reads", "choices": POOLINGS})
    train_head: bool = True
    template: str | None = field(
        default=None,
        metadata={"help": "cloze: text with [X], [MASK] and pseudo tokens [P], or P-Tuning's numbers, as (3,3,3)"},
    )
    verbalizer: dict[str, list[str]] | None = field(
        default=None,
        metadata={"help": "words for a cloze's labels: JSON, or a file of it", "read": read_verbalizer},
    )

    def __post_init__(self) -> None:
        if self.template is not None:
            self.template = Template(self.template).text
        if self.num_pseudo and self.prompt_kind != "shallow":
            raise ConfigError(
                f"The template has {self.num_pseudo} pseudo tokens [P], which {self.method} has no use for; "
                f"leave them off, or use p-tuning, prompt-tuning or shallow-prefix."
            )
        if self.verbalizer is not None:
            self.verbalizer = check_verbalizer(self.verbalizer)
        if self.pooling is not None:
            one_of("pooling", self.pooling, POOLINGS)
        if self.pooling == "prompt" and self.prompt_kind != "shallow":
            raise ConfigError(
                f"pooling='prompt' needs a shallow prompt; {self.method} has none: use 'first' or 'mean'."
            )

    @property
    def has_encoder(self) -> bool:
        """Whether a network makes the prompt, so that its weights and not the prompt itself are trained."""
        return False

    @property
    def num_pseudo(self) -> int:
        """How many pseudo tokens the template has."""
        return Template(self.template).num_pseudo if self.template else 0

    @property
    def length_before(self) -> int:
        """How many positions the prompt takes before the input's own."""
        return 0

    def _check_length(self, name: str, default: int = 20) -> None:
        """Settle a shallow prompt's length: the template's, what is given, or `default`."""
        if getattr(self, name) is None:
            setattr(self, name, self.num_pseudo or default)
        at_least_one(name, getattr(self, name))
        if self.num_pseudo not in (0, getattr(self, name)):
            raise ConfigError(
                f"{name} is {getattr(self, name)}, and the template has {self.num_pseudo} pseudo tokens [P]; "
                f"leave {name} off."
            )

    @property
    def default_learning_rate(self) -> float:
        """What the command line trains with where no rate is given."""
        return self.learning_rate

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, **dataclasses.asdict(self)}


@dataclass(kw_only=True)
class ShallowConfig(MethodConfig):
    prompt_kind: ClassVar[str | None] = "shallow"

    @property
    def length(self) -> int:
        raise NotImplementedError

    @property
    def length_before(self) -> int:
        return 0 if self.num_pseudo else self.length
