"""What the command line does: train into a run's folder, evaluate, predict."""

import dataclasses
import json
import resource
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastprompt.data.dataloader import make_dataloader
from fastprompt.data.examples import ClozeTexts, Instructions, LabelledTexts, MultipleChoices, TaggedTokens
from fastprompt.data.readers.squad import SquadData
from fastprompt.data.squad_windows import make_windows
from fastprompt.data.tasks import TaskData, load_task
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, nn, runtime
from fastprompt.inference.answers import Line, answer, batches, read_lines
from fastprompt.launch.world import is_first, place
from fastprompt.methods.registry import method_config
from fastprompt.metrics.tasks import main_score, task_metrics
from fastprompt.models.auto import load_prompt_model, model_class
from fastprompt.models.base import PromptModel
from fastprompt.options.parsing import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.saving import prompt_file
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import (
    BEST,
    EVALUATIONS_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RUN_FILES,
    make_run_folder,
)
from fastprompt.training.checkpointing import Checkpoints, choose
from fastprompt.training.evaluation import BestPrompt, Evaluations
from fastprompt.training.optimization import LearningRateSchedule
from fastprompt.training.progress import RunLog
from fastprompt.training.trainer import evaluate, make_trainer

import numpy


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


@dataclasses.dataclass
class _Splits:
    """What a run reads; what it does not read is None.

    Attributes:
        selection: the examples that choose the best prompt.
    """

    train: TaskData | None = None
    evaluation: TaskData | None = None
    selection: TaskData | None = None
    test: TaskData | None = None


def _load_splits(options: TrainOptions, label_names: list[str] | None) -> _Splits:
    splits = _Splits()
    if options.do_train:
        splits.train = load_split(options, "train")
        label_names = getattr(splits.train, "label_names", None)
    if options.do_eval or (options.evaluation_strategy != "no" and not options.selection_samples):
        splits.evaluation = splits.selection = load_split(options, "validation", label_names)
    if options.do_predict:
        splits.test = load_split(options, "test", label_names)
    if splits.train is not None and options.selection_samples:
        splits.train, splits.selection = _set_apart(splits.train, options.selection_samples, options.seed)
    return splits


def _set_apart(data: TaskData, count: int, seed: int) -> tuple[TaskData, TaskData]:
    """(the other examples, `count` drawn ones)"""
    if count >= len(data):
        raise ConfigError(f"--selection_samples is {count}, and there are {len(data)} training examples in all.")
    drawn = set(numpy.random.default_rng(seed).permutation(len(data))[:count].tolist())
    kept = [place for place in range(len(data)) if place not in drawn]
    return data.select(kept), data.select(sorted(drawn))


