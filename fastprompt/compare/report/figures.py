"""The report's figures: SVG in a light and a dark scheme for the page, PNG to put elsewhere.

Sizes are in CSS pixels. A framework keeps its colour and its kind of line in every figure; the colours stay apart for
eyes that miss one of red, green and blue, and the lines stay apart where the curves lie on one another.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from fastprompt.compare.report import wording
from fastprompt.framework import BACKENDS, declaration

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

# Drawn in this order, from the widest at the bottom to the most broken on top: where curves agree, all of them show.
LINES = {name: declaration(name).line_style for name in BACKENDS}


@dataclass(frozen=True)
class ColourScheme:
    """Colours of the page and of the figures on it; text has a contrast of 4.5 or more on `surface`."""

    surface: str
    raised: str  # under commands
    ink: str
    muted: str
    rule: str
    alarm: str
    frameworks: dict[str, str]

    def colours(self) -> dict[str, str]:
        """All of them by their names."""
        own = asdict(self)
        frameworks = own.pop("frameworks")
        return own | frameworks


LIGHT = ColourScheme(
    *("#ffffff", "#f5f6f8", "#1c2128", "#57606a", "#d5dae0", "#b42318"),
    {name: line.light for name, line in LINES.items()},
)
DARK = ColourScheme(
    *("#14171c", "#1d2128", "#e4e7eb", "#9aa4af", "#363d46", "#ff8a80"),
    {name: line.dark for name, line in LINES.items()},
)

MOST_POINTS = 250  # of a curve; a longer one is drawn in that many stretches
FIGURE_WIDTH = 384
_DPI = 96
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans',sans-serif"
_TEXT, _SMALL = 12, 11
_STEPS = (1, 2, 2.5, 5, 10)  # between ticks
_LEFT, _RIGHT = 48, 88  # of a panel: heights, and the names at the ends of the lines


def to_svg(draw: Callable[[ColourScheme], Figure], scheme: ColourScheme) -> tuple[bytes, int, int]:
    """The figure as SVG on a clear ground, with text in the reader's own font; its width and height."""
    content, sides = _save(draw, scheme, "svg", transparent=True, metadata={"Date": None, "Creator": None})
    font = f"text{{font-family:{_FONT}!important;font-variant-numeric:tabular-nums}}</style>"
    return content.decode().replace("</style>", font, 1).encode(), *sides


def to_png(draw: Callable[[ColourScheme], Figure]) -> bytes:
    return _save(draw, LIGHT, "png", dpi=2 * _DPI, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})[0]


def _save(
    draw: Callable[[ColourScheme], Figure], scheme: ColourScheme, form: str, **options: Any
) -> tuple[bytes, list[int]]:
    buffer = io.BytesIO()
    with _settings(scheme):
        figure = draw(scheme)
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue(), [round(side * _DPI) for side in figure.get_size_inches()]


@contextmanager
def _settings(scheme: ColourScheme) -> Iterator[None]:
    """matplotlib's defaults and ours, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "fastprompt",
                "text.parse_math": False,
                "font.size": _points(_TEXT),
                "text.color": scheme.ink,
                "figure.dpi": _DPI,
                "figure.facecolor": scheme.surface,
                "axes.facecolor": "none",
                "lines.dash_capstyle": "butt",
                "lines.scale_dashes": True,
            }
        )
        yield


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


# -- curves ----------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """One run's, in at most MOST_POINTS points."""

    method: str
    backend: str
    steps: numpy.ndarray
    values: numpy.ndarray


@dataclass(frozen=True)
class Curves:
    """All curves of a report, and the powers of ten that hold every difference and the budget.

    `floor` stands for an exact zero where there is one.
    """

    losses: list[Curve]
    differences: list[Curve]
    floor: float
    top: float
    has_zeros: bool


