"""The wheel: no framework, no top-level `drivers`, and it works outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_fastprompt_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"fastprompt"}
    assert "fastprompt/drivers/torch/nn.py" in names
    assert "fastprompt/data/reviews/train.tsv" in names
    assert "fastprompt/compare/report/page.html.j2" in names


def test_the_wheel_asks_for_no_framework(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert needed
    assert not [line for line in needed if any(name in line for name in ("torch", "paddle", "jittor", "transformers"))]


def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import fastprompt, sys; from fastprompt import drivers; "
        "assert not {'torch', 'paddle', 'jittor'} & set(sys.modules); "
        "print(fastprompt.__file__, drivers.__file__, len(fastprompt.load_reviews('train')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    first, second, count = done.stdout.split()
    assert first.startswith(str(tmp_path))
    assert second.startswith(str(tmp_path))
    assert int(count) >= 600


def test_a_checkout_works_without_being_installed(tmp_path):
    """`pip install '.[torch]'` and then `python -m` in the checkout: its own `fastprompt/` is found first."""
    for name in ("fastprompt", "drivers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys; sys.meta_path = [one for one in sys.meta_path if not hasattr(one, 'find_spec') "
        "or 'editable' not in str(one)]; "
        "import fastprompt; from fastprompt import drivers; from fastprompt.drivers import compat; "
        "print(fastprompt.__file__, drivers.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / name / "__init__.py") for name in ("fastprompt", "drivers")]
