"""The command `fastprompt`, whose commands COMMANDS lists. This is its parser alone.

Results alone go to standard output; what frameworks print on it is sent to standard error. The framework is chosen
before a command's module, which imports it, is imported.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from fastprompt.commands.processes import run_in_several
from fastprompt.commands.request import check_evaluation, check_prediction, check_training
from fastprompt.errors import FastpromptError, LostProcess
from fastprompt.framework import set_backend
from fastprompt.launch import local
from fastprompt.launch.world import check_meeting, is_first, world
from fastprompt.options.parsing import add_arguments, read_given
from fastprompt.options.train import TrainOptions
from fastprompt.saving.remote import fetch_prompt

_PROMPT_OPTIONS = [
    *("model_name_or_path", "backend", "device", "backbone", "per_device_eval_batch_size", "max_seq_length"),
    *("doc_stride", "max_query_length", "n_best_size", "max_answer_length", "null_score_diff_threshold"),
    "chat_template",
]
_EVALUATE_OPTIONS = [
    *_PROMPT_OPTIONS,
    *("task_name", "dataset_name", "data_dir", "max_eval_samples", "text_columns", "label_column", "tag_column"),
    *("bf16", "load_in_8bit", "load_in_4bit"),
]
_PREDICT_OPTIONS = [*_PROMPT_OPTIONS, "max_new_tokens"]


class _CommandParser(argparse.ArgumentParser):
    """A command's parser, whose options are added when that command is asked for: no other waits for its imports."""

    add_options: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        add, self.add_options = self.add_options, None
        if add is not None:
            add(self)
        return super().parse_known_args(args, namespace)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastprompt", description="Prompt-based tuning under PyTorch, PaddlePaddle and Jittor."
    )
    parser.add_argument("--version", action="version", version=f"fastprompt {version('fastprompt')}")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, command in COMMANDS.items():
        parsers.add_parser(name, help=command.help).add_options = command.add_options
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for an error, `local.LOST` where another of several processes
    ended first, 130 after Ctrl-C.

    One of several processes that has failed does not return: at their ends they wait for each other."""
    status = _run(argv)
    if status and world().size > 1:
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(argv: list[str] | None) -> int:
    arguments = vars(make_parser().parse_args(argv))
    name = arguments.pop("command")
    command = COMMANDS[name]
    if not command.by_all and not is_first():
        here = world()
        print(f"fastprompt: rank 0 of the {here.size} processes does {name}, not rank {here.rank}.", file=sys.stderr)
        return 0
    results = _claim_standard_output()
    try:
        with nullcontext() if is_first() else redirect_stderr(Path(os.devnull).open("w")):
            return command.run(arguments, results)
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

    Of several processes the first has results to print.
    """
    sys.stdout.flush()
    results = os.fdopen(os.dup(1) if is_first() else os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _choose_backend(options: TrainOptions) -> None:
    if options.hardware.backend:
        set_backend(options.hardware.backend)


def _train(arguments: dict[str, Any], results: TextIO) -> int:
    given = read_given(arguments).used()
    options = TrainOptions(**given)
    _choose_backend(options)
    check_training(options)
    check_meeting()
    status = run_in_several(options, given, results)
    if status is not None:
        return status
    if options.data.task_name == "lama":
        from fastprompt.commands import lama as command
    else:
        from fastprompt.commands import train as command
    return command.main(options, results)


def _of_prompt(arguments: dict[str, Any], names: list[str]) -> TrainOptions:
    """The options of a command that uses a saved prompt, which may be on the hub."""
    revision = arguments.pop("revision")
    given = read_given(arguments, names)
    if "model_name_or_path" in given.values:
        given.values["model_name_or_path"] = str(fetch_prompt(given.values["model_name_or_path"], revision))
    return TrainOptions(**given.used())


def _add_prompt_options(parser: argparse.ArgumentParser, names: list[str]) -> None:
    add_arguments(parser, names)
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a prompt on the hub")


def _evaluate(arguments: dict[str, Any], results: TextIO) -> int:
    options = _of_prompt(arguments, _EVALUATE_OPTIONS)
    _choose_backend(options)
    check_evaluation(options)
    check_meeting()
    from fastprompt.commands import evaluate

    return evaluate.main(options, results)


def _predict(arguments: dict[str, Any], results: TextIO) -> int:
    asked = {name: arguments.pop(name) for name in ("input", "format", "version_2_with_negative")}
    options = _of_prompt(arguments, _PREDICT_OPTIONS)
    _choose_backend(options)
    check_prediction(options, asked["input"])
    from fastprompt.commands import predict

    return predict.main(options, results, **asked)


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    _add_prompt_options(parser, _PREDICT_OPTIONS)
    parser.add_argument(
        *("--input",), metavar="FILE", help="file of texts, or of JSON objects (.jsonl, .json); default: stdin"
    )
    parser.add_argument("--version_2_with_negative", action="store_true", help="questions may have no answer")
    parser.add_argument("--format", choices=("table", "jsonl"), default="table")


def _compare_module() -> ModuleType:
    from fastprompt.compare import commands

    return commands


def _search_module() -> ModuleType:
    from fastprompt.compare import search_command

    return search_command


def _convert_module() -> ModuleType:
    from fastprompt.commands import convert

    return convert


def _show_module() -> ModuleType:
    from fastprompt.commands import show

    return show


def _tasks_module() -> ModuleType:
    from fastprompt.commands import tasks

    return tasks


def _doctor_module() -> ModuleType:
    from fastprompt.commands import doctor

    return doctor


@dataclass(frozen=True)
class _Command:
    """A command of the command line.

    Attributes:
        by_all: whether several processes carry it out together; else the first does, alone.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[dict[str, Any], TextIO], int]
    by_all: bool = False


COMMANDS = {
    "train": _Command("tune a prompt and evaluate it", add_arguments, _train, by_all=True),
    "evaluate": _Command(
        "a saved prompt's metrics", partial(_add_prompt_options, names=_EVALUATE_OPTIONS), _evaluate, by_all=True
    ),
    "predict": _Command("a saved prompt's answers to lines of input", _add_predict_options, _predict),
    "parity": _Command(
        "compare a prompt under every framework with the stock model",
        lambda parser: _compare_module().add_parity_arguments(parser),
        lambda arguments, results: _compare_module().run_parity(arguments, results),
    ),
    "compare": _Command(
        "train under every framework and report",
        lambda parser: _compare_module().add_compare_arguments(parser),
        lambda arguments, results: _compare_module().run_compare(arguments, results),
    ),
    "search": _Command(
        "try options on training data set apart, and write the best as a file for --config",
        lambda parser: _search_module().add_search_arguments(parser),
        lambda arguments, results: _search_module().run_search(arguments, results),
    ),
    "convert": _Command(
        "a prompt from another tool's form, or to it",
        lambda parser: _convert_module().add_arguments(parser),
        lambda arguments, results: _convert_module().main(arguments, results),
    ),
    "show": _Command(
        "what a saved prompt is",
        lambda parser: _show_module().add_arguments(parser),
        lambda arguments, results: _show_module().main(**arguments, results=results),
    ),
    "tasks": _Command(
        "the tasks, their data sets, files and scores",
        lambda parser: None,
        lambda arguments, results: _tasks_module().main(results),
    ),
    "doctor": _Command(
        "what is installed and works here; with --run, why a run did not learn",
        lambda parser: _doctor_module().add_arguments(parser),
        lambda arguments, results: _doctor_module().main(arguments["run"], results),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