def read_curves(report: dict[str, Any]) -> Curves:
    """The curves as they are drawn: of long ones, the mean of each stretch's losses, the largest of its differences."""
    losses = [
        _thinned(run, [line["step"] for line in run["history"]], [line["loss"] for line in run["history"]], numpy.mean)
        for run in report["runs"]
        if run["history"]
    ]
    found = [_thinned(entry, entry["steps"], entry["values"], numpy.max) for entry in report["loss_differences"]]
    values = numpy.concatenate([[], *(curve.values for curve in found)])
    budget = [] if report["loss_budget"] is None else [report["loss_budget"]]
    positive = [*values[numpy.isfinite(values) & (values > 0)], *budget]
    has_zeros = bool((values == 0).any())
    top = math.ceil(math.log10(max(positive, default=1e-4)) + 0.3)
    bottom = min(math.floor(math.log10(min(positive, default=1e-8))) - has_zeros, top - 3)
    floor = 10.0**bottom
    differences = [
        curve._replace(values=numpy.clip(numpy.nan_to_num(curve.values, nan=math.inf), floor, 10.0**top))
        for curve in found
    ]
    return Curves(losses, differences, floor, 10.0**top, has_zeros)


def _thinned(run: dict[str, Any], steps: list[int], values: list[float], reduce: Callable) -> Curve:
    pieces = min(len(steps), MOST_POINTS)
    x, y = (numpy.array_split(numpy.asarray(column, dtype="float64"), pieces) for column in (steps, values))
    return Curve(
        run["method"], run["backend"], numpy.array([piece.mean() for piece in x]), numpy.array([*map(reduce, y)])
    )


def draw_losses(
    report: dict[str, Any], curves: Curves, methods: list[str], titled: bool, scheme: ColourScheme
) -> Figure:
    """Training loss over steps: a panel for each method, a line for each framework and seed."""
    figure, panels = _panels(methods, titled, 216, scheme)
    for method, axes in zip(methods, panels, strict=True):
        ends: dict[str, list[float]] = {name: [] for name in wording.backends(report)}
        for curve in curves.losses:
            if curve.method == method:
                ends[curve.backend].append(_draw_curve(axes, curve, _has_several_seeds(report), scheme))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_ylim(*_with_room(*axes.dataLim.intervaly))
        _name_axes(axes, "loss", [name for name, own in ends.items() if not own], scheme)
        _name_lines(axes, ends, scheme)
    return figure


def draw_differences(
    report: dict[str, Any], curves: Curves, methods: list[str], titled: bool, scheme: ColourScheme
) -> Figure:
    """Relative difference of the loss to the base framework's over steps, logarithmic, all panels on one scale."""
    figure, panels = _panels(methods, titled, 196, scheme)
    budget, floor, top = report["loss_budget"], curves.floor, curves.top
    low, high = round(math.log10(floor)), round(math.log10(top))
    exponents = list(range(high, low - 1 + curves.has_zeros, -math.ceil((high - low) / 4)))
    names = [wording.power_of_ten(exponent) for exponent in exponents]
    for method, axes in zip(methods, panels, strict=True):
        axes.set_yscale("log")
        ends: dict[str, list[float]] = {name: [] for name in wording.backends(report) if name != report["base"]}
        for curve in curves.differences:
            if curve.method == method:
                zero = floor if curves.has_zeros else None
                ends[curve.backend].append(_draw_curve(axes, curve, _has_several_seeds(report), scheme, zero))
        axes.set_ylim(floor / 1.5, top * 1.5)
        axes.yaxis.set_major_locator(FixedLocator([10.0**e for e in exponents] + [floor] * curves.has_zeros))
        axes.yaxis.set_major_formatter(FixedFormatter(names + ["0"] * curves.has_zeros))
        axes.yaxis.set_minor_locator(NullLocator())
        if budget is not None:
            axes.axhspan(budget, top * 1.5, color=scheme.alarm, alpha=0.07, linewidth=0)
            axes.axhline(budget, color=scheme.alarm, linewidth=_points(1.2))
        quantity = f"relative difference of the loss to {report['base']}"
        _name_axes(axes, quantity, [name for name, own in ends.items() if not own], scheme)
        _name_lines(axes, ends, scheme, budget)
    return figure


