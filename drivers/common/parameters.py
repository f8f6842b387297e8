"""Which parameters a fastNLP driver trains."""

from typing import Any

from fastprompt.framework import nn


def tuned_by(driver: Any) -> list[Any]:
    """The parameters that the training with a fastNLP driver changes."""
    return [p for p in nn.named_parameters(driver.unwrap_model()).values() if nn.is_trainable(p)]
