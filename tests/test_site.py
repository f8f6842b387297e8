"""The pages of the documentation: what they name is there, their commands are accepted, and their scripts run; where
Sphinx is installed (`make docs`) they build without a warning."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import fastprompt
from fastprompt.cli import COMMANDS, make_parser
from fastprompt.options.parsing import gather

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ENGLISH = [page for page in PAGES if DOCS / "zh" not in page.parents]

# options of other programs that pages name: launchers, pip, Sphinx, scripts of examples/
FOREIGN = {
    *("--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--master_port", "--master", "--rank"),
    *("--no-deps", "--require-hashes", "--requirement", "--n_epochs", "--data", "--mlm_model", "--plan", "--only"),
    *("--hidden_size", "--layers", "--heads", "--vocab_size", "--help"),
}


WITH_SPHINX = pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None, reason="Sphinx is not installed; `make docs` has it"
)


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    """The code blocks of a page in one language, without comments and blank lines."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)
    return ["\n".join(line for line in map(without_comment, block.splitlines()) if line) for block in found]


def without_comment(line):
    return re.sub(r"(^|\s+)#.*", "", line)


def command_lines():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(r"(?:^|\s)fastprompt(?:\.cli)? (\w+ ?.*)", line):
                    yield page, shlex.split(found[1])


def test_both_languages_have_the_same_pages_and_code():
    assert {page.relative_to(DOCS) for page in ENGLISH} == {
        page.relative_to(DOCS / "zh") for page in PAGES if page not in ENGLISH
    }
    for page in ENGLISH:
        other = DOCS / "zh" / page.relative_to(DOCS)
        for language in ("bash", "python", "py", "text", r"\{fastprompt-options\} \w+", r"\{eval-rst\}"):
            assert blocks(page, language) == blocks(other, language), f"{page.relative_to(ROOT)}: {language}"


def test_every_link_leads_to_a_file():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", text(page)):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_in_the_table_of_contents():
    for index in (page for page in PAGES if page.name == "index.md"):
        listed = "\n".join(re.findall(r"```\{toctree\}\n(.*?)```", text(index), re.DOTALL)).split()
        for page in index.parent.rglob("*.md"):
            name = page.relative_to(index.parent).with_suffix("").as_posix()
            assert name == "index" or name.startswith("zh/") or name in listed, f"{index}: {name}"


def test_every_option_that_a_page_names_exists():
    known = set(FOREIGN)
    for name, command in COMMANDS.items():
        parser = ArgumentParser(prog=name)
        command.add_options(parser)
        known |= set(parser._option_string_actions)
    for page in PAGES:
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?!\w*\.\.\.)", text(page)):
            assert option in known, f"{page.relative_to(ROOT)}: {option}"


def test_every_command_of_the_pages_is_accepted(tmp_path):
    """No option in them is unknown, and of a training none is without effect."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    seen = set()
    for page, words in command_lines():
        words = [word for word in words if word != "|"]
        assert words[0] in COMMANDS, f"{page.relative_to(ROOT)}: {words}"
        given = vars(make_parser().parse_args(words))
        seen.add(given.pop("command"))
        if words[0] == "train" and "config" not in given:
            gather(given | {"model_name_or_path": str(tmp_path)})
    assert {"train", "evaluate", "predict", "search", "compare", "convert", "show", "doctor"} <= seen


def test_the_scripts_of_the_pages_run(run_python, tmp_path):
    """Blocks marked `python`, a page's in order; those marked `py` need the hub."""
    pages = {page: "\n".join(blocks(page, "python")) for page in ENGLISH if blocks(page, "python")}
    assert len(pages) >= 5
    parts = []
    for number, (page, code) in enumerate(pages.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        name = str(page.relative_to(ROOT))
        parts.append(f"os.chdir({str(folder)!r})\nexec(compile({code!r}, {name!r}, 'exec'), {{'__name__': {name!r}}})")
    script = tmp_path / "pages.py"
    script.write_text("import os\n" + "\n".join(parts))
    run_python("torch", script)


def test_blocks_that_need_the_hub_name_what_exists():
    for page in PAGES:
        for block in blocks(page, "py"):
            compile(block, str(page), "exec")
            for name in re.findall(r"\bfp\.(\w+)", block):
                assert name in fastprompt.__all__, f"{page.relative_to(ROOT)}: fp.{name}"


def test_the_reference_has_every_public_name_and_every_command():
    for folder in sorted({page.parent for page in PAGES if page.parent.name == "reference"}):
        listed = set(re.findall(r"auto(?:class|function):: fastprompt\.(\w+)$", text(folder / "api.md"), re.MULTILINE))
        assert listed == set(fastprompt.__all__)
        titles = re.findall(r"^## (\w+)$", text(folder / "options.md"), re.MULTILINE)
        assert sorted(titles) == sorted(COMMANDS)


@WITH_SPHINX
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_pages_build_without_a_warning(language, tmp_path):
    source = DOCS / "zh" if language == "zh_CN" else DOCS
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-D", f"language={language}", "-c", DOCS, source, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "quickstart.html").read_text(encoding="utf-8")
    assert f'href="{"../" if language == "zh_CN" else "zh/"}quickstart.html"' in start  # the page in the other language
    if language == "zh_CN":
        methods = re.sub(r"<[^>]+>", "", (tmp_path / "methods.html").read_text(encoding="utf-8"))
        assert "训练期间由两层网络生成它们；设置 prefix_layers 时，只有部分层有。" in methods
    options = (tmp_path / "reference" / "options.html").read_text(encoding="utf-8")
    assert 'id="train-learning_rate"' in options
    assert options.count('id="search-') == 3  # those of train are not repeated
    api = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    for name in fastprompt.__all__:
        assert f"fastprompt.{name}" in api


@WITH_SPHINX
def test_a_page_that_loads_from_another_host_ends_the_build(tmp_path):
    page = tmp_path / "pages" / "index.md"
    page.parent.mkdir()
    command = [sys.executable, "-m", "sphinx", "-q", "-c", DOCS, page.parent, tmp_path / "out"]
    for content, ends_well in (("[a link](https://a.example/)", True), ("![](https://a.example/a.png)", False)):
        page.write_text(f"# Title\n\n{content}\n")
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode == 0) == ends_well, done.stderr[-2000:]
        assert ends_well or "loads from another host" in done.stderr
