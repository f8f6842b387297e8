"""What the command line takes, in groups: each is handed on whole to what it is about."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.tasks import TASKS
from fastprompt.framework import BACKENDS
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.checks import one_of
from fastprompt.methods.registry import METHODS
from fastprompt.options.option import Option, fields_of, method_options, option, options_of, value_of
from fastprompt.saving import prompt_file

STRATEGIES = ("no", "steps", "epoch")

# Tasks by their names on the command line, and by those of saved prompts, which answer lines of input.
_QA = ("qa", "question_answering")
_INSTRUCTION = ("instruction", "causal_lm", "seq2seq_lm")
_OWN = ("classification", "regression")
_LAMA = ("lama",)
# All but LAMA, which trains a prompt for each relation, evaluates every epoch, and goes on after the last relation.
_ONE_PROMPT = ("glue", "superglue", "qa", "ner", "srl", "reviews", *_INSTRUCTION, *_OWN)

_TRAINING = ("do_train", (True,))
_WITH_BACKBONE = ("use_lm_finetune", (True,))
_BY_STEPS = ("evaluation_strategy", ("steps",))
_THE_BEST = ("load_best_model_at_end", (True,))


@dataclass
class ModelOptions:
    """A pretrained model or a saved prompt, and how it is loaded."""

    model_name_or_path: str = option("", "hub id, model folder, or saved prompt", free=True)
    backbone: str | None = option(None, "where a saved prompt's backbone lies, if not where its file says", free=True)
    init_prompt: str | None = option(
        None,
        "saved prompt whose values, and head where the labels are the same, a new one starts with",
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
        free=True,
    )
    seed: int = option(11, "seeds initial values, batches and dropout")
    bf16: bool = option(False, "hold the frozen backbone in bfloat16")
    load_in_8bit: bool = option(False, "hold the frozen backbone's linear layers in 8 bits (torch, bitsandbytes)")
    load_in_4bit: bool = option(False, "hold them in 4 bits, as QLoRA does")
    gradient_checkpointing: bool = option(
        False, "recompute activations in the backward pass instead of storing them", needs=_TRAINING
    )
    hidden_dropout_prob: float | None = option(
        None, "dropout of hidden states, prefix, head; default: 0 beside a frozen backbone", needs=_TRAINING
    )
    attention_probs_dropout_prob: float | None = option(
        None, "dropout of attention probabilities; default: 0 beside a frozen backbone", needs=_TRAINING
    )

    @property
    def is_prompt(self) -> bool:
        """Whether it is a saved prompt, which brings its method along."""
        return prompt_file.is_prompt(self.model_name_or_path)

    def loading(self) -> dict[str, Any]:
        """The keyword arguments of `from_pretrained`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "model_name_or_path"}


@dataclass
class DataOptions:
    """A task's data, and how they become a model's input."""

    task_name: str = option(
        "",
        f"one of {', '.join((*TASKS, *_LAMA))}; fastprompt tasks says what they are",
    )
    dataset_name: str | None = option(None, "the task's data set: sst2, rte, copa, squad, ...; see fastprompt tasks")
    data_dir: str | None = option(
        None,
        "folder with the data set's own files, of instructions a file too; without it the hub's copy is taken",
        free=True,
    )
    text_columns: str | None = option(
        None, "your own texts' columns: one, or two for pairs, with a comma between", tasks=_OWN
    )
    label_column: str = option("label", "your own labels' column", tasks=_OWN)
    tag_column: int | None = option(None, "a column file's tags, counted from 1; default: the last", tasks=("ner",))
    chat_template: str = option(
        CHAT_TEMPLATES[0], "how instructions are written", choices=CHAT_TEMPLATES, tasks=_INSTRUCTION
    )
    relations: tuple[str, ...] | None = option(
        None, "lama's relations: P36 P103 ...; default: all that have facts", tasks=_LAMA, free=True
    )
    lama_vocab: str | None = option(
        None, "file of lama's candidate words, one a line; default: the vocabulary's words", tasks=_LAMA
    )
    max_seq_length: int = option(128, "cut texts to so many tokens")
    doc_stride: int | None = option(
        None, "tokens that a passage's windows share; default: a third of max_seq_length", tasks=_QA
    )
    max_query_length: int = option(64, "cut questions to so many tokens", tasks=_QA)
    max_train_samples: int | None = option(None, "use so many training examples only", needs=_TRAINING)
    max_eval_samples: int | None = option(None, "use so many evaluation examples only", free=True)


@dataclass
class MethodOptions:
    """A method, and those of its options that are given, by their names on the command line."""

    method: str = option("p-tuning-v2", "what is tuned", choices=tuple(METHODS))
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: dict[str, Any]) -> "MethodOptions":
        """From options by name; what the method has no use for is left out."""
        method = given.get("method", cls.method)
        one_of("method", method, tuple(METHODS))
        return cls(method, {name: value for name, value in given.items() if name in fields_of(method)})

    def config(self, **replaced: Any) -> MethodConfig:
        """The method's configuration, with some fields replaced.

        Raises:
            ConfigError: a value cannot work.
        """
        known = fields_of(self.method)
        given = {known[name].name: value_of(known[name], value) for name, value in self.values.items()}
        return METHODS[self.method](**{**given, **replaced})


