"""What the comparison report says, and its figures and files."""

import errno
import html
import math
import os
import random
import re
from itertools import pairwise

from fastprompt.compare.report import figures, page, wording
from fastprompt.errors import CheckpointError, ConfigError

import matplotlib
import pytest
from PIL import Image

from support.reports import (
    EVERYTHING,
    METHODS,
    NINE,
    made_parity,
    made_report,
)

pytestmark = pytest.mark.once


def text_of(page):
    """What a page says, apart from its style and the descriptions of its figures."""
    body = page.read_text(encoding="utf-8").split("<body>")[1]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "the losses of paddle and jittor agree with torch's at every logged step to"),
        ({}, "every parity budget holds; every run finished."),
        ({"drift": 3e-4}, "the losses of paddle and jittor depart from torch's by up to"),
        ({"broken": ("paddle",)}, "paddle breaks 4 parity budgets"),
        ({"failed": {("jittor", "prompt-tuning", 12)}}, "jittor failed in 1 of its 4 runs"),
        ({"failed": EVERYTHING}, "no run finished."),
        ({"failed": {run for run in EVERYTHING if run[0] == "torch"}}, "no other framework finished a run that torch"),
        ({"budget": None}, "dropout was on, so their losses are not expected to agree"),
        (
            {"backends": ("torch",)},
            "torch was measured on glue/sst2 with p-tuning-v2 and prompt-tuning (seeds 11 and 12)",
        ),
        ({"methods": NINE, "seeds": (1, 2, 3, 4)}, "with 9 methods (4 seeds)"),
    ],
)
def test_one_sentence_says_what_was_compared_and_how_it_went(made, said):
    sentence = wording.summary(made_report(steps=20, **made)).replace("\u00a0", " ")
    assert said in sentence
    assert sentence.count(".") - len(re.findall(r"\d\.\d", sentence)) == 1


def test_a_loss_that_is_no_number_breaks_its_budget():
    made = made_report(steps=5)
    made["loss_differences"][0] |= {"largest": math.nan, "values": [0.0, math.nan, 1e-7, 1e-7, 1e-7]}
    assert "the losses of paddle depart from torch's by up to not finite" in wording.summary(made)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (1e-4, "10⁻⁴"), (1.23e-6, "1.2 × 10⁻⁶"), (0.3, "3.0 × 10⁻¹"), (math.inf, "not finite")],
)
def test_small_numbers_are_written_as_powers_of_ten(value, written):
    assert wording.scientific(value).replace("\u202f", " ") == written


def test_the_table_rounds_and_groups_its_numbers(tmp_path):
    made = made_report(methods=METHODS[:1], steps=5)
    for entry in made["summary"]:
        entry["values"]["accuracy"] = {"mean": 0.81949, "deviation": 0.0041, "count": 2}
        entry["values"]["peak_memory_mb"] = {"mean": 21955.4, "deviation": 3.2, "count": 2}
    said = text_of(page.write_report(made, tmp_path)).replace("\u202f", " ")
    assert said.count("0.819 ± 0.004") == 3
    assert said.count("21,955 ± 3") == 3
    assert said.count("92,930") == 3


def test_one_seed_has_no_deviation(pages):
    said = text_of(pages("one step"))
    assert "One run each, with seed 11" in said
    assert "±" not in said


def test_failures_stand_with_their_reasons(pages):
    said = text_of(pages("usual"))
    assert "prompt-tuning jittor 12 The loss is nan at or before step 17; lower the learning rate" in said
    assert re.search(r"jittor( [\d.,]+){5} 92,930 1 of 2", said)
    assert "jittor no finished run 0 of 3" in text_of(pages("much"))


def test_what_breaks_a_budget_is_marked_by_words(tmp_path):
    made = made_report(methods=METHODS[:1], steps=5, broken=("paddle",))
    written = page.write_report(made, tmp_path).read_text(encoding="utf-8")
    cells = re.findall(r'<td class="number[^>]*data-label="(\w+)"><span><strong>over budget</strong> ([^<]*)<', written)
    broken = made["parity"][0]["broken"]
    assert {name for name, _ in cells} == {"paddle"}
    # Its two tensors, and the worst of all gradients.
    assert len(cells) == len(broken) + 1 == 3
    assert {wording.scientific(entry["value"]) for entry in broken} == {value for _, value in cells}


def test_a_framework_whose_parity_failed_is_named(tmp_path):
    made = made_report(methods=METHODS[:1], steps=5)
    made["parity"] = [
        made_parity(random.Random(1), ("torch", "paddle"), "p-tuning-v2", failed={"jittor": "no compiler"})
    ]
    made["parity"][0]["backends"].append("jittor")
    said = text_of(page.write_report(made, tmp_path))
    assert "Not measured for jittor" in said
    assert "jittor failed: no compiler" in said
    assert "parity could not be measured for jittor" in said


def test_the_page_says_how_its_curves_are_drawn(pages):
    zeros, stretches = "drawn at the height marked 0", "drawn in 250 equal stretches"
    assert zeros in text_of(pages("usual"))
    assert stretches not in text_of(pages("usual"))
    assert stretches in text_of(pages("ten thousand steps"))
    assert "Dropout was on" in text_of(pages("dropout"))


