"""The command `fastprompt`: train, evaluate, predict, parity, compare, convert, doctor.

Results alone go to standard output; what frameworks print on it is sent to standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

from fastprompt import __version__
from fastprompt.compare import commands as compare
from fastprompt.convert import KINDS, export_prompt, import_prompt
from fastprompt.errors import ConfigError, DataError, FastpromptError, LostProcess
from fastprompt.framework import backend, set_backend
from fastprompt.launch import local
from fastprompt.launch.world import is_first, place
from fastprompt.options.parsing import add_arguments, as_arguments, gather, over_file
from fastprompt.options.train import TrainOptions

from rich.console import Console
from rich.table import Table

_PROMPT_OPTIONS = [
    "model_name_or_path",
    "backend",
    "device",
    "backbone",
    "per_device_eval_batch_size",
    "max_seq_length",
]
_ANSWER_OPTIONS = [
    *("doc_stride", "max_query_length", "n_best_size", "max_answer_length", "null_score_diff_threshold"),
    "chat_template",
]
_TASK_OPTIONS = [
    *("task_name", "dataset_name", "data_dir", "max_eval_samples", "text_columns", "label_column"),
    *("bf16", "load_in_8bit", "load_in_4bit", "tag_column", *_ANSWER_OPTIONS),
]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastprompt", description="Prompt-based tuning under PyTorch, PaddlePaddle and Jittor."
    )
    parser.add_argument("--version", action="version", version=f"fastprompt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_arguments(commands.add_parser("train", help="tune a prompt and evaluate it"))
    add_arguments(commands.add_parser("evaluate", help="a saved prompt's metrics"), _PROMPT_OPTIONS + _TASK_OPTIONS)
    predict = commands.add_parser("predict", help="a saved prompt's answers to lines of input")
    add_arguments(predict, [*_PROMPT_OPTIONS, *_ANSWER_OPTIONS, "max_new_tokens"])
    predict.add_argument(
        *("--input",), metavar="FILE", help="file of texts, or of JSON objects where it ends in .jsonl; default: stdin"
    )
    predict.add_argument("--version_2_with_negative", action="store_true", help="questions may have no answer")
    predict.add_argument("--format", choices=("table", "jsonl"), default="table")
    compare.add_parsers(commands)
    convert = commands.add_parser("convert", help="a prompt from another tool's form, or to it")
    way = convert.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="source_kind", choices=tuple(KINDS), help="the tool that --input is of")
    way.add_argument("--to", dest="target_kind", choices=tuple(KINDS), help="the tool that --output is for")
    convert.add_argument("--input", required=True, metavar="DIR")
    convert.add_argument("--output", required=True, metavar="DIR")
    convert.add_argument("--model_name_or_path", metavar="BACKBONE", help="the backbone; --from needs it")
    convert.add_argument("--backbone", metavar="DIR", help="where a prompt's backbone lies, if not where its file says")
    convert.add_argument("--overwrite_output_dir", action="store_true", help="replace what --output holds")
    commands.add_parser("doctor", help="what is installed, and what works here")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for an error, `local.LOST` where another of several processes
    ended first, 130 after Ctrl-C.

    One of several processes that has failed does not return: at their ends they wait for each other."""
    status = _run(argv)
    if status and place().size > 1:
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(argv: list[str] | None) -> int:
    arguments = vars(make_parser().parse_args(argv))
    command = arguments.pop("command")
    results = _claim_standard_output()
    try:
        with nullcontext() if is_first() else redirect_stderr(Path(os.devnull).open("w")):
            return _COMMANDS[command](arguments, results)
    except LostProcess as error:
        print(f"fastprompt: {error}", file=sys.stderr)
        return local.LOST
    except FastpromptError as error:
        print(f"fastprompt: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), results.fileno())
        return 1
    except KeyboardInterrupt as stop:
        print(f"fastprompt: {stop or 'Interrupted.'}", file=sys.stderr)
        return 130


def _claim_standard_output() -> TextIO:
    """Our own handle on standard output; everything else that writes there ends up on standard error.

    Of several processes the first has results to tell.
    """
    sys.stdout.flush()
    results = os.fdopen(os.dup(1) if is_first() else os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _options(arguments: dict[str, Any]) -> TrainOptions:
    """The options; the framework they name is chosen before anything else is imported."""
    options = gather(arguments)
    if options.backend:
        set_backend(options.backend)
    return options


def _train(arguments: dict[str, Any], results: TextIO) -> int:
    given = over_file(dict(arguments))
    options = _options(arguments)
    count = options.num_processes or place().size
    if options.task_name == "lama":
        if count > 1:
            raise ConfigError("lama trains a prompt for each relation, in one process; leave --num_processes off.")
        return _train_lama(options, results)
    if count != place().size:
        if place().size > 1:
            raise ConfigError(f"--num_processes is {count}, and a launcher started {place().size}; leave it off.")
        return local.run(backend(), count, options.device, ["train", *as_arguments(given)], results)
    from fastprompt.commands import train

    metrics = train.train(options)
    _print_mapping(metrics, results)
    if options.task_name == "instruction":
        _print_costs(metrics, results)
    return 0


def _print_costs(metrics: dict[str, Any], results: TextIO) -> None:
    """What was trained and what memory that took, in the form of PEFT's line and its tutorials' tables."""
    tuned, total = metrics["trainable_parameters"], metrics["total_parameters"]
    print(
        f"trainable params: {tuned:,} || all params: {total:,} || trainable%: {100 * tuned / total:.4f}", file=results
    )
    table = Table("method", "all params", "trainable params", "memory, model loaded", "memory, peak")
    memory = (f"{metrics[name] / 1024:.2f} GiB" for name in ("model_memory_mb", "peak_memory_mb"))
    table.add_row(metrics["method"], f"{total:,}", f"{tuned:,}", *memory)
    Console(file=results, markup=False, highlight=False, width=100).print(table)


def _train_lama(options: TrainOptions, results: TextIO) -> int:
    from fastprompt.commands import lama

    rows, metrics = lama.run(options)
    table = Table("relation", "", "P@1", "P@10", "MRR", "facts", "left out")
    for row in rows:
        scores = (f"{row[name]:.3f}" for name in lama.SCORES)
        counts = (row["test_facts"], row["test_several_tokens"] + row["test_no_candidates"])
        table.add_row(row["relation"], row["label"], *scores, *map(str, counts), end_section=row is rows[-1])
    means = (f"{metrics[name]:.3f}" for name in lama.SCORES)
    table.add_row("mean", "", *means, str(metrics["eval_samples"]), str(metrics["several_tokens"]))
    Console(file=results, markup=False, highlight=False, width=100).print(table)
    return 0


def _evaluate(arguments: dict[str, Any], results: TextIO) -> int:
    options = _options(arguments)
    from fastprompt.commands import train

    _print_mapping(train.evaluate_prompt(options), results)
    return 0


def _predict(arguments: dict[str, Any], results: TextIO) -> int:
    source, form = arguments.pop("input"), arguments.pop("format")
    version_2 = arguments.pop("version_2_with_negative")
    options = _options(arguments)
    from fastprompt.commands import train

    structured = source is not None and source.endswith(".jsonl")
    answers = train.predict(options, _lines(source), structured=structured, version_2=version_2)
    if form == "jsonl":
        for found in answers:
            print(json.dumps(found, ensure_ascii=False), file=results, flush=True)
        return 0
    table = Table()
    for found in answers:
        row = _shown(found)
        for name in row if not table.columns else ():
            table.add_column(name)
        table.add_row(*row.values())
    Console(file=results, markup=False).print(table)
    return 0


def _shown(answer: dict[str, Any]) -> dict[str, str]:
    """An answer as a table's row, what was asked behind what was answered."""
    given = ("id", "text", "text_pair", "tokens", "predicate", "question", "choices")
    row = {}
    for name, value in sorted(answer.items(), key=lambda item: item[0] in given):
        if name == "probabilities":
            if "label" in answer:
                row["probability"] = f"{value[answer['label']]:.3f}"
        elif isinstance(value, list):
            row[name] = (" | " if name == "choices" else " ").join(str(item) for item in value)
        else:
            row[name] = f"{value:.3f}" if isinstance(value, float) else str(value)
    return row


def _lines(source: str | None) -> Iterator[tuple[str, str]]:
    """(where it stands, line without its end) of a file or of standard input."""
    if source is None:
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    try:
        with Path(source).open("rb") as file:
            yield from _decoded(file, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}).") from error


def _decoded(raw: Iterable[bytes], name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(raw, 1):
        where = f"{name}, line {number}"
        try:
            yield where, line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8; save it as UTF-8.") from error


def _convert(arguments: dict[str, Any], results: TextIO) -> int:
    source, output, overwrite = (arguments[name] for name in ("input", "output", "overwrite_output_dir"))
    if kind := arguments["source_kind"]:
        if arguments["model_name_or_path"] is None:
            raise ConfigError("--model_name_or_path is missing: the backbone that the prompt was tuned on.")
        written = import_prompt(kind, source, output, arguments["model_name_or_path"], overwrite=overwrite)
    else:
        backbone = arguments["backbone"] or arguments["model_name_or_path"]
        written = export_prompt(arguments["target_kind"], source, output, backbone=backbone, overwrite=overwrite)
    print(written, file=results)
    return 0


def _doctor(arguments: dict[str, Any], results: TextIO) -> int:
    from fastprompt.commands import doctor

    versions, frameworks = doctor.report()
    console = Console(file=results, markup=False, highlight=False)
    packages = Table("package", "version")
    for name, found in versions.items():
        packages.add_row(name, found or "not installed")
    console.print(packages)
    states = Table("framework", "state", "mend")
    for name, found in frameworks.items():
        states.add_row(name, found["state"], found["mend"])
    console.print(states)
    return 0 if any(found["state"].startswith("works") for found in frameworks.values()) else 1


def _print_mapping(metrics: dict[str, Any], results: TextIO) -> None:
    for name, value in metrics.items():
        print(f"{name}: {value}", file=results)
    results.flush()


_COMMANDS = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "parity": compare.run_parity,
    "compare": compare.run_compare,
    "convert": _convert,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())
