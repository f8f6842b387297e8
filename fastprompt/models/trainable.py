"""Which of a model's tensors are tuned, which a prompt file keeps, and their names."""

from typing import Any

from fastprompt.errors import TrainingError
from fastprompt.framework import nn
from fastprompt.methods.base import MethodConfig
from fastprompt.pretrained.checkpoint import Checkpoint


class TunedTensors:
    """The part of a prompt model that tells its backbone, head and prompt apart by what is done with them."""

    checkpoint: Checkpoint
    method_config: MethodConfig
    backbone: Any
    head: Any
    _fresh: set[str]  # names of the head's tensors that the checkpoint did not bring
    _sizes: dict[str, int]  # of the tensors before some were quantized

    def _freeze(self) -> None:
        method = self.method_config.method
        for name, parameter in self.backbone.stock_parameters().items():
            tuned = method == "fine-tuning" or (method == "bitfit" and name.endswith("bias"))
            (nn.unfreeze if tuned else nn.freeze)(parameter)
        for name, parameter in nn.named_parameters(self.head).items():
            tuned = self.method_config.train_head and (
                not self._is_frozen_head(name)
                or method == "fine-tuning"
                or (method == "bitfit" and name.endswith("bias"))
            )
            (nn.unfreeze if tuned else nn.freeze)(parameter)
        if self.method_config.trains and not self.tuned_parameters():
            if not self.method_config.train_head:
                raise TrainingError(f"{method} with train_head=False trains nothing; use train_head=True.")
            raise TrainingError(
                f"{method} finds nothing to train in {self.checkpoint.name} ({self.checkpoint.model_type}), whose head "
                f"is not trained; use another method."
            )

    def named_tensors(self) -> dict[str, Any]:
        """Every parameter by the name that transformers gives it ("bert.encoder...", "classifier.weight"); the
        prompt's stand behind "prompt."."""
        whole_name = self.backbone.family.whole_name
        names = {whole_name(name): p for name, p in self.backbone.stock_parameters().items()}
        names.update({self._head_name(name): p for name, p in nn.named_parameters(self.head).items()})
        if self.method_config.prompt_kind is not None:
            names.update({f"prompt.{name}": p for name, p in nn.named_parameters(self.prompt).items()})
        return names

    def _head_name(self, name: str) -> str:
        return self.backbone.family.whole_name(name) if self._in_base_model(name) else name

    def _is_frozen_head(self, name: str) -> bool:
        """Whether a tensor of the head is pretrained and no more to be tuned than the backbone.

        A pooler that came with the checkpoint is part of the backbone; a fresh one must learn.
        """
        return self._in_base_model(name) and name not in self._fresh

    def _in_base_model(self, head_name: str) -> bool:
        """Whether a tensor of our head is one of the base model to transformers: its pooler's."""
        return head_name.startswith("pooler") and not self.backbone.family.pooler_in_head

    def tuned_parameters(self) -> dict[str, Any]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.named_tensors().items() if nn.is_trainable(p)}

    def fresh_tensors(self) -> list[str]:
        """Names of the head's tensors that the checkpoint did not bring."""
        return sorted(self._head_name(name) for name in self._fresh)

    def kept_parameters(self) -> dict[str, Any]:
        """What a prompt file holds: the tuned parameters, and a fresh head even where it is frozen."""
        kept = {*self.tuned_parameters(), *self.fresh_tensors()}
        return {name: p for name, p in self.named_tensors().items() if name in kept}

    def trainable_parameters(self) -> list[Any]:
        """The parameters to hand to an optimizer."""
        return list(self.tuned_parameters().values())

    def count_parameters(self) -> tuple[int, int]:
        """(tuned, total) numbers of parameters."""
        return sum(self._sizes[name] for name in self.tuned_parameters()), sum(self._sizes.values())
