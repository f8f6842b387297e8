"""One dataclass per method: what a prompt is, apart from its values.

A configuration checks itself when it is made, and is written to and read from the prompt file as plain JSON.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from fastprompt.cloze.template import Template
from fastprompt.cloze.verbalizer import check_verbalizer
from fastprompt.errors import ConfigError

POOLINGS = ("first", "last", "mean", "prompt")
INITS = ("random", "vocabulary", "text")
ENCODERS = ("lstm", "mlp")
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
    tunes_backbone: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    prompt_kind: ClassVar[str | None] = None  # "deep": keys and values of every layer, "shallow": input embeddings
    pooling: str | None = None
    train_head: bool = True
    template: str | None = None
    verbalizer: dict[str, list[str]] | None = None

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
            _one_of("pooling", self.pooling, POOLINGS)
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
        _at_least_one(name, getattr(self, name))
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
class PTuningV2Config(MethodConfig):
    """P-Tuning v2 (Liu et al., 2022, arXiv:2110.07602): trained keys and values before every layer's attention.

    Args:
        pre_seq_len: number of prefix positions.
        prefix_projection: make the keys and values with a two-layer Tanh network instead of storing them.
        prefix_hidden_size: that network's inner width.
        prefix_dropout: dropout on keys and values while training, drawn anew for every row of a batch.
        init_std: standard deviation of the initial embedding.
        init: "random", or "text": the backbone's own keys and values of `init_text`, repeated or cut to length (prefix
            tuning's initialisation with real words: Li and Liang, 2021, arXiv:2101.00190).
        init_text: the text of init="text".
        shift_positions: count the tokens' positions from `pre_seq_len`, as `past_key_values` does (P-Tuning v2's own
            code, PEFT); otherwise from 0.
        prefix_parts: of an encoder-decoder, which attention has a prefix: the "encoder"'s to its text, the "decoder"'s
            to what it has written, the decoder's to the encoder's states ("cross"). Each has keys and values of its
            own, and under projection a network of its own. None: all three (Li and Liang, 2021, arXiv:2101.00190).
    """

    method: ClassVar[str] = "p-tuning-v2"
    learning_rate: ClassVar[float] = 3e-2
    prompt_kind: ClassVar[str | None] = "deep"
    pre_seq_len: int = 20
    prefix_projection: bool = False
    prefix_hidden_size: int = 512
    prefix_dropout: float = 0.0
    init_std: float = 0.2
    init: str = "random"
    init_text: str | None = None
    shift_positions: bool = False
    prefix_parts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one("pre_seq_len", self.pre_seq_len)
        _at_least_one("prefix_hidden_size", self.prefix_hidden_size)
        if self.prefix_parts is not None:
            self.prefix_parts = _some_of("prefix_parts", self.prefix_parts, PREFIX_PARTS)
        _probability("prefix_dropout", self.prefix_dropout)
        _positive("init_std", self.init_std)
        _check_init(self.init, self.init_text, ("random", "text"))
        if self.init == "text" and self.prefix_projection:
            raise ConfigError("init='text' gives the keys and values themselves; leave prefix_projection off.")

    @property
    def has_encoder(self) -> bool:
        return self.prefix_projection

    @property
    def default_learning_rate(self) -> float:
        """A network takes smaller steps than the keys and values themselves."""
        return 1e-3 if self.prefix_projection else self.learning_rate


@dataclass(kw_only=True)
class _ShallowConfig(MethodConfig):
    prompt_kind: ClassVar[str | None] = "shallow"

    @property
    def length(self) -> int:
        raise NotImplementedError

    @property
    def length_before(self) -> int:
        return 0 if self.num_pseudo else self.length


@dataclass(kw_only=True)
class ShallowPrefixConfig(_ShallowConfig):
    """The prompt of fastNLP's tutorial E2: trained embeddings before the input's own, initialised from N(0, init_std).

    `ShallowPrefixConfig(pooling="prompt", train_head=False)` is the tutorial as written.
    """

    method: ClassVar[str] = "shallow-prefix"
    learning_rate: ClassVar[float] = 1e-2
    pre_seq_len: int | None = None  # the template's, or 20
    init_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("pre_seq_len")
        _positive("init_std", self.init_std)

    @property
    def length(self) -> int:
        return self.pre_seq_len


@dataclass(kw_only=True)
class PromptTuningConfig(_ShallowConfig):
    """Prompt tuning (Lester et al., 2021, arXiv:2104.08691).

    Args:
        num_virtual_tokens: number of trained input embeddings; None: the template's, or 20.
        init: "random" (uniform in [-0.5, 0.5], the paper's), "vocabulary" (embeddings of tokens drawn from the
            vocabulary) or "text" (embeddings of `init_text`, repeated or cut to length).
        init_text: the text of init="text".
    """

    method: ClassVar[str] = "prompt-tuning"
    learning_rate: ClassVar[float] = 1e-2
    num_virtual_tokens: int | None = None
    init: str = "vocabulary"
    init_text: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("num_virtual_tokens")
        _check_init(self.init, self.init_text, INITS)

    @property
    def length(self) -> int:
        return self.num_virtual_tokens


@dataclass(kw_only=True)
class PTuningConfig(_ShallowConfig):
    """P-Tuning v1 (Liu et al., 2021, arXiv:2103.10385): input embeddings made by a trained network.

    Args:
        num_virtual_tokens: number of input embeddings; None: the template's, or 20.
        encoder: the network, "lstm" (bidirectional, with two linear layers behind it; the paper's) or "mlp" (three
            linear layers).
        encoder_hidden_size: its inner width, of each direction for the LSTM. None: the backbone's embedding size, as
            in PEFT; half of it is the paper's code's.
        encoder_num_layers: layers of the LSTM.
        encoder_dropout: dropout between the LSTM's layers while training.
        init_std: standard deviation of the initial embedding that goes into the network; 1 as in the paper's code.
    """

    method: ClassVar[str] = "p-tuning"
    learning_rate: ClassVar[float] = 1e-2
    num_virtual_tokens: int | None = None
    encoder: str = "lstm"
    encoder_hidden_size: int | None = None
    encoder_num_layers: int = 2
    encoder_dropout: float = 0.0
    init_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("num_virtual_tokens")
        _one_of("encoder", self.encoder, ENCODERS)
        if self.encoder_hidden_size is not None:
            _at_least_one("encoder_hidden_size", self.encoder_hidden_size)
        _at_least_one("encoder_num_layers", self.encoder_num_layers)
        _probability("encoder_dropout", self.encoder_dropout)
        _positive("init_std", self.init_std)

    @property
    def length(self) -> int:
        return self.num_virtual_tokens

    @property
    def has_encoder(self) -> bool:
        return True


@dataclass(kw_only=True)
class FineTuningConfig(MethodConfig):
    """Yardstick: every weight of backbone and head is trained."""

    method: ClassVar[str] = "fine-tuning"
    learning_rate: ClassVar[float] = 5e-5
    tunes_backbone: ClassVar[bool] = True


@dataclass(kw_only=True)
class LinearProbeConfig(MethodConfig):
    """Yardstick: the head alone is trained."""

    method: ClassVar[str] = "linear-probe"
    learning_rate: ClassVar[float] = 1e-2


@dataclass(kw_only=True)
class BitFitConfig(MethodConfig):
    """Yardstick: biases and the head are trained (Ben Zaken et al., 2022, arXiv:2106.10199)."""

    method: ClassVar[str] = "bitfit"
    learning_rate: ClassVar[float] = 1e-3
    tunes_backbone: ClassVar[bool] = True


@dataclass(kw_only=True)
class ManualConfig(MethodConfig):
    """Yardstick: nothing is trained; a written template asks the language model as it is."""

    method: ClassVar[str] = "manual"
    learning_rate: ClassVar[float] = 1e-2  # for no step
    trains: ClassVar[bool] = False


METHODS: dict[str, type[MethodConfig]] = {
    kind.method: kind
    for kind in (
        PTuningV2Config,
        PTuningConfig,
        ShallowPrefixConfig,
        PromptTuningConfig,
        FineTuningConfig,
        LinearProbeConfig,
        BitFitConfig,
        ManualConfig,
    )
}


def method_config(method: str, **options: Any) -> MethodConfig:
    """The configuration of `method` with those of `options` that it has.

    Raises:
        ConfigError: there is no such method, or an option's value cannot work.
    """
    _one_of("method", method, tuple(METHODS))
    kind = METHODS[method]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in options.items() if name in names})


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; it is one of {', '.join(allowed)}.")


def _some_of(name: str, values: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """`values` in the order of `allowed`."""
    if not isinstance(values, list | tuple) or not values or len(set(values)) < len(values):
        raise ConfigError(f"{name} is {values!r}; it holds one or more of {', '.join(allowed)}, each once.")
    for value in values:
        _one_of(name, value, allowed)
    return tuple(value for value in allowed if value in values)


def _at_least_one(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it is a whole number from 1 on.")


def _probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}; it lies from 0 up to, but not including, 1.")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} is {value!r}; it must be above 0.")


def _check_init(init: str, text: str | None, known: tuple[str, ...]) -> None:
    _one_of("init", init, known)
    if (init == "text") != bool(text):
        raise ConfigError("init_text goes with init='text', and init='text' needs it.")
