"""P-Tuning v2's options (Liu et al., 2022, arXiv:2110.07602)."""

from dataclasses import dataclass, field
from typing import ClassVar

from fastprompt.errors import ConfigError
from fastprompt.methods.base import DeepConfig
from fastprompt.methods.checks import check_init, positive, whole_number


@dataclass(kw_only=True)
class PTuningV2Config(DeepConfig):
    """P-Tuning v2 (Liu et al., 2022, arXiv:2110.07602): trained keys and values before the layers' attention.

    Args, beside those of `DeepConfig`:
        prefix_projection: make the keys and values with a two-layer Tanh network instead of storing them; of an
            encoder-decoder each part has a network of its own.
        prefix_hidden_size: that network's inner width.
        init_std: standard deviation of the initial embedding.
        init: "random"; "zero"; or "text": the backbone's own keys and values of `init_text`, repeated or cut to length
            (prefix tuning's initialisation with real words: Li and Liang, 2021, arXiv:2101.00190).
        init_text: the text of init="text".
    """

    method: ClassVar[str] = "p-tuning-v2"
    learning_rate: ClassVar[float] = 3e-2
    prefix_projection: bool = field(default=False, metadata={"help": "make the prefix with a two-layer network"})
    prefix_hidden_size: int = field(
        default=512,
        metadata={
            "help": "inner width of the network of --prefix_projection; default: 512",
            "only_with": ("prefix_projection", True),
        },
    )
    init_std: float = field(
        default=0.2,
        metadata={
            "help": "standard deviation of the prompt's initial values",
            "only_with": ("init", "random"),
            "start": True,
        },
    )
    init: str = field(
        default="random",
        metadata={"help": "initial values: random, zero, text, or (prompt-tuning) vocabulary", "start": True},
    )
    init_text: str | None = field(default=None, metadata={"help": "the text of --init text", "start": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("prefix_hidden_size", self.prefix_hidden_size)
        positive("init_std", self.init_std)
        check_init(self.init, self.init_text, ("random", "zero", "text"))
        if self.init != "random" and self.prefix_projection:
            raise ConfigError(f"init={self.init!r} gives the keys and values themselves; leave prefix_projection off.")

    @property
    def has_encoder(self) -> bool:
        return self.prefix_projection

    @property
    def notes(self) -> list[str]:
        if self.init != "zero" or self.prefix_dropout:
            return []
        return [
            "init zero makes all positions of the prefix the same, and they get the same gradient: without dropout "
            "of the prefix they learn as one position."
        ]

    @property
    def default_learning_rate(self) -> float:
        """A network takes smaller steps than the keys and values themselves."""
        return 1e-3 if self.prefix_projection else self.learning_rate
