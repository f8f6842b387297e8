"""The README's Python blocks run as written, and its two languages show the same code."""

import re
from pathlib import Path

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
        for command in ("train", "predict", "parity", "compare", "convert")
    )
    for block in blocks("README.md", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith((".venv/bin/fastprompt", "fastprompt")):
                for option in re.findall(r"--\w+", line):
                    assert option in known, line
