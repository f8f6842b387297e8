"""Prompt files of a model: written, and put back in place."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastprompt.saving.prompt_file import describe, write_saved

if TYPE_CHECKING:
    from fastprompt.models.base import PromptModel


def write_prompt(model: "PromptModel", directory: str | Path) -> None:
    """Write `model`'s tuned tensors and their description into `directory`."""
    from fastprompt.framework import ops

    tensors = {name: ops.to_numpy(p) for name, p in model.kept_parameters().items()}
    if model.method_config.prompt_kind is not None:
        if not model.has_encoder:  # the weights are the prompt itself in another order
            tensors = {name: array for name, array in tensors.items() if not name.startswith("prompt.")}
        tensors.update(model.prompt.collapse())
    directory = Path(directory).expanduser()
    saved = describe(model.checkpoint, model.method_config, model.task, model.label_names, tensors, directory)
    saved.problem_type = model.problem_type
    write_saved(saved, directory)