def train(options: TrainOptions) -> dict[str, Any]:
    """Train, evaluate and predict, as far as is asked for; what was found is left in the run's folder and returned.

    Raises:
        Interrupted: at Ctrl-C, once what was trained so far is saved.
    """
    output = Path(options.output_dir).expanduser()
    if not options.do_train:
        _require_prompt(options)
    going_on = options.do_train and options.resume_from_checkpoint is not None
    if going_on and (output / METRICS_FILE).exists():
        print(f"{output} holds a finished run; nothing is left to be done.", file=sys.stderr)
        return json.loads((output / METRICS_FILE).read_bytes())
    make_run_folder(output, RUN_FILES, options.overwrite_output_dir or going_on)
    start = choose(options.resume_from_checkpoint, output) if going_on else None
    if going_on and start is None:
        print(f"There is no checkpoint in {output}: starting from the beginning.", file=sys.stderr)
    device = choose_device(options.device)
    runtime.seed(options.seed)
    model = None if options.do_train else load_model(options, device)
    splits = _load_splits(options, None if model is None else model.label_names)
    if model is None:
        model = load_model(options, device, splits.train)
    else:
        _check_fits(model, splits.evaluation or splits.test, options)
    loaded = {"model_memory_mb": _peak_memory_mb()}
    # Now, so that what cannot be evaluated is found before the training.
    scored = None if splits.evaluation is None else _loader(options, model, splits.evaluation)
    metrics: dict[str, Any] = {}
    if options.do_train:
        chosen_by = scored
        if options.evaluation_strategy != "no" and splits.selection is not splits.evaluation:
            chosen_by = _loader(options, model, splits.selection)
        metrics = _train(options, model, splits, chosen_by, device, output, start)
    if options.do_eval:
        scores = _evaluate(options, model, *scored, device, output)
        metrics = {**scores, "eval_samples": len(splits.evaluation), **metrics}
    if options.do_predict:  # last, for of several processes only the first does it, where it has the backbone whole
        metrics["test_samples"] = len(splits.test)
        if is_first() or options.fsdp:
            _predict_split(options, model, splits.test, device, output / PREDICTIONS_FILE)
    metrics = {
        **metrics,
        **loaded,
        **describe(model, device),
        "method": model.method_config.method,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    write_whole({output / METRICS_FILE: as_json(metrics)})
    return metrics


def _train(
    options: TrainOptions,
    model: PromptModel,
    splits: _Splits,
    chosen_by: Any,
    device: str,
    output: Path,
    start: Path | None,
) -> dict[str, Any]:
    """Train, save the prompt, and tell what the training was like.

    Args:
        chosen_by: the `_loader` that evaluations during the training run on.
        start: the checkpoint to go on from.
    """
    train_loader, _ = _loader(options, model, splits.train, shuffle=True)
    schedule = LearningRateSchedule(options.learning_rate, options.lr_scheduler_type, options.warmup_ratio)
    log = RunLog(output / HISTORY_FILE, schedule, options.logging_steps)
    callbacks: list[Any] = [log]
    best = None
    if options.load_best_model_at_end:
        metric = options.metric_for_best_model or main_score(options.task_name, options.dataset_name)
        best = BestPrompt(model, output / BEST, metric)
    if options.evaluation_strategy != "no":
        steps = options.eval_steps if options.evaluation_strategy == "steps" else None
        score = partial(_evaluate, options, model, *chosen_by, device)
        callbacks.append(Evaluations(score, output / EVALUATIONS_FILE, steps, log, best))
    every = (options.save_steps or 500) if options.save_strategy == "steps" else None
    epochs = options.save_strategy == "epoch"
    checkpoints = Checkpoints(options, output, log, every, epochs, options.save_total_limit)
    trainer = make_trainer(model, train_loader, options, device, [*callbacks, checkpoints], schedule)
    if start is not None:
        trainer.load_checkpoint(start)
        print(f"going on from {start}", file=sys.stderr)
    try:
        with _asked_to_end_by_sigterm(checkpoints):
            trainer.run(catch_KeyboardInterrupt=False)
    except KeyboardInterrupt as stop:
        model.save_pretrained(output)
        raise Interrupted(
            f"Stopped at step {trainer.global_forward_batches}; the prompt so far is in {output}."
        ) from stop
    told: dict[str, Any] = {
        "train_samples": len(splits.train),
        "steps": trainer.global_forward_batches,
        "train_seconds": round(log.train_seconds, 3),
        "samples_per_second": round(log.samples / log.train_seconds, 2),
        "seconds_to_first_step": round(log.seconds_to_first_step, 3),
    }
    if best is not None:
        best.restore()
        told |= {"best_step": best.step, "best_metric": best.metric, "best_chosen_on": _chosen_on(options)}
    model.save_pretrained(output)
    return told


@contextmanager
def _asked_to_end_by_sigterm(checkpoints: Checkpoints) -> Iterator[None]:
    """SIGTERM lets the step end, writes a checkpoint, and ends the run."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle
        yield
        return

    def ask(signum: int, frame: Any) -> None:
        checkpoints.asked_to_end = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _chosen_on(options: TrainOptions) -> str:
    if options.selection_samples:
        return f"{options.selection_samples} training examples set apart"
    return "the evaluation split, the same that is reported"


def _predict_split(options: TrainOptions, model: PromptModel, data: TaskData, device: str, path: Path) -> None:
    notes: list[str] = []
    nn.move(model, device)
    model.eval()
    answers = answer(model, data, options, _fitting(options, model), notes)
    _tell(notes)
    write_whole({path: "".join(f"{json.dumps(a, ensure_ascii=False)}\n" for a in answers).encode()})


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


def _require_prompt(options: TrainOptions) -> None:
    if not prompt_file.is_prompt(options.model_name_or_path):
        raise ConfigError(f"{options.model_name_or_path} holds no prompt ({prompt_file.CONFIG_FILE}); train one first.")


def evaluate_prompt(options: TrainOptions) -> dict[str, Any]:
    """A saved prompt's metrics on a task's evaluation split."""
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    eval_set = load_split(options, "validation", model.label_names)
    _check_fits(model, eval_set, options)
    scores = _evaluate(options, model, *_loader(options, model, eval_set), device)
    return {**scores, "eval_samples": len(eval_set), **describe(model, device)}


def predict(
    options: TrainOptions, lines: Iterable[Line], *, structured: bool = False, version_2: bool = False
) -> Iterator[dict[str, Any]]:
    """A saved prompt's answer to each line, in order, batch by batch as the lines come.

    Args:
        structured: lines are JSON objects; see `predicting.read_lines`.
        version_2: questions may have no answer.
    """
    _require_prompt(options)
    device = choose_device(options.device)
    model = load_model(options, device)
    nn.move(model, device)
    model.eval()
    for batch in batches(lines, options.per_device_eval_batch_size):
        notes: list[str] = []
        data = read_lines(model, batch, structured, version_2, options.chat_template)
        answers = answer(model, data, options, _fitting(options, model), notes)
        _tell(notes)
        yield from answers
