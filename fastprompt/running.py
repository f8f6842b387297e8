"""What the command line does: train into a run's folder, evaluate, predict."""

import dataclasses
import resource
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastprompt import interchange
from fastprompt.config import method_config
from fastprompt.data.loading import PadBatch, make_dataloader
from fastprompt.data.tasks import load_task
from fastprompt.data.tokenization import load_tokenizer
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, nn, ops, runtime
from fastprompt.models.labels import CLASSES
from fastprompt.models.sequence_classification import PromptForSequenceClassification
from fastprompt.optimization import LearningRateSchedule
from fastprompt.options import TrainOptions
from fastprompt.progress import RunLog
from fastprompt.run_folder import HISTORY_FILE, METRICS_FILE, prepare_output
from fastprompt.training import evaluate, make_trainer


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; what was trained so far lies in the run's folder."""


def choose_device(asked: str | None) -> str:
    return asked or ("cuda" if runtime.has_gpu() else "cpu")


def load_model(options: TrainOptions, device: str, label_names: list[str]) -> PromptForSequenceClassification:
    """The model that `options` describe: fresh, or a saved prompt to go on with."""
    if options.bf16 and not runtime.supports_bf16(device):
        raise ConfigError(f"{backend()} has no bfloat16 on {device}; leave --bf16 off.")
    settings: dict[str, Any] = {"config": method_config(options.method, **options.method_options())}
    if interchange.is_prompt(options.model_name_or_path):
        settings = {}
    else:
        settings["label_names"] = label_names
    return PromptForSequenceClassification.from_pretrained(
        options.model_name_or_path,
        backbone=options.backbone,
        seed=options.seed,
        bf16=options.bf16,
        gradient_checkpointing=options.gradient_checkpointing,
        hidden_dropout_prob=options.hidden_dropout_prob,
        attention_probs_dropout_prob=options.attention_probs_dropout_prob,
        **settings,
    )


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, evaluate, and leave prompt, metrics and history in the run's folder; returns the metrics.

    Raises:
        Interrupted: at Ctrl-C, once what was trained so far is saved.
    """
    output = Path(options.output_dir).expanduser()
    prepare_output(output, options.overwrite_output_dir)
    device = choose_device(options.device)
    runtime.seed(options.seed)
    task = (options.task_name, options.dataset_name, options.data_dir)
    train_set = load_task(*task, "train").head(options.max_train_samples)
    eval_set = load_task(*task, "validation").head(options.max_eval_samples)
    model = load_model(options, device, train_set.label_names)
    max_length = _fitting(options, model)
    tokenizer = load_tokenizer(model.checkpoint.directory)
    train_loader = make_dataloader(
        train_set,
        tokenizer,
        batch_size=options.per_device_train_batch_size,
        shuffle=True,
        max_length=max_length,
        seed=options.seed,
    )
    eval_loader = make_dataloader(
        eval_set, tokenizer, batch_size=options.per_device_eval_batch_size, max_length=max_length
    )
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
        **evaluate(model, eval_loader, device),
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


def _fitting(options: TrainOptions, model: PromptForSequenceClassification) -> int:
    """max_seq_length, or what the backbone's positions leave beside the prompt where that is less."""
    return options.max_seq_length if model.max_length is None else min(options.max_seq_length, model.max_length)


def describe(model: PromptForSequenceClassification, device: str) -> dict[str, Any]:
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
    eval_set = load_task(options.task_name, options.dataset_name, options.data_dir, "validation")
    eval_set = eval_set.head(options.max_eval_samples)
    model = load_model(options, device, eval_set.label_names)
    tokenizer = load_tokenizer(model.checkpoint.directory)
    loader = make_dataloader(
        eval_set, tokenizer, batch_size=options.per_device_eval_batch_size, max_length=_fitting(options, model)
    )
    return {**evaluate(model, loader, device), "eval_samples": len(eval_set), **describe(model, device)}


@dataclasses.dataclass
class Prediction:
    text: str
    label: str
    probabilities: dict[str, float]


def predict(options: TrainOptions, lines: Iterable[str]) -> Iterator[Prediction]:
    """A saved prompt's answer to each line, in order, batch by batch as the lines come."""
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device, [])
    if model.problem_type != CLASSES:
        raise ConfigError(f"predict names one class a text; {options.model_name_or_path} is for {model.problem_type}.")
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
