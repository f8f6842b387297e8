"""What prompts cost on a GPU: step time, memory and samples a second of BERT-large and of a BLOOM of 1.3 billion
parameters, and whether training, resuming and predicting work there. Takes less than ten minutes on one GPU.

Both models are made here with random weights: what is measured does not depend on them. Every row is a process of its
own, so that one that runs out of memory ends alone; after --minutes no further one starts, and the table says so.

Needs torch, transformers and this checkout; what else a bare machine lacks goes into one folder beforehand:

    pip install --no-deps --target gpu-packages fastNLP==1.0.1 prettytable wcwidth rich==11.2.0 commonmark colorama \\
        pygments ml_dtypes

Usage: bench_gpu.py [--packages gpu-packages] [--device cuda] [--minutes 8] [--tiny] [--folder FOLDER]
       --tiny makes models of a few thousand parameters, to try the script on a CPU: --device cpu.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROMPT = ["--pre_seq_len", "20"]
DEEP = ["--method", "p-tuning-v2", *PROMPT]
LAST = [*DEEP, "--prefix_layers", "last:2", "--num_train_epochs", "2", "--cache_frozen_layers"]
P_TUNING = ["--method", "p-tuning", "--pre_seq_len", "10", "--prompt_encoder"]
ROWS = {
    "BERT-large": {
        "fine-tuning": ["--method", "fine-tuning"],
        "fine-tuning, fp16": ["--method", "fine-tuning", "--fp16"],
        "deep prefix": DEEP,
        "deep prefix, fp16": [*DEEP, "--fp16"],
        "deep prefix, bf16": [*DEEP, "--bf16"],
        "last 2 layers, cached, bf16": [*LAST, "CACHE", "--bf16"],
        "p-tuning (MLP), bf16": [*P_TUNING, "mlp", "--bf16"],
    },
    "BLOOM 1.3B": {
        "fine-tuning": ["--method", "fine-tuning"],
        "p-tuning (MLP), bf16": [*P_TUNING, "mlp", "--bf16"],
        "p-tuning (LSTM), bf16": [*P_TUNING, "lstm", "--bf16"],
        "deep prefix, bf16": [*DEEP, "--bf16"],
        "deep prefix, 8 bits": [*DEEP, "--load_in_8bit"],
        "deep prefix, 4 bits": [*DEEP, "--load_in_4bit"],
        "last 2 layers, cached, bf16": [*LAST, "CACHE", "--bf16"],
    },
}
BATCH = {"BERT-large": 32, "BLOOM 1.3B": 1}  # BLOOM's as in the tutorial on instruction tuning


def make_models(folder: Path, tiny: bool) -> None:
    """Both models, each with a tokenizer of bytes."""
    import transformers

    sys.path.insert(0, str(HERE))
    from make_bloom import write_tokenizer

    sizes = ["64", "3", "4", "512"] if tiny else ["2048", "24", "16", "46145"]
    names = ("--hidden_size", "--layers", "--heads", "--vocab_size")
    given = [part for pair in zip(names, sizes, strict=True) for part in pair]
    subprocess.run([sys.executable, HERE / "make_bloom.py", folder / "BLOOM 1.3B", *given], check=True)
    layout = (64, 3, 4, 128) if tiny else (1024, 24, 16, 4096)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = transformers.BertConfig(**dict(zip(names, layout, strict=True)), pad_token_id=3)
    transformers.BertModel(config).save_pretrained(folder / "BERT-large")
    write_tokenizer(folder / "BERT-large")


def make_data(folder: Path, samples: int) -> None:
    """Sentences of 60 letters for a classifier, and instructions with answers for BLOOM."""
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefgh ", k=60)) for _ in range(samples)]
    rows = [f"{text}\t{index % 2}" for index, text in enumerate(texts)]
    (folder / "train.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    asked = [{"instruction": text[:30], "input": "", "output": text[30:]} for text in texts]
    (folder / "train.json").write_text(json.dumps(asked))
    (folder / "lines.txt").write_text("\n".join(texts[:8]) + "\n")


class Runs:
    """Runs of the command line in one folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        paths = [str(HERE.parent), *([str(Path(options.packages).resolve())] if options.packages else [])]
        self.environment = {**os.environ, "FASTNLP_BACKEND": "torch", "PYTHONPATH": os.pathsep.join(paths)}

    def command(self, *arguments: object, text: str = "") -> tuple[bool, str]:
        """Whether it succeeded, and what it printed, or the last line of what went wrong."""
        command = [sys.executable, "-m", "fastprompt", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()
        return done.returncode == 0, done.stdout if done.returncode == 0 else (lines or ["no message"])[-1]

    def train(self, model: str, output: Path, method: list[str], samples: int) -> tuple[bool, str]:
        task = ["--task_name", "instruction", "--data_dir", self.folder / "train.json", "--max_seq_length", 256]
        if model == "BERT-large":
            task = ["--task_name", "glue", "--dataset_name", "sst2", "--data_dir", self.folder]
        method = [str(self.folder / "cache") if part == "CACHE" else part for part in method]
        return self.command(
            *("train", "--backend", "torch", "--device", self.options.device, "--do_train", *task, *method),
            *("--model_name_or_path", self.folder / model, "--output_dir", output, "--max_train_samples", samples),
            *("--per_device_train_batch_size", BATCH[model], "--logging_steps", 10),
        )


def measure(runs: Runs, model: str, name: str, samples: int) -> str:
    """A row of the table."""
    output = runs.folder / f"run of {model}, {name}"
    fine, said = runs.train(model, output, ROWS[model][name], samples)
    if not fine:
        return f"| {model} | {name} | {said} | | | |"
    found = json.loads((output / "metrics.json").read_text())
    rate = found["samples_per_second"]
    memory = [f"{found[key] / 1024:.2f}" for key in ("model_memory_mb", "peak_memory_mb")]
    cells = [
        f"{found['trainable_parameters']:,}",
        f"{1000 * BATCH[model] / rate:.0f}",
        f"{rate:.0f}",
        " / ".join(memory),
    ]
    return f"| {model} | {name} | {' | '.join(cells)} |"


def check(runs: Runs) -> str:
    """Train on the device, go on from a checkpoint to the same prompt, and predict with it."""
    whole, cut = runs.folder / "whole", runs.folder / "cut"
    method = [*DEEP, "--save_steps", "2", "--save_total_limit", "9"]
    fine, said = runs.train("BERT-large", whole, method, 4 * BATCH["BERT-large"])
    if not fine:
        return f"training failed: {said}"
    cut.mkdir()  # as a run that was killed after its second step leaves it
    (whole / "checkpoint-2").rename(cut / "checkpoint-2")
    fine, said = runs.train("BERT-large", cut, [*method, "--resume_from_checkpoint", "last"], 4 * BATCH["BERT-large"])
    if not fine:
        return f"resuming failed: {said}"
    same = (whole / "prompt.safetensors").read_bytes() == (cut / "prompt.safetensors").read_bytes()
    lines = (runs.folder / "lines.txt").read_text()
    fine, said = runs.command(
        *(
            "predict",
            "--backend",
            "torch",
            "--device",
            runs.options.device,
            "--model_name_or_path",
            cut,
            "--format",
            "jsonl",
        ),
        text=lines,
    )
    if not fine:
        return f"predicting failed: {said}"
    return f"resumed to {'the same' if same else 'another'} prompt; {len(said.splitlines())} of 8 lines were answered"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", help="a folder of Python packages beside those of the machine")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no further row after so many")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.packages:
            sys.path.insert(0, options.packages)
        make_models(folder, options.tiny)
        samples = 64 if options.tiny else 1280
        make_data(folder, samples)
        runs = Runs(options, folder)
        print(f"train, resume, predict on {options.device}: {check(runs)}", flush=True)
        print("| model | method | tuned | ms a step | samples/s | GiB, loaded / peak |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for model, rows in ROWS.items():
            for row in rows:
                if time.perf_counter() - started > 60 * options.minutes:
                    print(f"| {model} | {row} | not begun: out of time | | | |", flush=True)
                    continue
                count = samples if model == "BERT-large" else samples // 16
                print(measure(runs, model, row, count), flush=True)


if __name__ == "__main__":
    main()
