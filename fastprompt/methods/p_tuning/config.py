"""P-Tuning's options (Liu et al., 2021, arXiv:2103.10385)."""

from dataclasses import dataclass, field
from typing import ClassVar

from fastprompt.methods.base import ShallowConfig
from fastprompt.methods.checks import one_of, positive, probability, whole_number

ENCODERS = ("lstm", "mlp")


@dataclass(kw_only=True)
class PTuningConfig(ShallowConfig):
    """P-Tuning v1 (Liu et al., 2021, arXiv:2103.10385): input embeddings made by a trained network.

    Args:
        num_virtual_tokens: number of input embeddings; None: the template's, or 20.
        encoder: the network, "lstm" (bidirectional, with two linear layers after it; the paper's) or "mlp" (three
            linear layers).
        encoder_hidden_size: its inner width, of each direction for the LSTM. None: the backbone's embedding size, as
            in PEFT; half of it is the paper's code's.
        encoder_num_layers: layers of the LSTM.
        encoder_dropout: dropout between the LSTM's layers while training.
        init_std: standard deviation of the initial embedding that goes into the network; 1 as in the paper's code.
    """

    method: ClassVar[str] = "p-tuning"
    learning_rate: ClassVar[float] = 1e-2
    num_virtual_tokens: int | None = field(
        default=None,
        metadata={"help": "length of the prompt; default: 20, or the template's [P]", "option": "pre_seq_len"},
    )
    encoder: str = field(
        default="lstm",
        metadata={
            "help": "the network that makes the prompt; default: lstm",
            "option": "prompt_encoder",
            "choices": ENCODERS,
        },
    )
    encoder_hidden_size: int | None = field(
        default=None, metadata={"help": "inner width of that network; default: the backbone's embedding size"}
    )
    encoder_num_layers: int = 2
    encoder_dropout: float = 0.0
    init_std: float = field(
        default=1.0, metadata={"help": "standard deviation of the prompt's initial values", "start": True}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("num_virtual_tokens")
        one_of("encoder", self.encoder, ENCODERS)
        if self.encoder_hidden_size is not None:
            whole_number("encoder_hidden_size", self.encoder_hidden_size)
        whole_number("encoder_num_layers", self.encoder_num_layers)
        probability("encoder_dropout", self.encoder_dropout)
        positive("init_std", self.init_std)

    @property
    def length(self) -> int:
        return self.num_virtual_tokens

    @property
    def has_encoder(self) -> bool:
        return True
