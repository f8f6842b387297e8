"""The report of a comparison: what it says, and that it looks right in a real browser."""

import errno
import html
import math
import os
import random
import re
import shutil
from itertools import pairwise

from fastprompt.compare.report import figures, page, wording
from fastprompt.errors import CheckpointError, ConfigError

import matplotlib
import pytest
from PIL import Image

pytestmark = pytest.mark.once

BACKENDS = ("torch", "paddle", "jittor")
METHODS = ("p-tuning-v2", "prompt-tuning")
NINE = (
    *("p-tuning-v2", "p-tuning-v2-reparameterised-with-a-long-name", "prompt-tuning", "p-tuning-lstm", "p-tuning-mlp"),
    *("shallow-prefix", "fine-tuning", "linear-probe", "bitfit"),
)
EVERYTHING = {(backend, method, seed) for backend in BACKENDS for method in METHODS for seed in (11, 12)}


# -- made comparisons --------------------------------------------------------------------------------------------------

SPEED = {"torch": 148.0, "paddle": 131.0, "jittor": 97.0}
MEMORY = {"torch": 955.0, "paddle": 1210.0, "jittor": 1873.0}
TENSORS = (
    *(f"prompt.layers.{layer}.{kind}" for layer in range(12) for kind in ("key", "value")),
    *("classifier.weight", "classifier.bias"),
)


def made_report(
    backends=BACKENDS,
    methods=METHODS,
    seeds=(11, 12),
    steps=200,
    failed=(),
    budget=1e-4,
    drift=1e-7,
    broken=(),
    task_metrics=("accuracy",),
):
    """A report; `failed` holds (backend, method, seed), `broken` frameworks that break parity's budgets, and `drift` is
    how far a loss goes from the base's at one step."""
    draw = random.Random(7)
    runs = [
        _run(draw, b, m, s, steps, (b, m, s) in failed, drift, task_metrics)
        for m in methods
        for b in backends
        for s in seeds
    ]
    quantities = (
        *task_metrics,
        "loss",
        "samples_per_second",
        "seconds_to_first_step",
        "train_seconds",
        "peak_memory_mb",
    )
    summary = []
    for method in methods:
        for backend in backends:
            own = [r for r in runs if (r["method"], r["backend"]) == (method, backend) and r["status"] == "finished"]
            if own:
                values = {name: _mean([run["metrics"][name] for run in own]) for name in quantities}
                entry = {"backend": backend, "method": method, "seeds": [run["seed"] for run in own], "values": values}
                summary.append({**entry, "trainable_parameters": own[0]["metrics"]["trainable_parameters"]})
    by_key = {(run["method"], run["seed"], run["backend"]): run["history"] for run in runs}
    differences = []
    for (method, seed, backend), history in by_key.items():
        reference = by_key[method, seed, backends[0]]
        if backend != backends[0] and history and reference:
            values = [abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(history, reference, strict=True)]
            at = max(range(len(values)), key=values.__getitem__)
            entry = {"method": method, "seed": seed, "backend": backend, "largest": values[at]}
            logged = [line["step"] for line in history]
            differences.append({**entry, "at_step": logged[at], "steps": logged, "values": values})
    return {
        "format_version": 1,
        "created": "2026-11-25T02:30:00+00:00",
        "command": f"fastprompt compare --backends {' '.join(backends)} --methods {' '.join(methods)} --task_name glue "
        f"--dataset_name sst2 --seeds {' '.join(map(str, seeds))} --output_dir comparison",
        "task": "glue/sst2",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "options": {
            **{"num_train_epochs": 1, "max_train_samples": 704, "max_eval_samples": 200, "max_seq_length": 128},
            **{"per_device_train_batch_size": 32, "lr_scheduler_type": "linear", "warmup_ratio": 0.1, "bf16": False},
            **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "logging_steps": 1, "device": None},
        },
        "versions": {
            **{"fastprompt": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "paddlepaddle": "3.3.1"},
            **{"jittor": "1.3.11", "fastNLP": "1.0.1", "numpy": "1.26.4"},
        },
        "machine": {
            **{"processor": "Intel(R) Xeon(R) Processor @ 2.70GHz", "cores": 2, "memory_gb": 23.4},
            "system": "Linux 6.1.0-18-amd64",
        },
        "base": backends[0],
        "runs": runs,
        "summary": summary,
        "task_metrics": list(task_metrics),
        "loss_differences": differences,
        "loss_budget": budget,
        "parity": [made_parity(draw, backends, method, broken) for method in methods],
    }


