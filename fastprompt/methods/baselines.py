"""Methods without a prompt, to compare prompts with."""

from dataclasses import dataclass
from typing import ClassVar

from fastprompt.methods.base import MethodConfig


@dataclass(kw_only=True)
class FineTuningConfig(MethodConfig):
    """Baseline: every weight of backbone and head is trained."""

    method: ClassVar[str] = "fine-tuning"
    learning_rate: ClassVar[float] = 5e-5
    tunes_backbone: ClassVar[bool] = True


@dataclass(kw_only=True)
class LinearProbeConfig(MethodConfig):
    """Baseline: the head alone is trained."""

    method: ClassVar[str] = "linear-probe"
    learning_rate: ClassVar[float] = 1e-2
    tunes_pretrained_head: ClassVar[bool] = True


@dataclass(kw_only=True)
class BitFitConfig(MethodConfig):
    """Baseline: biases and the head are trained (Ben Zaken et al., 2022, arXiv:2106.10199)."""

    method: ClassVar[str] = "bitfit"
    learning_rate: ClassVar[float] = 1e-3
    tunes_backbone: ClassVar[bool] = True

    def tunes(self, name: str) -> bool:
        return name.endswith("bias")


@dataclass(kw_only=True)
class ManualConfig(MethodConfig):
    """Baseline: nothing is trained; a written template asks the language model as it is."""

    method: ClassVar[str] = "manual"
    learning_rate: ClassVar[float] = 1e-2  # for no step
    trains: ClassVar[bool] = False