def _panels(methods: list[str], titled: bool, height: int, scheme: ColourScheme) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each method, in up to three columns."""
    top, bottom = 26 + 22 * titled, 36
    height += 22 * titled
    columns = min(len(methods), 3)
    rows = math.ceil(len(methods) / columns)
    width_all, height_all = columns * FIGURE_WIDTH, rows * height
    figure = Figure((width_all / _DPI, height_all / _DPI))
    panels = []
    for index, method in enumerate(methods):
        row, column = divmod(index, columns)
        x, y = column * FIGURE_WIDTH + _LEFT, height_all - (row + 1) * height + bottom
        size = (FIGURE_WIDTH - _LEFT - _RIGHT) / width_all, (height - top - bottom) / height_all
        axes = figure.add_axes((x / width_all, y / height_all, *size))
        if titled:
            where = (column * FIGURE_WIDTH / width_all, 1 - (row * height + 14) / height_all)
            figure.text(*where, method, fontweight="bold", va="center")
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.spines["bottom"].set_color(scheme.muted)
        axes.tick_params(length=0, labelcolor=scheme.muted, labelsize=_points(_SMALL), pad=_points(5))
        axes.grid(axis="y", color=scheme.rule, linewidth=_points(0.8))
        axes.set_axisbelow(True)
        panels.append(axes)
    return figure, panels


def _has_several_seeds(report: dict[str, Any]) -> bool:
    return len(wording.seeds(report)) > 1


def _draw_curve(axes: Axes, curve: Curve, thin: bool, scheme: ColourScheme, zero: float | None = None) -> float:
    """Draw one run's line; returns the height at which it ends.

    Values at `zero` are dots beside the line, or exact zeros here and there would make it fall and rise.
    """
    colour, rank = scheme.frameworks[curve.backend], list(LINES).index(curve.backend)
    line = curve.values != zero
    axes.plot(
        curve.steps[line],
        curve.values[line],
        color=colour,
        linewidth=_points(LINES[curve.backend].width) * (0.62 if thin else 1),
        dashes=LINES[curve.backend].dashes or (None, None),
        zorder=2 + rank / 10,
        marker="o" if line.sum() == 1 else None,  # a line needs two points
        markersize=_points(8 - 2 * rank),
    )
    dots = {"color": colour, "linestyle": "none", "marker": "o", "markeredgewidth": 0, "zorder": 2 + rank / 10}
    axes.plot(curve.steps[~line], curve.values[~line], markersize=_points(5.5 - rank), clip_on=False, **dots)
    return float((curve.values[line] if line.any() else curve.values)[-1])


def _with_room(low: float, high: float) -> tuple[float, float]:
    room = max((high - low) * 0.06, abs(high) * 0.02) or 1.0
    return max(low - room, 0.0) if low >= 0 else low - room, high + room


def _name_axes(axes: Axes, quantity: str, missing: list[str], scheme: ColourScheme) -> None:
    first, last = axes.dataLim.intervalx
    room = (last - first) * 0.01 or 0.5
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    small = {"fontsize": _points(_SMALL), "color": scheme.muted}
    axes.annotate("step", (1, 0), (_points(28), -_points(7)), "axes fraction", "offset points", va="top", **small)
    axes.annotate(quantity, (0, 1), (-_points(_LEFT), 6), "axes fraction", "offset points", **small)
    if missing:
        text = f"no curve: {', '.join(missing)}"
        axes.annotate(text, (1, 1), (_points(_RIGHT - 10), 6), "axes fraction", "offset points", ha="right", **small)


def _name_lines(axes: Axes, ends: dict[str, list[float]], scheme: ColourScheme, budget: float | None = None) -> None:
    """The frameworks' names, and the budget's, where their lines end."""
    pinned = None if budget is None else f"budget {wording.scientific(budget)}"
    if pinned:
        ends = {**ends, pinned: [budget]}
    to_axes = axes.transData - axes.transAxes
    heights = {name: to_axes.transform((1, numpy.mean(own)))[1] for name, own in ends.items() if own}
    for name, y in _spread_labels(heights, 17 / axes.bbox.height, pinned).items():
        at = {"transform": axes.transAxes, "va": "center"}
        if name == pinned:
            axes.text(1.03, y, name, color=scheme.alarm, fontsize=_points(_SMALL), **at)
        else:
            colour, line = scheme.frameworks[name], LINES[name]
            sample = {"color": colour, "linewidth": _points(line.width), "dashes": line.dashes or (None, None)}
            axes.add_artist(Line2D([1.03, 1.1], [y, y], transform=axes.transAxes, clip_on=False, **sample))
            axes.text(1.12, y, name, color=colour, **at)


def _spread_labels(heights: dict[str, float], gap: float, pinned: str | None) -> dict[str, float]:
    """The heights (0 to 1), moved so that no two lie closer than `gap`; the first stands highest of equals.

    All make room for `pinned`; without it none rises above 1.
    """
    ranks = list(heights)
    names = sorted(heights, key=lambda name: (round(heights[name] / gap), -ranks.index(name)))
    placed = dict(heights)
    start = names.index(pinned) if pinned else 0
    for lower, upper in pairwise(names[start:]):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    if not pinned:
        start = len(names) - 1
        placed[names[start]] = min(placed[names[start]], 1.0)
    for upper, lower in pairwise(names[start::-1]):
        placed[lower] = min(placed[lower], placed[upper] - gap)
    return placed


# -- bars ------------------------------------------------------------------------------------------------------------


def draw_bars(report: dict[str, Any], quantity: str, unit: str, scheme: ColourScheme) -> Figure:
    """A bar for each framework under each method's name: the mean over seeds, a dot for each seed, the value."""
    names, methods = wording.backends(report), wording.methods(report)
    top, heading, row, gap = 26, 24, 20, 10
    height = top + len(methods) * (heading + len(names) * row + gap)
    figure = Figure((FIGURE_WIDTH / _DPI, height / _DPI))
    left, right = 54, 122  # names of frameworks, values
    axes = figure.add_axes((left / FIGURE_WIDTH, 0, 1 - (left + right) / FIGURE_WIDTH, 1))
    axes.set_axis_off()
    axes.set_ylim(height, 0)
    dots = {
        (method, name): [
            run["metrics"][quantity]
            for run in report["runs"]
            if wording.finished(run) and (run["method"], run["backend"]) == (method, name)
        ]
        for method in methods
        for name in names
    }
    places = wording.decimals(entry["values"][quantity]["mean"] for entry in report["summary"])
    longest = max(value for own in dots.values() for value in own)
    axes.set_xlim(0, longest)
    in_row = axes.get_yaxis_transform()  # x in axes fractions, y in pixels
    edge = -left / (FIGURE_WIDTH - left - right)
    axes.text(edge, top / 2, unit, transform=in_row, va="center", fontsize=_points(_SMALL), color=scheme.muted)
    y = top
    for method in methods:
        means = wording.means(report, quantity, method)
        axes.text(edge, y + heading / 2, method, transform=in_row, va="center", fontweight="bold")
        y += heading
        for name in names:
            middle = y + row / 2
            axes.text(edge, middle, name, transform=in_row, va="center", color=scheme.frameworks[name])
            if name in means:
                axes.barh(middle, means[name], height=13, color=scheme.frameworks[name], linewidth=0)
                own = dots[method, name]
                dot = {"s": _points(5.5) ** 2, "color": scheme.ink, "edgecolor": scheme.surface}
                axes.scatter(own, [middle] * len(own), linewidth=_points(1), zorder=3, clip_on=False, **dot)
                text = f"{means[name]:,.{places}f}"
                if name != report["base"] and report["base"] in means:
                    text += f"  ({means[name] / means[report['base']]:.2f} × {report['base']})"
                end = max(*own, means[name])
            else:
                text, end = "no finished run", 0
            colour = scheme.ink if name in means else scheme.muted
            style = {"va": "center", "fontsize": _points(_SMALL), "color": colour}
            axes.annotate(text, (end, middle), (_points(7), 0), "data", "offset points", annotation_clip=False, **style)
            y += row
        axes.plot([0, 0], [y - len(names) * row, y], color=scheme.muted, linewidth=_points(1), clip_on=False)
        y += gap
    return figure