def _run(draw, backend, method, seed, steps, fails, drift, task_metrics):
    run = {
        **{"backend": backend, "method": method, "seed": seed, "directory": f"runs/{backend}-{method}-{seed}"},
        "command": f"fastprompt train --backend {backend} --method {method} --model_name_or_path "
        f"sentence-transformers/all-MiniLM-L6-v2 --task_name glue --dataset_name sst2 --seed {seed} "
        f"--output_dir runs/{backend}-{method}-{seed}",
    }
    if fails:
        reason = f"The loss is nan at or before step 17; lower the learning rate ({backend}, {method})."
        return {**run, "status": "failed", "reason": reason, "metrics": None, "history": []}
    course = random.Random(f"{method}{seed}")  # the same for every framework
    level, rate = course.uniform(0.25, 0.45), course.uniform(2, 5)
    history = []
    for step in range(1, steps + 1):
        loss = level + (0.69 - level) * math.exp(-rate * step / steps) + course.gauss(0, 0.03)
        loss *= 1 if backend == "torch" or draw.random() < 0.04 else 1 + draw.gauss(0, drift * (0.2 + step / steps))
        history.append({"step": step, "loss": loss, "learning_rate": 0.01 * (1 - step / steps)})
    speed = SPEED[backend] * draw.uniform(0.96, 1.04)
    metrics = {name: min(0.999, 0.8 + course.uniform(0, 0.05)) for name in task_metrics}
    metrics |= {"loss": history[-1]["loss"], "samples_per_second": speed, "train_seconds": 32 * steps / speed}
    metrics |= {"seconds_to_first_step": draw.uniform(0.3, 0.6) * (9 if backend == "jittor" else 1)}
    metrics |= {"peak_memory_mb": MEMORY[backend] * draw.uniform(0.99, 1.01), "train_samples": 704, "steps": steps}
    metrics |= {"trainable_parameters": 92930, "total_parameters": 22806146, "eval_samples": 200}
    return {**run, "status": "finished", "reason": None, "metrics": metrics, "history": history}


def _mean(values):
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "deviation": spread, "count": len(values)}


def made_parity(draw, backends, method, broken=(), failed=None):
    """A parity measurement of twelve layers."""
    wanted = [("hidden state", f"layer {layer}", 1e-5) for layer in range(1, 13)]
    wanted += [("gradient of hidden state", f"layer {layer}", 1e-4) for layer in range(1, 13)]
    wanted += [("logits", "logits", 1e-5), *(("gradient", name, 1e-4) for name in TENSORS)]
    wanted += [("step", name, 1e-6) for name in TENSORS] + [("update", name, None) for name in TENSORS]
    rows, over = [], []
    for quantity, name, budget in wanted:
        values = {b: 0.0 if draw.random() < 0.02 else 10 ** draw.uniform(-8, -6.3) for b in backends}
        if quantity == "gradient" and name.startswith("prompt.layers.3"):
            values |= {backend: draw.uniform(0.1, 0.4) for backend in broken}
            over += [
                {"backend": b, "quantity": quantity, "name": name, "value": values[b], "budget": budget} for b in broken
            ]
        rows.append({"quantity": quantity, "name": name, "budget": budget, "values": values})
    return {
        **{"method": method, "model": "sentence-transformers/all-MiniLM-L6-v2", "prompt": f"runs/torch-{method}-11"},
        **{"reference": "transformers (float64)", "backends": list(backends), "failed": failed or {}},
        "command": f"fastprompt parity --backends {' '.join(backends)} --model_name_or_path runs/torch-{method}-11",
        **{"holds": not over and not failed, "rows": rows, "broken": over},
    }


