"""The class of each task, and a saved prompt opened as what it is."""

from pathlib import Path
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.models.base import PromptModel
from fastprompt.models.causal_lm import PromptForCausalLM
from fastprompt.models.masked_lm import PromptForMaskedLM
from fastprompt.models.multiple_choice import PromptForMultipleChoice
from fastprompt.models.question_answering import PromptForQuestionAnswering
from fastprompt.models.seq2seq_lm import PromptForSeq2SeqLM
from fastprompt.models.sequence_classification import PromptForSequenceClassification
from fastprompt.models.token_classification import PromptForTokenClassification
from fastprompt.saving import prompt_file
from fastprompt.saving.remote import fetch_prompt

MODELS: dict[str, type[PromptModel]] = {
    kind.task: kind
    for kind in (
        PromptForSequenceClassification,
        PromptForTokenClassification,
        PromptForQuestionAnswering,
        PromptForMultipleChoice,
        PromptForMaskedLM,
        PromptForCausalLM,
        PromptForSeq2SeqLM,
    )
}


def model_class(task: str) -> type[PromptModel]:
    """The model of a task, by the name that prompt files give it.

    Raises:
        ConfigError: there is no such task.
    """
    if task not in MODELS:
        raise ConfigError(f"There is no model for the task {task!r}; there are {', '.join(MODELS)}.")
    return MODELS[task]


def load_prompt_model(directory: str | Path, *, revision: str | None = None, **options: Any) -> PromptModel:
    """A saved prompt in the model of its task.

    Args:
        directory: the prompt's folder, or its hub id.
        revision: of a prompt on the hub, a branch, a tag or a commit.
        options: what `from_pretrained` takes beside a saved prompt: backbone, bf16, portable, ...

    Raises:
        CheckpointError: there is no prompt, or something of it or of its backbone is missing or cut.
        ConfigError: this version has no model for its task.
    """
    directory = fetch_prompt(directory, revision)
    return model_class(prompt_file.saved_task(directory)).from_pretrained(directory, **options)
