"""The number of bits that a frozen backbone is held in."""

from dataclasses import dataclass

from fastprompt.errors import ConfigError
from fastprompt.framework import nn
from fastprompt.models.protocol import Model


@dataclass(frozen=True)
class Precision:
    """What `from_pretrained` is asked for; none of the three: float32.

    Raises:
        ConfigError: two of them exclude each other.
    """

    bf16: bool
    load_in_8bit: bool
    load_in_4bit: bool

    def __post_init__(self) -> None:
        if self.load_in_8bit and self.load_in_4bit:
            raise ConfigError("load_in_8bit and load_in_4bit exclude each other; choose one.")

    def apply(self, model: Model) -> None:
        """Convert the backbone of `model`.

        Raises:
            ConfigError: the method trains it.
        """
        bits = 8 if self.load_in_8bit else 4 if self.load_in_4bit else None
        if model.method_config.tunes_backbone and (self.bf16 or bits):
            named = f"load_in_{bits}bit" if bits else "bf16"
            raise ConfigError(
                f"{model.method_config.described} trains the backbone, which {named} keeps frozen; leave {named} off."
            )
        if self.bf16:
            model.bf16 = True
            nn.to_bf16(model.backbone)
        if bits:
            nn.quantize(model.backbone, bits)
