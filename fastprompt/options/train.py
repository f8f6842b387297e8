"""All options of the command line, as the groups that its parts take."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.baselines import FineTuningConfig
from fastprompt.methods.checks import not_negative, plain, positive, probability, share, whole_number
from fastprompt.options.groups import (
    GROUPS,
    OPTIONS,
    DataOptions,
    EvaluationOptions,
    HardwareOptions,
    MethodOptions,
    ModelOptions,
    RunOptions,
    TrainingOptions,
)
from fastprompt.options.option import fields_of
from fastprompt.saving import prompt_file
from fastprompt.saving.files import same_folder

_COUNTS = (
    *(
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
    ),
    *("logging_steps", "max_new_tokens", "early_stop", "max_train_samples", "max_eval_samples", "eval_steps"),
    *(
        "max_query_length",
        "tag_column",
        "selection_samples",
        "save_steps",
        "save_total_limit",
        "n_best_size",
        "max_answer_length",
        "num_processes",
    ),
)
# the options of a kind, and what checks one of them
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[str, Any], Any]], ...] = (
    (_COUNTS, whole_number),
    (("seed", "doc_stride"), partial(whole_number, least=0)),
    (("learning_rate", "backbone_learning_rate", "max_grad_norm", "cache_limit"), positive),
    (("weight_decay",), not_negative),
    (("warmup_ratio",), share),
    (("hidden_dropout_prob", "attention_probs_dropout_prob"), probability),
)
_CHOOSING = ("evaluation_strategy", "eval_steps", "max_eval_samples")


def _tuned_with(model_name_or_path: str) -> dict[str, Any]:
    """How the texts of a saved prompt became tokens when it was tuned: the defaults of whatever uses it."""
    if not prompt_file.is_prompt(model_name_or_path):
        return {}
    return prompt_file.read_description(model_name_or_path).text_settings


@dataclass(init=False)
class TrainOptions:
    """What `fastprompt train` takes; `TrainOptions(seed=5, ...)` sorts the options into their groups.

    Attributes:
        config: the method's configuration: the saved prompt's own, or the one that the options make.

    Raises:
        CheckpointError: the saved prompt cannot be read.
        ConfigError: a value cannot work, or two of them together.
    """

    model: ModelOptions
    data: DataOptions
    method: MethodOptions
    training: TrainingOptions
    evaluation: EvaluationOptions
    hardware: HardwareOptions
    run: RunOptions

    def __init__(self, **given: Any) -> None:
        given = {name: plain(value) for name, value in given.items() if value is not None}
        if unknown := sorted(given.keys() - OPTIONS.keys()):
            raise TypeError(f"there is no option {unknown[0]!r}")
        given = {**_tuned_with(given.get("model_name_or_path", "")), **given}
        for group, holder in GROUPS.items():
            own = {name: value for name, value in given.items() if OPTIONS[name].group == group}
            setattr(self, group, MethodOptions.of(own) if holder is MethodOptions else holder(**own))
        if not self.model.model_name_or_path:
            raise ConfigError("--model_name_or_path is missing: a hub id, a model folder, or a saved prompt.")
        self._fill_in_defaults()
        self._check()

    def _fill_in_defaults(self) -> None:
        """Give what was left open its value."""
        saved = None
        if self.model.is_prompt:
            saved = prompt_file.read_description(self.model.model_name_or_path)
        self.config: MethodConfig = saved.config if saved else self.method.config()
        if saved:
            self.method = MethodOptions(saved.config.method)
        if self.training.learning_rate is None:
            self.training.learning_rate = saved.default_learning_rate if saved else self.config.default_learning_rate
        if self.training.backbone_learning_rate is None and self._tunes_backbone_too:
            self.training.backbone_learning_rate = FineTuningConfig.learning_rate
        if self.training.num_train_epochs is None and self.training.max_steps is None:
            self.training.num_train_epochs = 30 if self.data.task_name == "lama" else 1
        if not (self.run.do_train or self.run.do_eval or self.run.do_predict):
            self.run.do_train = self.run.do_eval = True
        if self.run.save_strategy is None:
            self.run.save_strategy = "no" if self.run.save_steps is None else "steps"

    @property
    def _tunes_backbone_too(self) -> bool:
        """Whether the backbone is trained together with a prompt."""
        return self.config.has_prompt and self.config.tunes_backbone

    def _check(self) -> None:
        flat = self.flat()
        for names, check in _CHECKS:
            for name in names:
                if flat[name] is not None:
                    check(name, flat[name])
        self._check_folder()
        device = self.hardware.device
        if device is not None and not re.fullmatch(r"cpu|(cuda|gpu)(:\d+)?", device):
            raise ConfigError(f"--device is {device!r}; it is cpu, cuda or cuda:N.")
        if self.model.bf16 and self.hardware.fp16:
            raise ConfigError("--bf16 and --fp16 are two half precisions; choose one.")
        if self.hardware.fsdp and (self.model.load_in_8bit or self.model.load_in_4bit):
            raise ConfigError("--fsdp shards no quantized backbone; leave it or --load_in_8bit/4bit off.")
        if self.training.backbone_learning_rate is not None and not self._tunes_backbone_too:
            raise ConfigError("--backbone_learning_rate goes with --use_lm_finetune, which trains a prompt's backbone.")
        if self.training.max_steps is not None and self.training.num_train_epochs is not None:
            raise ConfigError("--num_train_epochs and --max_steps both say when the training ends; give one.")
        self._check_frozen_layers()
        if self.run.save_steps is not None and self.run.save_strategy != "steps":
            raise ConfigError(f"--save_steps goes with --save_strategy steps, not {self.run.save_strategy}.")
        if self.evaluation.load_best_model_at_end and self.evaluation.evaluation_strategy == "no":
            raise ConfigError("--load_best_model_at_end needs evaluations: --evaluation_strategy epoch or steps.")
        if self.evaluation.selection_samples and not self.evaluation.load_best_model_at_end:
            raise ConfigError("--selection_samples goes with --load_best_model_at_end, which chooses by them.")

    def _check_frozen_layers(self) -> None:
        if self.training.cache_frozen_layers is None:
            return
        model, hardware = self.model, self.hardware
        others = {"fsdp": hardware.fsdp, "load_in_8bit": model.load_in_8bit, "load_in_4bit": model.load_in_4bit}
        if asked := next((name for name, value in others.items() if value), None):
            raise ConfigError(f"--cache_frozen_layers takes layers as they are, not with --{asked}; leave one off.")

    def _check_folder(self) -> None:
        """A run's files in a model's folder would make a saved prompt of the model."""
        output = Path(self.run.output_dir).expanduser()
        if not self.run.do_train:
            return
        for name in ("model_name_or_path", "backbone"):
            folder = getattr(self.model, name)
            if folder is not None and Path(folder).expanduser().is_dir() and same_folder(folder, output):
                raise ConfigError(f"--output_dir is {output}, the folder of --{name}; choose another folder.")

    def flat(self) -> dict[str, Any]:
        """Every option's value by its name; a method's own are its configuration's."""
        method = {name: getattr(self.config, field.name) for name, field in fields_of(self.config.method).items()}
        groups = (getattr(self, group) for group, holder in GROUPS.items() if holder is not MethodOptions)
        others = {name: value for group in groups for name, value in vars(group).items()}
        return {"method": self.config.method, **method, **others}

    def numbers(self) -> dict[str, Any]:
        """The options that a training's numbers depend on."""
        flat = self.flat()
        found = {name: value for name, value in flat.items() if not OPTIONS[name].free}
        if self.evaluation.load_best_model_at_end or self.data.task_name == "lama":  # evaluations choose the prompt
            found |= {name: flat[name] for name in _CHOOSING}
        found["cache_frozen_layers"] = found["cache_frozen_layers"] is not None  # wherever they lie
        return found