@dataclass
class TrainingOptions:
    """The steps of a training."""

    learning_rate: float | None = option(None, "peak learning rate; default: the method's", needs=_TRAINING)
    backbone_learning_rate: float | None = option(
        None, "peak learning rate of the backbone; default: fine-tuning's", needs=_WITH_BACKBONE
    )
    lr_scheduler_type: str = option("linear", "linear, constant or exponential (per epoch)", needs=_TRAINING)
    max_grad_norm: float | None = option(
        None, "scale the gradients of a step down to this norm; default: as they are", needs=_TRAINING
    )
    warmup_ratio: float = option(0.06, "share of the steps over which the rate rises", needs=_TRAINING)
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay", needs=_TRAINING)
    num_train_epochs: int | None = option(
        *(None, "passes over the training data; default: 1, of lama 30 at most"),
        needs=_TRAINING,
        unless="max_steps",
        extends=True,
    )
    max_steps: int | None = option(
        *(None, "end after so many optimizer steps, however many passes those are; default: --num_train_epochs ends"),
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
        extends=True,
    )
    early_stop: int = option(5, "stop after so many epochs without a better development score", tasks=_LAMA)
    per_device_train_batch_size: int = option(32, "examples a step, of every process", needs=_TRAINING)
    gradient_accumulation_steps: int = option(1, "batches a step", needs=_TRAINING)
    cache_frozen_layers: str | None = option(
        None,
        "compute the layers before the first of --prefix_layers once, into this folder, or auto: the user's cache",
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
    )
    cache_limit: float | None = option(
        None, "do not where that takes more than so many GB", needs=("cache_frozen_layers", None), free=True
    )


@dataclass
class EvaluationOptions:
    """When a model is evaluated, which prompt is best, and how answers are made."""

    per_device_eval_batch_size: int = option(64, "examples a step of evaluation, of every process", free=True)
    evaluation_strategy: str = option(
        *("no", "when to evaluate during the training"),
        choices=STRATEGIES,
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
        free=True,
    )
    eval_steps: int = option(
        *(500, "evaluate every so many steps, with --evaluation_strategy steps"),
        tasks=_ONE_PROMPT,
        needs=_BY_STEPS,
        free=True,
    )
    load_best_model_at_end: bool = option(
        False, "keep the prompt of the best evaluation, not the last one", tasks=_ONE_PROMPT
    )
    metric_for_best_model: str | None = option(
        None, "the score that is best; default: the task's first", tasks=_ONE_PROMPT, needs=_THE_BEST
    )
    selection_samples: int | None = option(
        None,
        "training examples held out to choose the best by; default: the evaluation split chooses",
        tasks=_ONE_PROMPT,
    )
    n_best_size: int = option(20, "spans of a passage that are considered", tasks=_QA, free=True)
    max_answer_length: int = option(30, "longest answer in tokens", tasks=_QA, free=True)
    null_score_diff_threshold: float = option(
        0.0, "how much better no answer must score (SQuAD 2.0)", tasks=_QA, free=True
    )
    max_new_tokens: int = option(128, "tokens of an answer at most", tasks=_INSTRUCTION, free=True)


@dataclass
class HardwareOptions:
    """What a command runs on."""

    backend: str | None = option(None, "framework to run on", choices=BACKENDS, free=True)
    num_processes: int | None = option(
        None, "train in so many processes on this machine; default: one", tasks=_ONE_PROMPT, free=True
    )
    device: str | None = option(None, "cpu, cuda or cuda:N; default: a GPU where there is one", free=True)
    fp16: bool = option(False, "train in mixed precision, the loss scaled (torch; paddle on a GPU)", needs=_TRAINING)
    fsdp: bool = option(
        False, "shard the frozen backbone's blocks among the processes (torch)", tasks=_ONE_PROMPT, free=True
    )


@dataclass
class RunOptions:
    """What a run does, and what it leaves in its folder."""

    output_dir: str = option("runs/last", "folder for the prompt, metrics and history", free=True)
    overwrite_output_dir: bool = option(False, "replace the run that output_dir holds", free=True)
    do_train: bool = option(False, "train; with none of the three --do_..., train and evaluate", tasks=_ONE_PROMPT)
    do_eval: bool = option(False, "score the evaluation split", tasks=_ONE_PROMPT)
    do_predict: bool = option(False, "answer the test split, into predictions.jsonl", tasks=_ONE_PROMPT)
    logging_steps: int = option(50, "a line of history every so many steps", needs=_TRAINING, free=True)
    save_strategy: str | None = option(
        None,
        "when to write checkpoints; default: no, or steps where --save_steps is given",
        choices=STRATEGIES,
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
        free=True,
    )
    save_steps: int | None = option(
        None, "a checkpoint every so many steps; default: 500", tasks=_ONE_PROMPT, needs=_TRAINING, free=True
    )
    save_total_limit: int | None = option(
        None,
        "keep so many checkpoints, the newest; default: all",
        tasks=_ONE_PROMPT,
        needs=("save_strategy", ("steps", "epoch")),
        free=True,
    )
    resume_from_checkpoint: str | None = option(
        None,
        "resume from a checkpoint's folder, or from the last one: last",
        tasks=_ONE_PROMPT,
        needs=_TRAINING,
        free=True,
    )


GROUPS: dict[str, type] = {
    "model": ModelOptions,
    "data": DataOptions,
    "method": MethodOptions,
    "training": TrainingOptions,
    "evaluation": EvaluationOptions,
    "hardware": HardwareOptions,
    "run": RunOptions,
}

# Other words for --method, from P-Tuning v2's command.
ALIASES = {"prefix": "p-tuning-v2", "prompt": "shallow-prefix"}


def _every_option() -> Iterator[Option]:
    for group, holder in GROUPS.items():
        yield from options_of(group, holder)
        if holder is MethodOptions:
            yield from (Option(name, group, bool, False, f"the same as --method {ALIASES[name]}") for name in ALIASES)
            yield from method_options(group)


OPTIONS: dict[str, Option] = {item.name: item for item in _every_option()}
