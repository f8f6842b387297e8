"""The README's Python blocks run as written, and its two languages show the same code."""

import re
import shlex
from pathlib import Path

from fastprompt.cli import make_parser
from fastprompt.options.parsing import gather

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]


def blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def without_comments(block):
    return [re.sub(r"\s*#.*", "", line) for line in block.splitlines() if re.sub(r"\s*#.*", "", line)]


def test_both_languages_show_the_same_code():
    for language in ("python", "bash"):
        english, chinese = blocks("README.md", language), blocks("README.zh-CN.md", language)
        assert english
        assert [without_comments(block) for block in english] == [without_comments(block) for block in chinese]


def test_the_python_blocks_run_in_order(run_python, tmp_path):
    code = "\n".join(blocks("README.md", "python"))
    assert "Trainer(" in code
    assert "save_pretrained" in code
    script = tmp_path / "readme.py"
    script.write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{code}")
    run_python("torch", script)


def test_the_options_named_in_the_bash_blocks_exist(run_python):
    known = "".join(
        run_python(None, "-m", "fastprompt.cli", command, "--help").stdout
        for command in ("train", "predict", "parity", "compare", "search", "convert")
    )
    for block in blocks("README.md", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith((".venv/bin/fastprompt", "fastprompt")):
                for option in re.findall(r"--\w+", line):
                    assert option in known, line


def test_the_train_commands_are_accepted(tmp_path):
    """No option in them is unknown, or without effect."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    commands = [
        line[line.index("fastprompt train") :].split("#")[0]
        for name in ("README.md", "docs/results.md")
        for block in blocks(name, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        if "fastprompt train" in line
    ]
    assert len(commands) > 10
    for command in commands:
        _, *words = shlex.split(command)
        named = {i + 1 for i, word in enumerate(words) if word == "--model_name_or_path"}
        words = [str(tmp_path) if i in named else word for i, word in enumerate(words)]
        given = vars(make_parser().parse_args(words))
        del given["command"]
        gather(given)
