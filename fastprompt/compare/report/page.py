"""The report of a comparison: one self-contained page, and its figures beside it as PNG.

Importing this module needs the extra `report`, so that a long comparison can find out at its start.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fastprompt.compare.report import wording
from fastprompt.errors import FastpromptError
from fastprompt.saving.files import make_folder, write_whole

try:
    from fastprompt.compare.report import figures

    import jinja2
    from markupsafe import Markup, escape
except ModuleNotFoundError as error:
    raise FastpromptError(f"The report needs {error.name}: pip install 'fastprompt[report]'.") from error

REPORT_FILE = "report.html"
FIGURE_FILES = ("loss.png", "loss_difference.png", "speed.png", "memory.png")
MOST_ROWS = 12  # of a table that is open from the start

_QUANTITIES = {  # besides the task's own metrics
    "samples_per_second": "Samples / s",
    "seconds_to_first_step": "To first step (s)",
    "train_seconds": "Training (s)",
    "peak_memory_mb": "Peak memory (MB)",
}
_MACHINE = {"processor": "Processor", "cores": "Cores", "memory_gb": "Memory", "system": "System"}


class Column(NamedTuple):
    """Of the table of results: its name in the report and on the page, its numbers' decimals."""

    name: str
    label: str
    decimals: int
    width: int  # of its longest deviation, in characters


class NumberCell(NamedTuple):
    """A table's cell: a mean and its deviation, which is empty with one seed."""

    label: str
    mean: str
    deviation: str
    width: int


class BudgetCell(NamedTuple):
    """A table's cell: a difference and whether it breaks its budget."""

    label: str
    value: str
    broken: bool


