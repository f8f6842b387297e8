"""What configurations of methods share: a dataclass for all, one for deep prompts, one for shallow ones.

A configuration says what a prompt is, apart from its values. It checks itself when it is made, and is written to and
read from the prompt file as plain JSON. It imports no framework.

A field whose metadata has a "help" text is an option of the command line. Further keys of the metadata: "option", its
name there where that is not the field's; "choices"; "read", which makes the value from a text; "only_with", the name
and the value of another field without which it has no effect; "start", whether it is about the initial values alone.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastprompt.cloze.template import Template
from fastprompt.cloze.verbalizer import check_verbalizer, read_verbalizer
from fastprompt.errors import ConfigError
from fastprompt.methods.checks import one_of, plain, probability, some_of, whole_number
from fastprompt.methods.layers import layers_of, read_layers
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.geometry import geometry

POOLINGS = ("first", "last", "mean", "prompt")
PREFIX_PARTS = ("encoder", "decoder", "cross")


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
    trains: ClassVar[bool] = True
    tunes_backbone: ClassVar[bool] = False
    tunes_pretrained_head: ClassVar[bool] = False  # a language model's own head, which else is frozen
    has_prompt: ClassVar[bool] = False
    takes_pseudo_tokens: ClassVar[bool] = False  # whether its prompt can stand among a template's words
    prefix_layers: ClassVar[tuple[int, ...] | str | None] = None  # the chosen ones; None: it chooses none
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
        for field_ in dataclasses.fields(self):  # NumPy's numbers too are written to the prompt file
            setattr(self, field_.name, plain(getattr(self, field_.name)))
        if self.template is not None:
            self.template = Template(self.template).text
        if self.num_pseudo and not self.takes_pseudo_tokens:
            raise ConfigError(
                f"The template has {self.num_pseudo} pseudo tokens [P], which {self.method} has no use for; "
                f"leave them off, or use p-tuning, prompt-tuning or shallow-prefix."
            )
        if self.verbalizer is not None:
            self.verbalizer = check_verbalizer(self.verbalizer)
        if self.pooling is not None:
            one_of("pooling", self.pooling, POOLINGS)
        if self.pooling == "prompt" and not self.takes_pseudo_tokens:
            raise ConfigError(
                f"pooling='prompt' needs a shallow prompt; {self.method} has none: use 'first' or 'mean'."
            )

    def tunes(self, name: str) -> bool:
        """Whether training changes the pretrained tensor `name`, of the backbone or of a head it brings."""
        return self.tunes_backbone

    @property
    def has_encoder(self) -> bool:
        """Whether a network makes the prompt, so that its weights and not the prompt itself are trained."""
        return False

    @property
    def prompt_tensors(self) -> tuple[str, ...]:
        """What the prompt's tensors are called in a prompt file."""
        return ()

    @property
    def num_pseudo(self) -> int:
        """How many pseudo tokens the template has."""
        return Template(self.template).num_pseudo if self.template else 0

    @property
    def length_before(self) -> int:
        """How many positions the prompt takes before the input's own."""
        return 0

    @property
    def position_shift(self) -> int:
        """How far the positions of the input's tokens are moved without the input becoming longer."""
        return 0

    @property
    def positions_taken(self) -> int:
        """How many of the backbone's positions the prompt uses; in a template they count as the input's."""
        return self.length_before or self.position_shift

    @property
    def default_learning_rate(self) -> float:
        """What the command line trains with where no rate is given."""
        return self.learning_rate

    @property
    def described(self) -> str:
        """The method as messages name it."""
        return self.method

    @property
    def notes(self) -> list[str]:
        """What a user of these options should know, a line each."""
        return []

    def with_dropout(self, rate: float) -> "MethodConfig":
        """The same with this dropout of the prompt, where it has one."""
        return self

    def for_backbone(self, checkpoint: Checkpoint) -> "MethodConfig":
        """The same with what it leaves to the backbone filled in.

        Raises:
            ConfigError: an option does not go with this backbone.
        """
        return self

    def first_changed_layer(self, layers: int) -> int:
        """The first of a backbone's `layers` that does not stay as it is, or gets an input of its own; `layers` where
        all stay."""
        return 0 if self.has_prompt or self.tunes_backbone else layers

    def prepare(self, backbone: Any) -> None:
        """Change in a loaded backbone what the method asks for.

        Raises:
            ConfigError: this backbone cannot do that.
        """

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, **dataclasses.asdict(self)}


@dataclass(kw_only=True)
class PromptMethodConfig(MethodConfig):
    """What all methods with a prompt share.

    Args:
        use_lm_finetune: train the backbone together with the prompt, at a rate of its own, as P-Tuning does on
            SuperGLUE (Liu et al., 2021, arXiv:2103.10385). A prompt file then holds the trained backbone too.
    """

    has_prompt: ClassVar[bool] = True
    use_lm_finetune: bool = field(default=False, metadata={"help": "train the backbone too, together with the prompt"})

    @property
    def tunes_backbone(self) -> bool:
        return self.use_lm_finetune

    @property
    def described(self) -> str:
        return f"{self.method} with use_lm_finetune" if self.use_lm_finetune else self.method


