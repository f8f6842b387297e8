"""Kill a training at random moments, resume from its last checkpoint each time, and compare the end with a whole run.

For every framework: one run that nothing interrupts, and one that is killed (SIGKILL) `--kills` times, some of them
while a checkpoint is written. Reported are the checkpoints found after each kill, whether all of them read whole, and
the largest difference of the two prompts, by itself and relative to the tensor's largest entry.

Usage: kill_and_resume.py MODEL [--backends torch paddle jittor] [--kills 20] [--steps 120]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

CHECK = """
import sys
import fastprompt as fp
for folder in fp.find_checkpoints(sys.argv[1]):
    fp.check_checkpoint(folder)
    print(folder.name)
"""


def arguments(options: argparse.Namespace, backend: str, output: Path) -> list[str]:
    """The command: the embedded reviews, a checkpoint at every second step."""
    samples = 480
    return [
        *(sys.executable, "-m", "fastprompt.cli", "train", "--backend", backend, "--model_name_or_path", options.model),
        *("--task_name", "reviews", "--max_train_samples", str(samples), "--max_eval_samples", "20"),
        *("--per_device_train_batch_size", "4", "--num_train_epochs", str(-(-options.steps * 4 // samples))),
        *("--pre_seq_len", "5", "--hidden_dropout_prob", "0.1", "--save_steps", "2", "--save_total_limit", "3"),
        *("--logging_steps", "1", "--output_dir", str(output), "--resume_from_checkpoint", "last"),
    ]


def run_until(command: list[str], environment: dict[str, str], steps: float | None) -> bool:
    """Run the command; kill it after so many steps, 2.5 being in the midst of the third one. Whether it came to its
    end by itself."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if steps is not None:
        times: list[float] = []
        for line in process.stderr:
            times += [time.perf_counter()] if line.startswith("step ") else []
            if len(times) == int(steps):
                break
        if len(times) > 1:
            time.sleep((times[-1] - times[0]) / (len(times) - 1) * (steps % 1))
        process.send_signal(signal.SIGKILL)
    _, printed = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(printed[-3000:])
    return process.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--backends", nargs="+", default=["torch", "paddle", "jittor"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = Table(
        "framework", "kills", "times ended early", "checkpoints read", "damaged", "largest difference", "relative"
    )
    for backend in options.backends:
        environment = {**os.environ, "FASTNLP_BACKEND": backend}
        draw = random.Random(f"{options.seed} {backend}")
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = Path(folder) / "whole", Path(folder) / "killed"
            started = time.perf_counter()
            run_until(arguments(options, backend, whole), environment, None)
            print(f"{backend}: the whole run took {time.perf_counter() - started:.0f} s", file=sys.stderr)
            kills = read = damaged = early = 0
            while kills < options.kills:
                # Few steps, so that the run is not at its end before its last kill.
                steps = draw.uniform(2, max(2, options.steps / options.kills))
                early += run_until(arguments(options, backend, killed), environment, steps)
                kills += 1
                found = subprocess.run(
                    [sys.executable, "-c", CHECK, str(killed)], env=environment, capture_output=True, text=True
                )
                read += len(found.stdout.split())
                damaged += found.returncode != 0
                print(f"{backend}: kill {kills}, then {found.stdout.split()}", file=sys.stderr)
            run_until(arguments(options, backend, killed), environment, None)
            one, other = (load_file(run / "prompt.safetensors") for run in (whole, killed))
            difference = max(float(numpy.abs(one[name] - other[name]).max()) for name in one)
            share = max(float(numpy.abs(one[name] - other[name]).max() / numpy.abs(one[name]).max()) for name in one)
            table.add_row(backend, str(kills), str(early), str(read), str(damaged), f"{difference:.1e}", f"{share:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