def test_figures_are_described_by_what_they_show(pages):
    said = re.findall(r'alt="([^"]*)"', html.unescape(pages("usual").read_text(encoding="utf-8")))
    assert len(said) == 12  # six figures, each in a light and a dark version
    assert any(
        re.match(r"Training loss of p-tuning-v2: torch from 0\.\d{3} to 0\.\d{3}; paddle from", alt) for alt in said
    )
    assert any(re.search(r"paddle at most .* \(seed 1\d, step \d+\), within budget; jittor", alt) for alt in said)
    assert any(alt.startswith("Fastest in training: torch with every method.") for alt in said)
    assert any(alt.startswith("Least peak memory: torch with every method.") for alt in said)


def test_text_from_outside_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&$x_1$"
    made = made_report(methods=(evil,), steps=5, failed={("paddle", evil, 11)})
    written = page.write_report(made, tmp_path)
    assert "<script" not in written.read_text(encoding="utf-8")
    assert evil in text_of(written)


def test_every_framework_has_its_own_colour_and_kind_of_line():
    made = made_report(steps=20)
    figure = figures.draw_losses(made, figures.read_curves(made), ["p-tuning-v2"], False, figures.LIGHT)
    kinds = {
        (line.get_color(), line._unscaled_dash_pattern) for line in figure.axes[0].lines if len(line.get_xdata()) > 2
    }
    assert len(kinds) == 3
    assert len({colour for colour, _ in kinds}) == len({str(dashes) for _, dashes in kinds}) == 3


@pytest.mark.parametrize("scheme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for ground in (scheme.surface, scheme.raised):
        for colour in (scheme.ink, scheme.muted, scheme.alarm, *scheme.frameworks.values()):
            dark, light = sorted((luminance(ground), luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, colour)


def test_one_bad_step_of_ten_thousand_is_drawn():
    made = made_report(methods=METHODS[:1], seeds=(11,), steps=10_000)
    made["loss_differences"][0]["values"][6543] = 0.02
    curves = figures.read_curves(made)
    assert curves.top > 0.02
    paddle, jittor = curves.differences
    assert len(paddle.values) == figures.MOST_POINTS
    assert paddle.values.max() == 0.02
    assert paddle.steps[paddle.values.argmax()] == pytest.approx(6544, abs=40)
    assert jittor.values.max() < 1e-5


def test_an_exact_zero_is_a_dot_at_the_floor_and_not_a_fall_of_the_line():
    made = made_report(methods=METHODS[:1], seeds=(11,), steps=20)
    made["loss_differences"] = made["loss_differences"][:1]
    made["loss_differences"][0]["values"] = [1e-7, 0.0, 2e-7, 3e-7] * 5
    curves = figures.read_curves(made)
    (axes,) = figures.draw_differences(made, curves, METHODS[:1], False, figures.LIGHT).axes
    own = [line for line in axes.lines if line.get_color() == figures.LIGHT.frameworks["paddle"]]
    assert sorted(own[0].get_ydata()) == sorted([1e-7, 2e-7, 3e-7] * 5)
    assert list(own[1].get_xdata()) == [2, 6, 10, 14, 18]
    assert set(own[1].get_ydata()) == {curves.floor}
    assert axes.get_yticklabels()[-1].get_text() == "0"
    assert curves.floor < 1e-7


def test_names_at_the_ends_of_lines_do_not_cover_one_another():
    placed = figures._spread_labels({"torch": 0.5, "paddle": 0.5001, "jittor": 0.49, "budget": 0.52}, 0.1, "budget")
    heights = sorted(placed.values())
    assert placed["budget"] == 0.52
    assert all(upper - lower > 0.099 for lower, upper in pairwise(heights))


def test_pngs_lie_beside_the_page(pages):
    folder = pages("usual").parent
    assert sorted(path.name for path in folder.iterdir()) == sorted((page.REPORT_FILE, *page.FIGURE_FILES))
    for name in page.FIGURE_FILES:
        with Image.open(folder / name) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width >= 700
            assert len(image.convert("RGB").getcolors(100_000)) > 50


def test_the_same_report_makes_the_same_files_whatever_the_users_settings(tmp_path):
    made = made_report(steps=20, methods=METHODS[:1])
    first = page.write_report(made, tmp_path / "first").parent
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.grid": True, "svg.hashsalt": None}):
        second = page.write_report(made, tmp_path / "second").parent
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


def test_figures_of_an_earlier_report_are_removed(tmp_path):
    page.write_report(made_report(steps=5), tmp_path)
    page.write_report(made_report(steps=5, failed=EVERYTHING), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [page.REPORT_FILE]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be made") as caught:
        page.write_report(made_report(steps=5), tmp_path / "taken")
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_leaves_the_earlier_report(tmp_path, monkeypatch):
    page.write_report(made_report(steps=5, methods=METHODS[:1], seeds=(11,)), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    written = []

    def full(handle):
        written.append(handle)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        page.write_report(made_report(steps=9, methods=METHODS[:1], seeds=(11,)), tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named(run_python, missing):
    done = run_python(
        None, "-c", f"import sys; sys.modules[{missing!r}] = None; import fastprompt.compare.report.page", check=False
    )
    assert done.stderr.splitlines()[-1].endswith(f"The report needs {missing}: pip install 'fastprompt[report]'.")


def test_the_report_needs_no_framework_and_no_pyplot(run_python):
    done = run_python(None, "-c", "import fastprompt.compare.report.page, sys; print(*sys.modules)")
    assert not {"torch", "paddle", "jittor", "transformers", "fastNLP", "matplotlib.pyplot"} & set(done.stdout.split())
