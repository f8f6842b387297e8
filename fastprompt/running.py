"""What the command line does: train into a run's folder, evaluate, predict."""

import dataclasses
import resource
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastprompt import interchange
from fastprompt.config import method_config
from fastprompt.data.examples import ClozeTexts, LabelledTexts, MultipleChoices, TaggedTokens
from fastprompt.data.loading import PadBatch, make_dataloader
from fastprompt.data.squad import SquadData
from fastprompt.data.squad_windows import make_windows
from fastprompt.data.tasks import TaskData, load_task
from fastprompt.data.tokenization import load_tokenizer
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, nn, ops, runtime
from fastprompt.metrics.tasks import task_metrics
from fastprompt.models.auto import load_prompt_model, model_class
from fastprompt.models.base import PromptModel
from fastprompt.models.labels import CLASSES
from fastprompt.optimization import LearningRateSchedule
from fastprompt.options import TrainOptions
from fastprompt.progress import RunLog
from fastprompt.run_folder import HISTORY_FILE, METRICS_FILE, RUN_FILES, make_folder
from fastprompt.training import evaluate, make_trainer


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; what was trained so far lies in the run's folder."""


def choose_device(asked: str | None) -> str:
    return asked or ("cuda" if runtime.has_gpu() else "cpu")


# kind of data -> the task whose model reads it
_TASKS: dict[type, str] = {
    LabelledTexts: "sequence_classification",
    MultipleChoices: "multiple_choice",
    TaggedTokens: "token_classification",
    SquadData: "question_answering",
}
_CLOZE = "masked_lm"  # texts in a template are its task instead


def _task_of(data: TaskData, options: TrainOptions) -> str:
    """The task whose model reads `data`.

    Raises:
        ConfigError: a template or a verbalizer is given without the other, or for data that are no single texts.
    """
    if not options.template and not options.verbalizer:
        return _TASKS[type(data)]
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
        "gradient_checkpointing": options.gradient_checkpointing,
        "hidden_dropout_prob": options.hidden_dropout_prob,
        "attention_probs_dropout_prob": options.attention_probs_dropout_prob,
        "backbone": options.backbone,
    }
    if interchange.is_prompt(options.model_name_or_path):
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
    if model.task not in (task, _CLOZE if isinstance(data, LabelledTexts) and data.pairs is None else task):
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
    if model.task == _CLOZE:
        data = ClozeTexts(data.texts, data.labels, model.method_config.template)
    size = options.per_device_train_batch_size if shuffle else options.per_device_eval_batch_size
    settings = {"batch_size": size, "shuffle": shuffle, "max_length": max_length, "seed": options.seed, "notes": notes}
    loader = make_dataloader(data, tokenizer, **settings)
    _tell(notes)
    return loader, data


