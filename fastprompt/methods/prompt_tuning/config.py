"""Options of prompt tuning (Lester et al., 2021, arXiv:2104.08691) and of tutorial E2's shallow prefix."""

from dataclasses import dataclass, field
from typing import ClassVar

from fastprompt.methods.base import ShallowConfig
from fastprompt.methods.checks import check_init, positive

INITS = ("random", "zero", "vocabulary", "text")


@dataclass(kw_only=True)
class ShallowPrefixConfig(ShallowConfig):
    """The prompt of fastNLP's tutorial E2: trained embeddings before the input's own, initialised from N(0, init_std).

    `ShallowPrefixConfig(pooling="prompt", train_head=False)` is the tutorial as written.
    """

    method: ClassVar[str] = "shallow-prefix"
    learning_rate: ClassVar[float] = 1e-2
    init: ClassVar[str] = "normal"
    pre_seq_len: int | None = field(
        default=None, metadata={"help": "length of the prompt; default: 20, or the template's [P]"}
    )
    init_std: float = field(
        default=1.0, metadata={"help": "standard deviation of the prompt's initial values", "start": True}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("pre_seq_len")
        positive("init_std", self.init_std)

    @property
    def length(self) -> int:
        return self.pre_seq_len


@dataclass(kw_only=True)
class PromptTuningConfig(ShallowConfig):
    """Prompt tuning (Lester et al., 2021, arXiv:2104.08691).

    Args:
        num_virtual_tokens: number of trained input embeddings; None: the template's, or 20.
        init: "random" (uniform in [-0.5, 0.5], the paper's), "zero", "vocabulary" (embeddings of tokens drawn from the
            vocabulary) or "text" (embeddings of `init_text`, repeated or cut to length).
        init_text: the text of init="text".
    """

    method: ClassVar[str] = "prompt-tuning"
    learning_rate: ClassVar[float] = 1e-2
    num_virtual_tokens: int | None = field(
        default=None,
        metadata={"help": "length of the prompt; default: 20, or the template's [P]", "option": "pre_seq_len"},
    )
    init: str = field(
        default="vocabulary",
        metadata={"help": "initial values: random, zero, text, or (prompt-tuning) vocabulary", "start": True},
    )
    init_text: str | None = field(default=None, metadata={"help": "the text of --init text", "start": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("num_virtual_tokens")
        check_init(self.init, self.init_text, INITS)

    @property
    def length(self) -> int:
        return self.num_virtual_tokens
