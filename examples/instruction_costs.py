"""What instruction tuning costs: parameters, memory and speed of fine-tuning and of prompts, a row each.

Every row is a process of its own, which trains on the first rows of DATA (Alpaca's form) in batches of one, eight of
them a step, as the tutorials of PEFT do it. A GPU's memory is counted where there is one, else the process's.

Usage: instruction_costs.py MODEL DATA --output_dir DIR [--backend torch] [--samples 16] [--bf16] [--without ROW ...]
       MODEL: a causal model; examples/make_bloom.py makes one of any size.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROWS = {
    "fine-tuning": ["--method", "fine-tuning"],
    "p-tuning(MLP)": ["--method", "p-tuning", "--prompt_encoder", "mlp", "--pre_seq_len", "10"],
    "p-tuning(LSTM)": ["--method", "p-tuning", "--prompt_encoder", "lstm", "--pre_seq_len", "10"],
    "prompt-tuning": ["--method", "prompt-tuning", "--pre_seq_len", "10"],
    "p-tuning-v2": ["--method", "p-tuning-v2", "--pre_seq_len", "10"],
}


def train(options: argparse.Namespace, name: str) -> dict:
    """The metrics of a row's run."""
    output = options.output_dir / name
    command = [
        *(sys.executable, "-m", "fastprompt.cli", "train", "--backend", options.backend, "--task_name", "instruction"),
        *("--model_name_or_path", options.model, "--data_dir", options.data, "--output_dir", output, *ROWS[name]),
        *("--max_train_samples", options.samples, "--do_train", "--per_device_train_batch_size", 1),
        *("--gradient_accumulation_steps", 8, "--max_seq_length", 256, "--logging_steps", 1),
    ]
    if options.bf16 and name != "fine-tuning":  # a backbone that is trained stays in float32
        command.append("--bf16")
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, "FASTNLP_BACKEND": options.backend}, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"{name} failed")
    return json.loads((output / "metrics.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--backend", choices=("torch", "paddle", "jittor"), default="torch")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--bf16", action="store_true", help="hold frozen backbones in bfloat16")
    parser.add_argument("--without", choices=ROWS, nargs="*", default=[], help="rows to leave off")
    options = parser.parse_args()
    table = Table("", "all parameters", "trained", "memory, model loaded", "memory, training", "samples/s")
    for name in ROWS:
        if name in options.without:
            continue
        found = train(options, name)
        memory = (f"{found[key] / 1024:.2f} GiB" for key in ("model_memory_mb", "peak_memory_mb"))
        counts = (f"{found[key]:,}" for key in ("total_parameters", "trainable_parameters"))
        table.add_row(name, *counts, *memory, f"{found['samples_per_second']:.3g}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
