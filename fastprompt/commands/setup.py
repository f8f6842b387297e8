"""What commands that train or evaluate share: examples, model, loaders and scores of a run."""

import resource
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from fastprompt.commands.serving import check_precision, choose_device, reading_of
from fastprompt.data.dataloader import make_dataloader
from fastprompt.data.encoding import Encodable
from fastprompt.data.tasks import TaskData, load_task
from fastprompt.framework import backend, nn, runtime
from fastprompt.inference.reading import print_notes
from fastprompt.inference.tasks import Task, find_task
from fastprompt.launch.world import world
from fastprompt.models.auto import load_prompt_model
from fastprompt.models.base import PromptModel
from fastprompt.models.frozen import first_changed_layer
from fastprompt.models.starts import takes_head
from fastprompt.options.groups import ModelOptions
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file
from fastprompt.training.frozen_layers import cache_frozen_layers
from fastprompt.training.trainer import evaluate

import numpy


@dataclass
class Setup:
    """A command's options, and what they amount to here: the task and the device."""

    options: TrainOptions
    task: Task = field(init=False)
    device: str = field(init=False)

    def __post_init__(self) -> None:
        self.task = find_task(self.options)
        self.device = choose_device(self.options.hardware.device)


@dataclass
class Loaded:
    """Examples as a model reads them.

    Attributes:
        loader: fastNLP's.
        data: what its batches are made of: the examples, or their windows.
        at_max_length: how many of them fill the longest input, most of which were cut.
    """

    loader: Any
    data: Encodable
    at_max_length: int


def load_split(setup: Setup, split: str, label_names: list[str] | None = None) -> TaskData:
    """A split of the task, as long as the options want it; what was fixed or left out is noted."""
    options = setup.options.data
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
    print_notes(data.notes)
    setup.task.model_task.check(data, options.task_name)
    return data.head(options.max_train_samples if split == "train" else options.max_eval_samples)


def _backbone(options: ModelOptions) -> Checkpoint:
    """The files of the pretrained model, be it a saved prompt's."""
    if options.is_prompt:
        return prompt_file.read_description(options.model_name_or_path).open_backbone(options.backbone)
    return Checkpoint(options.model_name_or_path)


def load_model(setup: Setup, data: TaskData) -> PromptModel:
    """The model for `data` that the options describe: a saved prompt's, or a fresh one."""
    options, task = setup.options.model, setup.task.model_task
    check_precision(options, setup.device)
    loading = options.loading()
    if setup.options.training.cache_frozen_layers is not None:
        first_changed_layer(setup.options.config, _backbone(options))
        loading["portable"] = True  # the stock model cannot start at a later layer
    if options.is_prompt:
        model = load_prompt_model(options.model_name_or_path, **loading)
        task.check_outputs(data, model, options.model_name_or_path)
    else:
        config = setup.options.config
        model = task.model.from_pretrained(options.model_name_or_path, config, **task.outputs(data), **loading)
        print_notes(config.notes)
    if options.init_prompt is not None:
        taken = "with" if takes_head(model, prompt_file.read_description(options.init_prompt)) else "without"
        print_notes([f"The prompt starts as {options.init_prompt}, {taken} its head."])
    _note_dropout(setup.options, model)
    return model


def _note_dropout(options: TrainOptions, model: PromptModel) -> None:
    """Say where a rate of dropout that was given does not act."""
    layers = model.backbone.geometry.layers
    first = model.method_config.first_changed_layer(layers)
    rates = [name for name in ("hidden_dropout_prob", "attention_probs_dropout_prob") if getattr(options.model, name)]
    if rates and 0 < first < layers:
        print(f"note: --{' and --'.join(rates)} acts from layer {first} on, the first with a prefix.", file=sys.stderr)
    if first == layers and options.training.cache_frozen_layers is not None:
        print("note: the backbone's layers are computed once, and without dropout.", file=sys.stderr)


def make_loader(setup: Setup, model: PromptModel, data: TaskData, shuffle: bool = False) -> Loaded:
    """Batches to train on where they are shuffled, else to evaluate."""
    options, reading = setup.options, reading_of(setup.options, model)
    prepared = setup.task.model_task.prepare(data, reading)
    train_size, size = options.training.per_device_train_batch_size, options.evaluation.per_device_eval_batch_size
    loader = make_dataloader(
        prepared,
        reading.tokenizer,
        batch_size=train_size if shuffle else size,
        shuffle=shuffle,
        max_length=reading.max_length,
        seed=options.model.seed,
        notes=reading.notes,
        model=model,
    )
    reading.print_notes()
    at_max_length = int((numpy.asarray(loader.parts.rows.lengths) >= reading.max_length).sum())
    if (directory := options.training.cache_frozen_layers) is not None:
        nn.move(model, setup.device)
        loader = cache_frozen_layers(model, loader, directory, limit_gb=options.training.cache_limit)
    return Loaded(loader, prepared, at_max_length)


def score(setup: Setup, model: PromptModel, loaded: Loaded, output: Path | None = None) -> dict[str, float]:
    """The task's official scores; answers to questions are written into `output`."""
    options = setup.options.evaluation
    metrics = setup.task.scores.make(
        loaded.data,
        n_best_size=options.n_best_size,
        max_answer_length=options.max_answer_length,
        null_threshold=options.null_score_diff_threshold,
    )
    scores = evaluate(model, loaded.loader, setup.device, metrics, setup.options.hardware.fsdp)
    if output is not None and "squad" in metrics:
        metrics["squad"].answers.write(output)
    return scores


def peak_memory_mb() -> float:
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
        "peak_memory_mb": peak_memory_mb(),
        "backend": backend(),
        "backend_version": runtime.version(),
        "fastnlp_version": version("fastNLP"),
        "fastprompt_version": version("fastprompt"),
        "device": device,
        "num_processes": world().size,
    }


def print_mapping(metrics: dict[str, Any], results: TextIO) -> None:
    for name, value in metrics.items():
        print(f"{name}: {value}", file=results)
    results.flush()
