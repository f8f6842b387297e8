"""fastprompt: prompt-based tuning of pretrained language models under PyTorch, PaddlePaddle and Jittor.

Importing it installs the import hook of `fastprompt.drivers.compat` and nothing else; names below are imported when
they are first used, and with them the framework of this process. Import it before fastNLP.
"""

from importlib import import_module

from fastprompt.drivers import compat
from fastprompt.framework import backend, set_backend

__version__ = "0.1.0"

# public name -> the module that defines it
_EXPORTS = {
    **dict.fromkeys(
        (
            "PTuningV2Config",
            "PTuningConfig",
            "PromptTuningConfig",
            "ShallowPrefixConfig",
            "FineTuningConfig",
            "LinearProbeConfig",
            "BitFitConfig",
            "ManualConfig",
        ),
        "fastprompt.methods.base",
    ),
    "PromptForSequenceClassification": "fastprompt.models.sequence_classification",
    "PromptForTokenClassification": "fastprompt.models.token_classification",
    "PromptForQuestionAnswering": "fastprompt.models.question_answering",
    "PromptForMultipleChoice": "fastprompt.models.multiple_choice",
    "PromptForCausalLM": "fastprompt.models.causal_lm",
    "PromptForSeq2SeqLM": "fastprompt.models.seq2seq_lm",
    "PromptForMaskedLM": "fastprompt.models.masked_lm",
    "Template": "fastprompt.cloze.template",
    "load_prompt_model": "fastprompt.models.auto",
    "PromptBank": "fastprompt.models.bank",
    "import_prompt": "fastprompt.convert",
    "export_prompt": "fastprompt.convert",
    "AdamW": "fastprompt.training.optimization",
    "LearningRateSchedule": "fastprompt.training.optimization",
    "ClipGradients": "fastprompt.training.optimization",
    "get_driver": "fastprompt.training.trainer",
    "load_tokenizer": "fastprompt.pretrained.tokenizer",
    "load_sst2": "fastprompt.data.readers.sst2",
    "load_reviews": "fastprompt.data.readers.sst2",
    "load_task": "fastprompt.data.tasks",
    "make_windows": "fastprompt.data.squad_windows",
    "make_dataloader": "fastprompt.data.dataloader",
    "task_metrics": "fastprompt.metrics.tasks",
    "FastpromptError": "fastprompt.errors",
}

__all__ = ["backend", "set_backend", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fastprompt' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


compat.install_import_hook()
