"""fastprompt: prompt-based tuning of pretrained language models under PyTorch, PaddlePaddle and Jittor.

Importing it installs the import hook of `fastprompt.drivers.compat` and nothing else; names below are imported when
they are first used, and with them the framework of this process. Import it before fastNLP.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

_checkout = Path(__file__).parents[1]
if not (Path(__file__).parent / "drivers").exists() and (_checkout / "drivers").exists():
    __path__.append(str(_checkout))  # run from a checkout, where `drivers` stands beside this folder

from fastprompt.drivers import compat  # noqa: E402
from fastprompt.framework import backend, set_backend  # noqa: E402

if TYPE_CHECKING:  # for type checkers and editors; at run time __getattr__ imports them
    from fastprompt.cloze.template import Template as Template
    from fastprompt.convert import export_prompt as export_prompt
    from fastprompt.convert import import_prompt as import_prompt
    from fastprompt.data.dataloader import make_dataloader as make_dataloader
    from fastprompt.data.readers.sst2 import load_reviews as load_reviews
    from fastprompt.data.readers.sst2 import load_sst2 as load_sst2
    from fastprompt.data.squad_windows import make_windows as make_windows
    from fastprompt.data.tasks import load_task as load_task
    from fastprompt.errors import FastpromptError as FastpromptError
    from fastprompt.methods.baselines import BitFitConfig as BitFitConfig
    from fastprompt.methods.baselines import FineTuningConfig as FineTuningConfig
    from fastprompt.methods.baselines import LinearProbeConfig as LinearProbeConfig
    from fastprompt.methods.baselines import ManualConfig as ManualConfig
    from fastprompt.methods.p_tuning.config import PTuningConfig as PTuningConfig
    from fastprompt.methods.p_tuning_v2.config import PTuningV2Config as PTuningV2Config
    from fastprompt.methods.prompt_tuning.config import PromptTuningConfig as PromptTuningConfig
    from fastprompt.methods.prompt_tuning.config import ShallowPrefixConfig as ShallowPrefixConfig
    from fastprompt.metrics.tasks import task_metrics as task_metrics
    from fastprompt.models.auto import load_prompt_model as load_prompt_model
    from fastprompt.models.bank import PromptBank as PromptBank
    from fastprompt.models.causal_lm import PromptForCausalLM as PromptForCausalLM
    from fastprompt.models.masked_lm import PromptForMaskedLM as PromptForMaskedLM
    from fastprompt.models.multiple_choice import PromptForMultipleChoice as PromptForMultipleChoice
    from fastprompt.models.question_answering import PromptForQuestionAnswering as PromptForQuestionAnswering
    from fastprompt.models.seq2seq_lm import PromptForSeq2SeqLM as PromptForSeq2SeqLM
    from fastprompt.models.sequence_classification import (
        PromptForSequenceClassification as PromptForSequenceClassification,
    )
    from fastprompt.models.sharing import push_to_hub as push_to_hub
    from fastprompt.models.token_classification import PromptForTokenClassification as PromptForTokenClassification
    from fastprompt.pretrained.tokenizer import load_tokenizer as load_tokenizer
    from fastprompt.training.checkpointing import check_checkpoint as check_checkpoint
    from fastprompt.training.checkpointing import find_checkpoints as find_checkpoints
    from fastprompt.training.frozen_layers import cache_frozen_layers as cache_frozen_layers
    from fastprompt.training.optimization import AdamW as AdamW
    from fastprompt.training.optimization import ClipGradients as ClipGradients
    from fastprompt.training.optimization import LearningRateSchedule as LearningRateSchedule
    from fastprompt.training.trainer import evaluate as evaluate
    from fastprompt.training.trainer import get_driver as get_driver

__version__ = "0.1.0"

# the module that defines it -> public names
_EXPORTS = {
    "fastprompt.convert": (
        "export_prompt",
        "import_prompt",
    ),
    "fastprompt.cloze.template": ("Template",),
    "fastprompt.data.dataloader": ("make_dataloader",),
    "fastprompt.data.readers.sst2": (
        "load_reviews",
        "load_sst2",
    ),
    "fastprompt.data.squad_windows": ("make_windows",),
    "fastprompt.data.tasks": ("load_task",),
    "fastprompt.errors": ("FastpromptError",),
    "fastprompt.methods.baselines": (
        "BitFitConfig",
        "FineTuningConfig",
        "LinearProbeConfig",
        "ManualConfig",
    ),
    "fastprompt.methods.p_tuning.config": ("PTuningConfig",),
    "fastprompt.methods.p_tuning_v2.config": ("PTuningV2Config",),
    "fastprompt.methods.prompt_tuning.config": (
        "PromptTuningConfig",
        "ShallowPrefixConfig",
    ),
    "fastprompt.metrics.tasks": ("task_metrics",),
    "fastprompt.models.auto": ("load_prompt_model",),
    "fastprompt.models.bank": ("PromptBank",),
    "fastprompt.models.causal_lm": ("PromptForCausalLM",),
    "fastprompt.models.masked_lm": ("PromptForMaskedLM",),
    "fastprompt.models.multiple_choice": ("PromptForMultipleChoice",),
    "fastprompt.models.question_answering": ("PromptForQuestionAnswering",),
    "fastprompt.models.seq2seq_lm": ("PromptForSeq2SeqLM",),
    "fastprompt.models.sequence_classification": ("PromptForSequenceClassification",),
    "fastprompt.models.token_classification": ("PromptForTokenClassification",),
    "fastprompt.models.sharing": ("push_to_hub",),
    "fastprompt.pretrained.tokenizer": ("load_tokenizer",),
    "fastprompt.training.checkpointing": ("check_checkpoint", "find_checkpoints"),
    "fastprompt.training.frozen_layers": ("cache_frozen_layers",),
    "fastprompt.training.optimization": (
        "AdamW",
        "ClipGradients",
        "LearningRateSchedule",
    ),
    "fastprompt.training.trainer": ("evaluate", "get_driver"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["backend", "set_backend", *_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastprompt' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


compat.install_import_hook()