CASES = {
    "usual": lambda: made_report(failed={("jittor", "prompt-tuning", 12)}),
    "much": lambda: made_report(
        methods=NINE,
        seeds=(11, 12, 13),
        steps=60,
        failed={("jittor", NINE[1], seed) for seed in (11, 12, 13)} | {("torch", "bitfit", 11)},
        broken=("paddle",),
        task_metrics=("accuracy", "f1", "matthews_correlation"),
    ),
    "one step": lambda: made_report(methods=METHODS[:1], seeds=(11,), steps=1),
    "one framework": lambda: made_report(backends=("torch",), seeds=(11,)),
    "ten thousand steps": lambda: made_report(methods=METHODS[:1], seeds=(11,), steps=10_000),
    "nothing finished": lambda: made_report(failed=EVERYTHING),
    "dropout": lambda: made_report(seeds=(11,), budget=None, drift=0.03),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """pages(case): the page of one of CASES, written once."""
    written = {}

    def page(case):
        if case not in written:
            written[case] = page.write_report(CASES[case](), tmp_path_factory.mktemp("report"))
        return written[case]

    return page


def text_of(page):
    """What a page says, apart from its style and the descriptions of its figures."""
    body = page.read_text(encoding="utf-8").split("<body>")[1]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


# -- what it says ------------------------------------------------------------------------------------------------------


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


def test_the_page_tells_how_its_curves_are_drawn(pages):
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


def test_what_others_wrote_is_no_markup(tmp_path):
    evil = "<script>alert(1)</script>&$x_1$"
    made = made_report(methods=(evil,), steps=5, failed={("paddle", evil, 11)})
    written = page.write_report(made, tmp_path)
    assert "<script" not in written.read_text(encoding="utf-8")
    assert evil in text_of(written)


# -- the figures -------------------------------------------------------------------------------------------------------


def test_every_framework_has_its_own_colour_and_kind_of_line():
    made = made_report(steps=20)
    figure = figures.draw_losses(made, figures.read_curves(made), ["p-tuning-v2"], False, figures.LIGHT)
    kinds = {
        (line.get_color(), line._unscaled_dash_pattern) for line in figure.axes[0].lines if len(line.get_xdata()) > 2
    }
    assert len(kinds) == 3
    assert len({colour for colour, _ in kinds}) == len({str(dashes) for _, dashes in kinds}) == 3


@pytest.mark.parametrize("scheme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for ground in (scheme.surface, scheme.raised):
        for colour in (scheme.ink, scheme.muted, scheme.alarm, scheme.torch, scheme.paddle, scheme.jittor):
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
    own = [line for line in axes.lines if line.get_color() == figures.LIGHT.paddle]
    assert sorted(own[0].get_ydata()) == sorted([1e-7, 2e-7, 3e-7] * 5)
    assert list(own[1].get_xdata()) == [2, 6, 10, 14, 18]
    assert set(own[1].get_ydata()) == {curves.floor}
    assert axes.get_yticklabels()[-1].get_text() == "0"
    assert curves.floor < 1e-7


def test_names_at_the_ends_of_lines_do_not_cover_one_another():
    placed = figures._apart({"torch": 0.5, "paddle": 0.5001, "jittor": 0.49, "budget": 0.52}, 0.1, "budget")
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


# -- the files ---------------------------------------------------------------------------------------------------------


def test_figures_of_an_earlier_report_go(tmp_path):
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


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium is installed")
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def show(browser):
    """show(page, width, scheme): a page in a window; `complaints` holds what it asked for and said on the console."""
    contexts = []

    def opened(page, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        window = context.new_page()
        window.complaints = []
        window.on("console", lambda message: window.complaints.append(message.text))
        window.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.on(
            "request",
            lambda request: request.url.startswith("data:") or window.complaints.append(f"request {request.url}"),
        )
        window.goto(page.as_uri(), wait_until="load")
        window.complaints.remove(f"request {page.as_uri()}")
        return window

    yield opened
    for context in contexts:
        context.close()


VISIBLE_FIGURES = """() => [...document.images].filter(image => image.checkVisibility()).map(image => ({
    scheme: image.className, alt: image.alt, natural: [image.naturalWidth, image.naturalHeight],
    size: [image.clientWidth, image.clientHeight]}))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_shows_in_both_schemes(show, pages, scheme):
    figures_shown = show(pages("usual"), scheme=scheme).evaluate(VISIBLE_FIGURES)
    assert len(figures_shown) == 6
    for figure in figures_shown:
        assert figure["scheme"] == f"on-{scheme}"
        assert figure["alt"]
        assert min(figure["natural"]) > 100
        assert min(figure["size"]) > 100


def test_print_is_light_and_opens_what_is_collapsed(show, pages):
    window = show(pages("usual"), scheme="dark")
    rows = "() => [...document.querySelectorAll('details:not([open]) :is(tr, pre)')].map(row => row.checkVisibility())"
    on_screen = window.evaluate(rows)
    assert len(on_screen) > 200
    assert not any(on_screen)
    window.emulate_media(media="print")
    assert all(window.evaluate(rows))
    assert {figure["scheme"] for figure in window.evaluate(VISIBLE_FIGURES)} == {"on-light"}
    assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_quiet_and_fits_every_window(show, pages, case):
    window = show(pages(case), width=400, scheme="dark")
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert window.evaluate("document.documentElement.scrollWidth") == 400
    for width in (320, 700, 980, 1200):
        window.set_viewport_size({"width": width, "height": 900})
        assert window.evaluate("document.documentElement.scrollWidth") == width
    assert window.complaints == []


@pytest.mark.parametrize("case", ["usual", "much"])
def test_tables_are_readable_on_a_telephone(show, pages, case):
    window = show(pages(case), width=400)
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    cells = window.evaluate("""() => [...document.querySelectorAll('tbody :is(th, td):not(.group)')].map(cell => ({
        size: parseFloat(getComputedStyle(cell).fontSize), label: getComputedStyle(cell, '::before').content,
        right: cell.getBoundingClientRect().right}))""")
    assert len(cells) > 500
    for cell in cells:
        assert cell["size"] >= 12
        assert re.fullmatch(r'"\w.*"', cell["label"])
        assert cell["right"] <= 400


def test_a_click_selects_a_command_as_it_was_given(show, pages):
    made = CASES["usual"]()
    window = show(pages("usual"))
    window.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    shown = window.locator("pre code")
    wanted = [
        *(entry["command"] for entry in made["parity"]),
        made["command"],
        *(run["command"] for run in made["runs"]),
    ]
    assert shown.count() == len(wanted)
    for index in (0, len(wanted) - 1):
        shown.nth(index).click()
        assert window.evaluate("getSelection().toString()") == wanted[index]
