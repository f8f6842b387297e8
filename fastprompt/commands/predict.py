"""The command `fastprompt predict`: a saved prompt's answers. It loads neither fastNLP nor a trainer."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from fastprompt.commands.request import require_prompt
from fastprompt.commands.serving import check_precision, choose_device, reading_of, serve
from fastprompt.errors import DataError
from fastprompt.inference.lines import Line, batches, open_input, without_blanks
from fastprompt.inference.reading import print_notes
from fastprompt.inference.tasks import answer_lines, task_of
from fastprompt.models.auto import load_prompt_model
from fastprompt.options.train import TrainOptions

from rich.console import Console
from rich.table import Table


def main(
    options: TrainOptions, results: TextIO, *, input: str | None, format: str, version_2_with_negative: bool
) -> int:
    lines, structured = open_input(input)
    answers = predict(options, lines, structured=structured, version_2=version_2_with_negative)
    if format == "jsonl":
        for found in answers:
            print(json.dumps(found, ensure_ascii=False), file=results, flush=True)
        return 0
    table = Table()
    try:
        for found in answers:
            if "error" in found:
                print_notes([found["error"]])
                continue
            row = _shown(found)
            for name in row if not table.columns else ():
                table.add_column(name)
            table.add_row(*row.values())
    finally:
        if table.columns:
            Console(file=results, markup=False).print(table)
    return 0


def predict(
    options: TrainOptions, lines: Iterable[Line], *, structured: bool = False, version_2: bool = False
) -> Iterator[dict[str, Any]]:
    """A saved prompt's answer to each line, in order, batch by batch as the lines come.

    Args:
        structured: lines are JSON objects; see `inference.tasks.read_lines`.
        version_2: questions may have no answer.

    Yields:
        An answer, or {"error": what is wrong} where a line cannot be read.

    Raises:
        DataError: at the end: lines could not be read.
    """
    require_prompt(options.model)
    device = choose_device(options.hardware.device)
    check_precision(options.model, device)
    model = load_prompt_model(options.model.model_name_or_path, **options.model.loading())
    serve(model, device)
    reading = reading_of(options, model, version_2)
    if task_of(model).skips_blank_lines and not structured:
        lines = without_blanks(lines)
    count, wrong = 0, []
    for batch in batches(lines, options.evaluation.per_device_eval_batch_size):
        answers = answer_lines(batch, reading, structured)
        reading.print_notes()
        yield from answers
        count += len(answers)
        wrong += [found["error"] for found in answers if "error" in found]
    if wrong:
        raise DataError(f"{len(wrong)} of {count} lines have no answer: {wrong[0]}")


def _shown(answer: dict[str, Any]) -> dict[str, str]:
    """An answer as a table's row, what was asked after what was answered."""
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
