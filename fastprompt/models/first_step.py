"""A check of the prompt's gradient at the first training step, so that no prompt silently does not train."""

from typing import Any

from fastprompt.errors import TrainingError
from fastprompt.framework import backend, ops
from fastprompt.models.protocol import Model
from fastprompt.models.trainable import tuned_parameters


def check_first_step(model: Model, loss: Any) -> None:
    """Raises: TrainingError: the prompt gets no gradient from `loss`."""
    prompt = [p for name, p in tuned_parameters(model).items() if name.startswith("prompt.")]
    if prompt and not ops.to_numpy(loss).any():  # no label of the batch counts; the next one will show
        return
    model.first_step_checked = True
    if not prompt and model.prompt is None:
        return
    if prompt and any(g.any() for g in ops.gradients(loss, prompt, keep_graph=True)):
        return
    reason = "the model is in evaluation mode: call model.train()" if not model.training else "it reaches no loss"
    raise TrainingError(f"The prompt gets no gradient under {backend()} ({reason}); nothing would be tuned.")
