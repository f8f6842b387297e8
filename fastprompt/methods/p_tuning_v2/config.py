"""P-Tuning v2's options (Liu et al., 2022, arXiv:2110.07602)."""

from dataclasses import dataclass, field
from typing import ClassVar

from fastprompt.errors import ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.checks import at_least_one, check_init, positive, probability, some_of

PREFIX_PARTS = ("encoder", "decoder", "cross")


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
    pre_seq_len: int = field(default=20, metadata={"help": "length of the prompt; default: 20, or the template's [P]"})
    prefix_projection: bool = field(default=False, metadata={"help": "make the prefix with a two-layer network"})
    prefix_hidden_size: int = field(
        default=512,
        metadata={
            "help": "inner width of the network of --prefix_projection; default: 512",
            "only_with": ("prefix_projection", True),
        },
    )
    prefix_dropout: float = 0.0
    init_std: float = field(
        default=0.2,
        metadata={"help": "standard deviation of the prompt's initial values", "only_with": ("init", "random")},
    )
    init: str = field(
        default="random", metadata={"help": "initial values: random, text, or (prompt-tuning) vocabulary"}
    )
    init_text: str | None = field(default=None, metadata={"help": "the text of --init text"})
    shift_positions: bool = field(
        default=False, metadata={"help": "count the tokens' positions from pre_seq_len, as past_key_values does"}
    )
    prefix_parts: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "an encoder-decoder's attention that has a prefix: encoder decoder cross; default: all"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one("pre_seq_len", self.pre_seq_len)
        at_least_one("prefix_hidden_size", self.prefix_hidden_size)
        if self.prefix_parts is not None:
            self.prefix_parts = some_of("prefix_parts", self.prefix_parts, PREFIX_PARTS)
        probability("prefix_dropout", self.prefix_dropout)
        positive("init_std", self.init_std)
        check_init(self.init, self.init_text, ("random", "text"))
        if self.init == "text" and self.prefix_projection:
            raise ConfigError("init='text' gives the keys and values themselves; leave prefix_projection off.")

    @property
    def has_encoder(self) -> bool:
        return self.prefix_projection

    @property
    def default_learning_rate(self) -> float:
        """A network takes smaller steps than the keys and values themselves."""
        return 1e-3 if self.prefix_projection else self.learning_rate
