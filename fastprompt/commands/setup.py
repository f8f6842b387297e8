"""What commands share: device, data, model, loaders and scores of a run."""

import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastprompt.data.dataloader import make_dataloader
from fastprompt.data.examples import ClozeTexts, Instructions, LabelledTexts, MultipleChoices, SquadData, TaggedTokens
from fastprompt.data.squad_windows import make_windows
from fastprompt.data.tasks import TaskData, load_task
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, runtime
from fastprompt.launch.world import place
from fastprompt.methods.registry import method_config
from fastprompt.metrics.tasks import task_metrics
from fastprompt.models.auto import load_prompt_model, model_class
from fastprompt.models.base import PromptModel
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.saving import prompt_file
from fastprompt.training.trainer import evaluate


def choose_device(asked: str | None) -> str:
    return asked or ("cuda" if runtime.has_gpu() else "cpu")


# kind of data -> the task whose model reads it
_TASKS: dict[type, str] = {
    LabelledTexts: "sequence_classification",
    MultipleChoices: "multiple_choice",
    TaggedTokens: "token_classification",
    SquadData: "question_answering",
    Instructions: "causal_lm",
}


_CLOZE = "masked_lm"  # texts in a template are its task instead


_TEXT_TO_TEXT = "seq2seq_lm"  # instructions are an encoder-decoder's instead


def _task_of(data: TaskData, options: TrainOptions) -> str:
    """The task whose model reads `data`.

    Raises:
        ConfigError: a template or a verbalizer is given without the other, or for data that are no single texts.
    """
    if not options.template and not options.verbalizer:
        instructed = isinstance(data, Instructions) and Checkpoint(options.model_name_or_path).family.encoder_decoder
        return _TEXT_TO_TEXT if instructed else _TASKS[type(data)]
    if not isinstance(data, LabelledTexts) or data.pairs is not None or data.label_names is None:
        raise ConfigError(f"--template and --verbalizer make a cloze of single texts; {options.task_name} has others.")
    if not options.template or not options.verbalizer:
        raise ConfigError("A cloze needs both: --template with a blank, and --verbalizer with each label's words.")
    return _CLOZE


def load_split(options: TrainOptions, split: str, label_names: list[str] | None = None) -> TaskData:
    """A split of the task, as long as the options want it; what was mended or left out is told."""
    data = load_task(
        options.task_name,
        options.dataset_name,
        options.data_dir,
        split,
        label_names=label_names,
        text_columns=options.text_columns.split(",") if options.text_columns else None,
        label_column=options.label_column,
        tag_column=options.tag_column,
        chat_template=options.chat_template,
    )
    _tell(data.notes)
    return data.head(options.max_train_samples if split == "train" else options.max_eval_samples)


def _tell(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)  # "fastprompt: " begins an error, which `compare` quotes as the reason


def load_model(options: TrainOptions, device: str, data: TaskData | None = None) -> PromptModel:
    """The model that `options` describe: a saved prompt's, or a fresh one for `data`."""
    if options.bf16 and not runtime.supports_bf16(device):
        raise ConfigError(f"{backend()} has no bfloat16 on {device}; leave --bf16 off.")
    settings: dict[str, Any] = {
        "seed": options.seed,
        "bf16": options.bf16,
        "load_in_8bit": options.load_in_8bit,
        "load_in_4bit": options.load_in_4bit,
        "gradient_checkpointing": options.gradient_checkpointing,
        "hidden_dropout_prob": options.hidden_dropout_prob,
        "attention_probs_dropout_prob": options.attention_probs_dropout_prob,
        "backbone": options.backbone,
    }
    if prompt_file.is_prompt(options.model_name_or_path):
        model = load_prompt_model(options.model_name_or_path, **settings)
        if data is not None:
            _check_fits(model, data, options)
        return model
    if isinstance(data, LabelledTexts) and data.label_names is None:
        settings["num_labels"] = 1
    elif isinstance(data, LabelledTexts | TaggedTokens):
        settings["label_names"] = data.label_names
    config = method_config(options.method, **options.method_options())
    if not config.trains:
        raise ConfigError(f"{options.method} trains nothing; it is there for --task_name lama.")
    return model_class(_task_of(data, options)).from_pretrained(options.model_name_or_path, config, **settings)


def _check_fits(model: PromptModel, data: TaskData, options: TrainOptions) -> None:
    task = _TASKS[type(data)]
    single = getattr(data, "pairs", None) is None
    instead = {LabelledTexts: _CLOZE, Instructions: _TEXT_TO_TEXT}.get(type(data)) if single else None
    if model.task not in (task, instead):
        raise ConfigError(f"{options.model_name_or_path} was tuned for {model.task}; {options.task_name} is {task}.")
    if isinstance(data, LabelledTexts | TaggedTokens):
        classes = 1 if data.label_names is None else len(data.label_names)
        if classes != model.num_labels:
            raise ConfigError(
                f"{options.model_name_or_path} was tuned for {model.num_labels} classes; the data has {classes}."
            )


def _loader(options: TrainOptions, model: PromptModel, data: TaskData, shuffle: bool = False) -> tuple[Any, Any]:
    """(a dataloader, what it was made from: `data`, or its windows)"""
    tokenizer, max_length, notes = load_tokenizer(model.checkpoint.directory), _fitting(options, model), []
    if isinstance(data, SquadData):
        data = make_windows(data, tokenizer, max_length, options.doc_stride, options.max_query_length)
        notes += data.notes
    if model.task == _TEXT_TO_TEXT:
        data = data.as_text_to_text()
    if model.task == _CLOZE:
        data = ClozeTexts(data.texts, data.labels, model.method_config.template, model.backbone.family.causal)
    size = options.per_device_train_batch_size if shuffle else options.per_device_eval_batch_size
    settings = {"batch_size": size, "shuffle": shuffle, "max_length": max_length, "seed": options.seed, "notes": notes}
    loader = make_dataloader(data, tokenizer, **settings)
    _tell(notes)
    return loader, data


def _evaluate(
    options: TrainOptions, model: PromptModel, loader: Any, made_from: Any, device: str, output: Path | None = None
) -> dict[str, float]:
    """The task's official scores on a `_loader`; answers to questions are written into `output`."""
    answering = {
        "n_best_size": options.n_best_size,
        "max_answer_length": options.max_answer_length,
        "null_threshold": options.null_score_diff_threshold,
    }
    metrics = task_metrics(options.task_name, options.dataset_name, made_from, **answering)
    scores = evaluate(model, loader, device, metrics, options.fsdp)
    if output is not None and "squad" in metrics:
        metrics["squad"].answers.write(output)
    return scores


def _fitting(options: TrainOptions, model: PromptModel) -> int:
    """max_seq_length, or what the backbone's positions leave beside the prompt where that is less."""
    return options.max_seq_length if model.max_length is None else min(options.max_seq_length, model.max_length)


def _peak_memory_mb() -> float:
    """The most memory that was in use so far: the GPU's, or this process's where there is none."""
    memory = runtime.peak_device_memory_mb()
    if memory is None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return round(memory, 1)


def describe(model: PromptModel, device: str) -> dict[str, Any]:
    """Parameter counts, peak memory, framework and versions."""
    tuned, total = model.count_parameters()
    return {
        "trainable_parameters": tuned,
        "total_parameters": total,
        "peak_memory_mb": _peak_memory_mb(),
        "backend": backend(),
        "backend_version": runtime.version(),
        "fastnlp_version": version("fastNLP"),
        "fastprompt_version": version("fastprompt"),
        "device": device,
        "num_processes": place().size,
    }