def _evaluate(
    options: TrainOptions, model: PromptModel, loader: Any, made_from: Any, device: str, output: Path | None
) -> dict:
    """The task's official scores on a `_loader`; answers to questions are written into `output`."""
    metrics = task_metrics(options.task_name, options.dataset_name, made_from)
    scores = evaluate(model, loader, device, metrics)
    if output is not None and "squad" in metrics:
        metrics["squad"].answers.write(output)
    return scores


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, evaluate, and leave prompt, metrics and history in the run's folder; returns the metrics.

    Raises:
        Interrupted: at Ctrl-C, once what was trained so far is saved.
    """
    output = Path(options.output_dir).expanduser()
    make_folder(output, RUN_FILES, options.overwrite_output_dir)
    device = choose_device(options.device)
    runtime.seed(options.seed)
    train_set = load_split(options, "train")
    eval_set = load_split(options, "validation", getattr(train_set, "label_names", None))
    model = load_model(options, device, train_set)
    train_loader, _ = _loader(options, model, train_set, shuffle=True)
    eval_loader = _loader(options, model, eval_set)  # now: what cannot be evaluated is found before the training
    schedule = LearningRateSchedule(options.learning_rate, options.lr_scheduler_type, options.warmup_ratio)
    log = RunLog(output / HISTORY_FILE, schedule, options.logging_steps)
    trainer = make_trainer(model, train_loader, options, device, [log], schedule)
    try:
        trainer.run(catch_KeyboardInterrupt=False)
    except KeyboardInterrupt as stop:
        model.save_pretrained(output)
        raise Interrupted(
            f"Stopped at step {trainer.global_forward_batches}; the prompt so far is in {output}."
        ) from stop
    model.save_pretrained(output)
    metrics = {
        **_evaluate(options, model, *eval_loader, device, output),
        "train_samples": len(train_set),
        "eval_samples": len(eval_set),
        "steps": trainer.global_forward_batches,
        "train_seconds": round(log.train_seconds, 3),
        "samples_per_second": round(log.samples / log.train_seconds, 2),
        "seconds_to_first_step": round(log.seconds_to_first_step, 3),
        **describe(model, device),
        "method": model.method_config.method,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    interchange.write_whole({output / METRICS_FILE: interchange.as_json(metrics)})
    return metrics


def _fitting(options: TrainOptions, model: PromptModel) -> int:
    """max_seq_length, or what the backbone's positions leave beside the prompt where that is less."""
    return options.max_seq_length if model.max_length is None else min(options.max_seq_length, model.max_length)


def describe(model: PromptModel, device: str) -> dict[str, Any]:
    """Parameter counts, peak memory, framework and versions."""
    tuned, total = model.count_parameters()
    memory = runtime.peak_device_memory_mb()
    if memory is None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "trainable_parameters": tuned,
        "total_parameters": total,
        "peak_memory_mb": round(memory, 1),
        "backend": backend(),
        "backend_version": runtime.version(),
        "fastnlp_version": version("fastNLP"),
        "fastprompt_version": version("fastprompt"),
        "device": device,
    }


def _require_prompt(options: TrainOptions) -> None:
    if not interchange.is_prompt(options.model_name_or_path):
        raise ConfigError(f"{options.model_name_or_path} holds no prompt ({interchange.CONFIG_FILE}); train one first.")


def evaluate_prompt(options: TrainOptions) -> dict[str, Any]:
    """A saved prompt's metrics on a task's evaluation split."""
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    eval_set = load_split(options, "validation", model.label_names)
    _check_fits(model, eval_set, options)
    scores = _evaluate(options, model, *_loader(options, model, eval_set), device, None)
    return {**scores, "eval_samples": len(eval_set), **describe(model, device)}


@dataclasses.dataclass
class Prediction:
    text: str
    label: str
    probabilities: dict[str, float]


def predict(options: TrainOptions, lines: Iterable[str]) -> Iterator[Prediction]:
    """A saved prompt's answer to each line, in order, batch by batch as the lines come."""
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    if model.task != _TASKS[LabelledTexts] or model.problem_type != CLASSES:
        kind = model.problem_type or model.task
        raise ConfigError(f"predict names one class a text so far; {options.model_name_or_path} is for {kind}.")
    nn.move(model, device)
    model.eval()
    tokenizer = load_tokenizer(model.checkpoint.directory)
    pad = PadBatch(tokenizer.pad_token_id)
    like = model.trainable_parameters()[0]
    for batch in _batches(lines, options.per_device_eval_batch_size):
        rows = tokenizer(batch, max_length=_fitting(options, model))
        arrays = pad([{**row, "labels": 0} for row in rows])
        del arrays["labels"]
        with ops.no_grad():
            logits = model(**{name: ops.tensor(array, like=like) for name, array in arrays.items()}).logits
            probabilities = ops.to_numpy(ops.softmax(logits, axis=-1))
        for text, row in zip(batch, probabilities, strict=True):
            named = {name: float(p) for name, p in zip(model.label_names, row, strict=True)}
            yield Prediction(text, max(named, key=named.get), named)


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
