"""What the functions of this package ask of a prompt model, which is put together from them."""

from typing import Any, ClassVar, Protocol

from fastprompt.methods.base import MethodConfig
from fastprompt.pretrained.checkpoint import Checkpoint


class Task(Protocol):
    """A class of models: a task; see `fastprompt.models.base.PromptModel` for its attributes."""

    task: ClassVar[str]
    pools: ClassVar[bool]
    reads_padding: ClassVar[bool]
    fills_blanks: ClassVar[bool]
    causal: ClassVar[bool | None]
    encoder_decoder: ClassVar[bool]


class Model(Task, Protocol):
    """A backbone, a prompt or None, and a head.

    Attributes:
        fresh: names of the head's tensors that the checkpoint did not bring.
        has_encoder: whether a network makes the prompt.
        text_settings: how its texts became tokens, as far as the dataloader that trained it says so.
    """

    checkpoint: Checkpoint
    method_config: MethodConfig
    backbone: Any
    prompt: Any
    head: Any
    fresh: set[str]
    has_encoder: bool
    num_labels: int
    label_names: list[str]
    problem_type: str | None
    text_settings: dict[str, Any]
    training: bool
    bf16: bool
    first_step_checked: bool
    vocabulary_size: int
    indices_checked: bool

    def is_frozen_head(self, name: str) -> bool:
        """Whether a tensor of the head is pretrained and no more to be tuned than the backbone."""