@dataclass(kw_only=True)
class DeepConfig(PromptMethodConfig):
    """A prompt of keys and values before the attention of every layer, or of chosen ones.

    Args, beside those of `PromptMethodConfig`:
        pre_seq_len: number of prefix positions.
        prefix_dropout: dropout on keys and values while training, drawn anew for every row of a batch.
        shift_positions: count the tokens' positions from `pre_seq_len`, as `past_key_values` does (P-Tuning v2's own
            code, PEFT); otherwise from 0. Of an encoder-decoder only a prefix of the decoder alone may.
        prefix_parts: of an encoder-decoder, which attention has a prefix: the "encoder"'s to its text, the "decoder"'s
            to what it has written, the decoder's to the encoder's states ("cross"). Each has keys and values of its
            own. None: all three (Li and Liang, 2021, arXiv:2101.00190).
        prefix_layers: the layers that have a prefix, by their indices from 0, or "last:N", the last N of the backbone,
            which a model turns into indices; None: all. Of an encoder-decoder they are meant of each of its parts.
            What comes before the first of them is the frozen backbone alone, and has no dropout.
    """

    pre_seq_len: int = field(default=20, metadata={"help": "length of the prompt; default: 20, or the template's [P]"})
    prefix_dropout: float = 0.0
    shift_positions: bool = field(
        default=False, metadata={"help": "count the tokens' positions from pre_seq_len, as past_key_values does"}
    )
    prefix_parts: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "an encoder-decoder's attention that has a prefix: encoder decoder cross; default: all"},
    )
    prefix_layers: tuple[int, ...] | str | None = field(
        default=None, metadata={"help": "layers that have a prefix: last:2, or 4 5, counted from 0; default: all"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("pre_seq_len", self.pre_seq_len)
        probability("prefix_dropout", self.prefix_dropout)
        if self.prefix_parts is not None:
            self.prefix_parts = some_of("prefix_parts", self.prefix_parts, PREFIX_PARTS)
        if self.prefix_layers is not None:
            self.prefix_layers = read_layers(self.prefix_layers)

    @property
    def prompt_tensors(self) -> tuple[str, ...]:
        names = ("key", "value")
        return tuple(f"{part}.{name}" for part in self.prefix_parts for name in names) if self.prefix_parts else names

    @property
    def position_shift(self) -> int:
        return self.pre_seq_len if self.shift_positions else 0

    def with_dropout(self, rate: float) -> "MethodConfig":
        return dataclasses.replace(self, prefix_dropout=rate)

    def for_backbone(self, checkpoint: Checkpoint) -> "MethodConfig":
        if not checkpoint.family.encoder_decoder:
            if self.prefix_parts:
                raise ConfigError(
                    f"prefix_parts are an encoder-decoder's, and {checkpoint.name} ({checkpoint.model_type}) is none; "
                    f"leave them off."
                )
            return self._with_layers(checkpoint, {"": geometry(checkpoint.config).layers})
        if self.shift_positions and self.prefix_parts != ("decoder",):
            raise ConfigError(
                f"{checkpoint.name} ({checkpoint.model_type}) counts its positions itself; leave shift_positions off, "
                f"which is for a prefix of its decoder alone (prefix_parts)."
            )
        parts, sizes = self.prefix_parts or PREFIX_PARTS, geometry(checkpoint.config)
        config = dataclasses.replace(self, prefix_parts=parts)
        return config._with_layers(
            checkpoint, {part: sizes.layers if part == "encoder" else sizes.decoder_layers for part in parts}
        )

    def first_changed_layer(self, layers: int) -> int:
        return self.prefix_layers[0] if self.prefix_layers and not self.tunes_backbone else 0

    def prepare(self, backbone: Any) -> None:
        if self.prefix_layers and not self.tunes_backbone:
            parts = (self.prefix_parts,) if self.prefix_parts else ()
            backbone.no_dropout_before(self.prefix_layers[0], *parts)

    def _with_layers(self, checkpoint: Checkpoint, counts: dict[str, int]) -> "MethodConfig":
        """The same with the indices of `prefix_layers`; None where they are all.

        Args:
            counts: how many layers each part of the backbone has.
        """
        if self.prefix_layers is None:
            return self
        chosen = {part: layers_of(self.prefix_layers, count, checkpoint.name) for part, count in counts.items()}
        layers = next(iter(chosen.values()))
        if other := next((part for part, found in chosen.items() if found != layers), None):
            raise ConfigError(
                f"prefix_layers is {self.prefix_layers!r}, and {checkpoint.name} has {counts} layers, so that they are "
                f"others in its {other}: name them by their indices, or one part with prefix_parts."
            )
        return dataclasses.replace(self, prefix_layers=None if len(layers) == max(counts.values()) else layers)


@dataclass(kw_only=True)
class ShallowConfig(PromptMethodConfig):
    """A prompt of input embeddings, before the input's own or at a template's pseudo tokens."""

    takes_pseudo_tokens: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Number of embeddings."""
        raise NotImplementedError

    @property
    def prompt_tensors(self) -> tuple[str, ...]:
        return ("embedding",)

    @property
    def length_before(self) -> int:
        return 0 if self.num_pseudo else self.length

    def _check_length(self, name: str, default: int = 20) -> None:
        """Set the option `name`, the prompt's length, to what is given, the template's, or `default`."""
        if getattr(self, name) is None:
            setattr(self, name, self.num_pseudo or default)
        whole_number(name, getattr(self, name))
        if self.num_pseudo not in (0, getattr(self, name)):
            raise ConfigError(
                f"{name} is {getattr(self, name)}, and the template has {self.num_pseudo} pseudo tokens [P]; "
                f"leave {name} off."
            )