@dataclass
class Picture:
    """A figure in both schemes as data URIs, and its size in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int
    alt: str


def write_report(report: dict[str, Any], directory: Path) -> Path:
    """Write `report.html` and its figures into `directory`, whole or not at all; figures of an earlier report go.

    Args:
        report: what `fastprompt compare` found, as it stands in report.json.

    Returns: the page's path.

    Raises:
        ConfigError: the folder cannot be made.
        CheckpointError: the folder cannot be written.
    """
    make_folder(directory)
    curves = figures.read_curves(report)
    drawn = {directory / name: figures.to_png(draw) for name, draw in _whole_figures(report, curves).items()}
    page = directory / REPORT_FILE
    write_whole({**drawn, page: _render(report, curves).encode()})
    for name in FIGURE_FILES:
        if directory / name not in drawn:
            (directory / name).unlink(missing_ok=True)
    return page


def _whole_figures(report: dict[str, Any], curves: figures.Curves) -> dict[str, Callable[[figures.ColourScheme], Any]]:
    """What draws each PNG, of those that there is something to draw for."""
    found: dict[str, Callable[[figures.ColourScheme], Any]] = {}
    if drawn := _drawn_methods(report, curves.losses):
        found["loss.png"] = partial(figures.draw_losses, report, curves, drawn, True)
    if drawn := _drawn_methods(report, curves.differences):
        found["loss_difference.png"] = partial(figures.draw_differences, report, curves, drawn, True)
    if report["summary"]:
        found["speed.png"] = partial(figures.draw_bars, report, "samples_per_second", "samples per second")
        found["memory.png"] = partial(figures.draw_bars, report, "peak_memory_mb", "MB at the peak")
    return found


def _drawn_methods(report: dict[str, Any], curves: list[figures.Curve]) -> list[str]:
    return [name for name in wording.methods(report) if any(curve.method == name for curve in curves)]


def _render(report: dict[str, Any], curves: figures.Curves) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["listing"] = wording.listing
    environment.filters["counted"] = wording.counted
    environment.filters["unbroken"] = _unbroken
    whole, columns = _whole_figures(report, curves), _columns(report)
    return environment.get_template("page.html.j2").render(
        report=report,
        title=wording.title(report),
        summary=wording.summary(report),
        created=_date(report["created"]),
        schemes={"light": figures.LIGHT.colours(), "dark": figures.DARK.colours()},
        dashes={name: line.dashes for name, line in figures.LINES.items()},
        backends=wording.backends(report),
        seeds=wording.seeds(report),
        columns=columns,
        results=_results(report, columns),
        panels=[_panel(report, curves, name) for name in _drawn_methods(report, curves.losses)],
        budget=None if report["loss_budget"] is None else wording.scientific(report["loss_budget"]),
        has_zeros=curves.has_zeros,
        longest=max(len(run["history"]) for run in report["runs"]),
        most_points=figures.MOST_POINTS,
        bars={
            name.removesuffix(".png"): _picture(whole[name], wording.describe_bars(report, quantity))
            for name, quantity in (("speed.png", "samples_per_second"), ("memory.png", "peak_memory_mb"))
            if name in whole
        },
        pngs=list(whole),
        parity=[_parity(entry) for entry in report["parity"]],
        most_rows=MOST_ROWS,
        failures=[run for run in report["runs"] if not wording.finished(run)],
        machine=_machine(report["machine"]),
    )


def _unbroken(text: str) -> Markup:
    """Keeps "p-tuning-v2" and "--seed" from being broken at a hyphen while there is room for them on a line."""
    whole = Markup('<span class="whole">{}</span>')
    return Markup(" ").join(whole.format(word) if "-" in word else escape(word) for word in text.split(" "))


def _date(created: str) -> str:
    moment = datetime.fromisoformat(created).astimezone(timezone.utc)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    found = {**machine, "memory_gb": f"{machine['memory_gb']:,.1f} GB"}
    return {label: found[key] for key, label in _MACHINE.items()}


def _columns(report: dict[str, Any]) -> list[Column]:
    labels = {name: wording.metric_name(name) for name in report["task_metrics"]} | _QUANTITIES
    columns = []
    for name, label in labels.items():
        values = [entry["values"][name] for entry in report["summary"] if name in entry["values"]]
        is_score = name in report["task_metrics"]
        decimals = 3 if is_score else wording.decimals(value["mean"] for value in values)
        width = max((len(_deviation(value, decimals)) for value in values), default=0)
        columns.append(Column(name, label, decimals, width))
    return columns


def _results(report: dict[str, Any], columns: list[Column]) -> list[dict[str, Any]]:
    """A group for each method, in it a row for each framework; a row that finished no run has no cells."""
    summaries = {(entry["method"], entry["backend"]): entry for entry in report["summary"]}
    groups = []
    for method in wording.methods(report):
        rows = []
        for backend in wording.backends(report):
            runs = [run for run in report["runs"] if (run["method"], run["backend"]) == (method, backend)]
            entry = summaries.get((method, backend))
            rows.append(
                {
                    "backend": backend,
                    "cells": [] if entry is None else [_number(entry["values"], column) for column in columns],
                    "parameters": "" if entry is None else f"{entry['trainable_parameters']:,}",
                    "finished": f"{sum(map(wording.finished, runs))} of {len(runs)}",
                    "complete": all(map(wording.finished, runs)),
                }
            )
        groups.append({"method": method, "rows": rows})
    return groups


def _number(values: dict[str, Any], column: Column) -> NumberCell:
    if column.name not in values:
        return NumberCell(column.label, "not measured", "", 0)
    value = values[column.name]
    mean = f"{value['mean']:,.{column.decimals}f}"
    return NumberCell(column.label, mean, _deviation(value, column.decimals), column.width)


def _deviation(value: dict[str, Any], decimals: int) -> str:
    return "" if value["deviation"] is None else f"±\u202f{value['deviation']:,.{decimals}f}"


def _panel(report: dict[str, Any], curves: figures.Curves, method: str) -> dict[str, Any]:
    losses = partial(figures.draw_losses, report, curves, [method], False)
    differences = partial(figures.draw_differences, report, curves, [method], False)
    return {
        "method": method,
        "loss": _picture(losses, wording.describe_losses(report, method)),
        "difference": _picture(differences, wording.describe_differences(report, method))
        if method in _drawn_methods(report, curves.differences)
        else None,
    }


def _picture(draw: Callable[[figures.ColourScheme], Any], alt: str) -> Picture:
    light, width, height = figures.to_svg(draw, figures.LIGHT)
    dark, *_ = figures.to_svg(draw, figures.DARK)
    return Picture(_data_uri(light), _data_uri(dark), width, height, alt)


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _parity(parity: dict[str, Any]) -> dict[str, Any]:
    """A parity measurement: every row, and for each quantity one with the largest difference of each framework."""
    over = {(entry["backend"], entry["quantity"], entry["name"]) for entry in parity["broken"]}
    rows = [
        {**row, "broken": {name for name in row["values"] if (name, row["quantity"], row["name"]) in over}}
        for row in parity["rows"]
    ]
    by_quantity: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_quantity.setdefault(row["quantity"], []).append(row)
    return {
        **parity,
        "all": [_difference_row(row, parity["backends"]) for row in rows],
        "worst": [_difference_row(_worst(own), parity["backends"]) for own in by_quantity.values()],
        "broken": [
            {**entry, "value": wording.scientific(entry["value"]), "budget": wording.scientific(entry["budget"])}
            for entry in parity["broken"]
        ],
    }


def _worst(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row["values"])
    return {
        **rows[0],
        "name": f"worst of {len(rows):,}" if len(rows) > 1 else rows[0]["name"],
        "values": {name: max(row["values"][name] for row in rows if name in row["values"]) for name in names},
        "broken": set().union(*(row["broken"] for row in rows)),
    }


def _difference_row(row: dict[str, Any], backends: list[str]) -> dict[str, Any]:
    return {
        "quantity": row["quantity"],
        "name": row["name"],
        "budget": "reported only" if row["budget"] is None else wording.scientific(row["budget"]),
        "cells": [
            BudgetCell(name, wording.scientific(row["values"][name]), name in row["broken"])
            if name in row["values"]
            else BudgetCell(name, "not measured", False)
            for name in backends
        ],
    }
