"""The tables of accuracies: every row a command run with several seeds, as mean and sample deviation.

Prints its plan with the minutes that it expects, runs what is not finished, and writes a table in Markdown as soon as
its runs are there. Each run has a folder of its own under --output_dir; a run whose command is the same and whose
metrics.json is there is not run again, so that the script goes on wherever it was stopped. Expected minutes of a row
are guesses for two CPU cores until one of its runs has finished, and what that run took from then on.

Rows of PEFT train by PEFT itself under transformers' Trainer, where both are installed.

Usage: results.py MODEL --data DATA --output_dir DIR [--mlm_model DIR] [--only TABLE ...] [--seeds 11 12 13] [--plan]
       DATA: a folder with sst2/, squad/ and lama/; MODEL: an encoder; --mlm_model: one with a masked-LM head, for lama
"""

import argparse
import collections
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastprompt as fp

_NER = Path(__file__).with_name("make_ner.py")
_LAYERS = "--prefix_layers last:2 --cache_frozen_layers {cache} --num_train_epochs 3 --bf16"
_QA = "--max_train_samples 3000 --max_eval_samples 1000 --max_seq_length 256 --doc_stride 64 --num_train_epochs 3"
_QA += " --per_device_train_batch_size 16"
_TAGS = "--max_seq_length 64 --per_device_train_batch_size 16 --num_train_epochs 5"
_FACTS = "--num_train_epochs 4 --hidden_dropout_prob 0 --attention_probs_dropout_prob 0"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        minutes: a guess of what a run takes.
        options: of `fastprompt train`; of a row of PEFT its kind and its data's size.
        seeded: whether a run depends on its seed; one that does not trains nothing.
    """

    name: str
    minutes: float
    options: str
    peft: bool = False
    seeded: bool = True


@dataclass(frozen=True)
class Task:
    """A table: the task that all its rows share, and the scores that are shown."""

    shared: str
    scores: tuple[str, ...]
    rows: tuple[Row, ...]


_SST2 = "--task_name glue --dataset_name sst2 --data_dir {data}/sst2"
_SMALL = "--max_train_samples 8000"
TABLES = {
    "sst2": Task(
        _SST2,
        ("accuracy",),
        (
            Row("P-Tuning v2, the defaults", 5, ""),
            Row("P-Tuning v2, last 2 layers cached, 3 epochs", 4, _LAYERS),
        ),
    ),
    "sst2-baselines": Task(
        _SST2,
        ("accuracy",),
        (
            Row("fine-tuning", 10, "--method fine-tuning"),
            Row("PEFT's prefix tuning", 8, "prefix", peft=True),
        ),
    ),
    "sst2-8000": Task(
        f"{_SST2} {_SMALL}",
        ("accuracy",),
        (
            Row("P-Tuning v2, the defaults", 1, ""),
            Row("P-Tuning v2 with the backbone", 2, "--use_lm_finetune"),
            Row("P-Tuning v1", 1, "--method p-tuning"),
            Row("prompt tuning", 1, "--method prompt-tuning"),
            Row("fine-tuning", 1.5, "--method fine-tuning"),
            Row("linear probe", 0.5, "--method linear-probe"),
            Row("BitFit", 1, "--method bitfit"),
            Row("PEFT's prefix tuning", 1, f"prefix {_SMALL}", peft=True),
            Row("PEFT's LoRA", 1, f"lora {_SMALL}", peft=True),
        ),
    ),
    "squad": Task(
        f"--task_name qa --dataset_name squad --data_dir {{data}}/squad {_QA}",
        ("f1", "exact_match"),
        (
            Row("P-Tuning v2", 5, "--bf16"),
            Row("fine-tuning", 8, "--method fine-tuning --learning_rate 1e-4"),
            Row("linear probe", 3, "--method linear-probe --bf16"),
        ),
    ),
    "ner": Task(
        f"--task_name ner --data_dir {{ner}} {_TAGS}",
        ("entity_f1",),
        (
            Row("P-Tuning v2", 0.5, "--bf16"),
            Row("fine-tuning", 0.5, "--method fine-tuning"),
            Row("linear probe", 0.3, "--method linear-probe --bf16"),
        ),
    ),
    "lama": Task(
        "--task_name lama --data_dir {data}/lama",
        ("p_at_1", "p_at_10", "mrr"),
        (
            Row("manual templates", 1, "--method manual", seeded=False),
            Row("P-Tuning v1", 4, f"--method p-tuning --learning_rate 1e-3 {_FACTS}"),
            Row("deep prefix, 10 positions", 4, f"--pre_seq_len 10 {_FACTS}"),
            Row("fine-tuning", 5, f"--method fine-tuning {_FACTS}"),
            Row(
                "P-Tuning v1 with the backbone", 6, f"--method p-tuning --learning_rate 1e-3 --use_lm_finetune {_FACTS}"
            ),
        ),
    ),
}


@dataclass
class Run:
    """A row with one seed."""

    table: str
    row: Row
    seed: int
    folder: Path
    words: list[str]

    @property
    def command(self) -> str:
        first = ["examples/results.py"] if self.row.peft else ["fastprompt", "train"]
        return shlex.join([*first, *self.words])

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What a finished run of this very command left; None where there is none."""
        path = self.folder / "metrics.json"
        if not self.begun or not path.exists():
            return None
        found = json.loads(path.read_text())
        return found if "minutes" in found else None

    @property
    def begun(self) -> bool:
        """Whether the folder holds this very command's run, or its beginning."""
        path = self.folder / "command.txt"
        return path.exists() and path.read_text() == self.command


def plan(options: argparse.Namespace) -> list[Run]:
    runs = []
    for name in options.only:
        task = TABLES[name]
        model = options.mlm_model if name == "lama" else options.model
        places = {"data": options.data, "ner": options.output_dir / "data-ner", "cache": options.output_dir / "cache"}
        for row in task.rows:
            for seed in options.seeds if row.seeded else options.seeds[:1]:
                folder = options.output_dir / name / f"{_slug(row.name)}-{seed}"
                own = (
                    f"--peft {row.options}"
                    if row.peft
                    else f"--backend torch {task.shared} {row.options}".format(**places)
                )
                limits = options.limits if row.seeded else {"max_eval_samples": options.max_eval_samples}
                more = [word for key, value in limits.items() if value for word in (f"--{key}", str(value))]
                words = [*own.split(), *more, "--seed", str(seed), "--output_dir", str(folder)]
                where = [model, "--data", options.data] if row.peft else ["--model_name_or_path", model]
                runs.append(Run(name, row, seed, folder, [*map(str, where), *words]))
    return runs


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def minutes_of(run: Run, runs: list[Run]) -> float:
    """What a run is expected to take: what another seed's took, else the guess."""
    took = [found["minutes"] for other in runs if other.row == run.row and (found := other.metrics)]
    return statistics.fmean(took) if took else run.row.minutes


def execute(run: Run) -> str | None:
    """Carry a run out; the reason where it fails."""
    run.folder.mkdir(parents=True, exist_ok=True)
    going_on = run.begun and run.table == "lama"  # which goes on after its last relation by itself
    if not run.begun:
        (run.folder / "metrics.json").unlink(missing_ok=True)
        (run.folder / "command.txt").write_text(run.command)
    start = [__file__] if run.row.peft else ["-m", "fastprompt.cli", "train"]
    again = [] if run.row.peft or going_on else ["--overwrite_output_dir"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *start, *run.words, *again],
        env={**os.environ, "FASTNLP_BACKEND": "torch"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    path = run.folder / "metrics.json"
    metrics = json.loads(path.read_text()) | {"minutes": (time.monotonic() - began) / 60}
    path.write_text(json.dumps(metrics, indent=1))
    return None


def write_table(name: str, runs: list[Run], options: argparse.Namespace) -> Path:
    """The table of the finished runs, and the commands under it."""
    task = TABLES[name]
    lines = [f"| | {' | '.join(task.scores)} | seeds | tuned parameters | minutes a run |"]
    lines.append("| --- " * (len(task.scores) + 4) + "|")
    commands = []
    if name == "lama":
        majority = f"{majority_share(options):.3f}"
        lines.append(
            f"| always the commonest training object | {majority} | {'- | ' * (len(task.scores) - 1)}- | 0 | - |"
        )
    for row in task.rows:
        own = [run for run in runs if run.table == name and run.row == row]
        found = [metrics for run in own if (metrics := run.metrics)]
        if not found:
            lines.append(f"| {row.name} {'| - ' * (len(task.scores) + 3)}|")
            continue
        scores = " | ".join(_spread([metrics[score] for metrics in found]) for score in task.scores)
        minutes = statistics.fmean(metrics["minutes"] for metrics in found)
        tuned = f"{found[0]['trainable_parameters']:,}"
        lines.append(f"| {row.name} | {scores} | {len(found)} | {tuned} | {minutes:.1f} |")
        commands.append(own[0].command)
    path = options.output_dir / f"{name}.md"
    path.write_text("\n".join([*lines, "", "```bash", *commands, "```", ""]))
    return path


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def majority_share(options: argparse.Namespace) -> float:
    """P@1 of answering every fact of a relation with its commonest object in training, as a mean over relations.

    Objects of several tokens are left out, as `fastprompt train` leaves them out.
    """
    tokenizer = fp.load_tokenizer(options.mlm_model)
    shares = []
    for folder in sorted(path.parent for path in (Path(options.data) / "lama").glob("*/train.jsonl")):
        train, test = (
            [word for word in _objects(folder / f"{split}.jsonl") if len(tokenizer.plain_ids(word)) == 1]
            for split in ("train", "test")
        )
        commonest = collections.Counter(train).most_common(1)[0][0]
        shares.append(test.count(commonest) / len(test))
    return statistics.fmean(shares)


def _objects(path: Path) -> list[str]:
    return [json.loads(line)["obj_label"] for line in path.read_text(encoding="utf-8").splitlines()]


def train_by_peft(options: argparse.Namespace) -> None:
    """A row of PEFT: its own model under transformers' Trainer, an epoch of SST-2; rates are those of its examples."""
    import peft
    import torch
    import transformers

    transformers.set_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    prefix = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20)
    lora = peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    config, rate = {"prefix": (prefix, 1e-2), "lora": (lora, 3e-4)}[options.peft]
    model = peft.get_peft_model(stock, config)
    splits = {}
    for split, count in (("train", options.max_train_samples), ("validation", options.max_eval_samples)):
        rows = fp.load_sst2(split, f"{options.data}/sst2").head(count)
        encoded = tokenizer(rows.texts, truncation=True, max_length=128)["input_ids"]
        splits[split] = [{"input_ids": ids, "labels": y} for ids, y in zip(encoded, rows.labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=32,
            learning_rate=rate,
            num_train_epochs=1,
            warmup_steps=0.06,  # a share of all steps
            bf16=True,
            train_sampling_strategy="group_by_length",
            seed=options.seed,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = transformers.Trainer(
            model=model, args=settings, train_dataset=splits["train"], processing_class=tokenizer
        )
        trainer.train()
        answers = trainer.predict(splits["validation"])
    metrics = {
        "accuracy": float((answers.predictions.argmax(-1) == answers.label_ids).mean()),
        "trainable_parameters": model.get_nb_trainable_parameters()[0],
    }
    (options.output_dir / "metrics.json").write_text(json.dumps(metrics))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--mlm_model", help="for the table lama")
    parser.add_argument("--only", nargs="+", choices=tuple(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13])
    parser.add_argument("--plan", action="store_true", help="print the plan alone")
    parser.add_argument("--max_train_samples", type=int, help="of every run, to try the script")
    parser.add_argument("--max_eval_samples", type=int)
    parser.add_argument("--peft", choices=("prefix", "lora"), help=argparse.SUPPRESS)  # a run of this script's own
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peft:
        train_by_peft(options)
        return 0
    options.only = options.only or [name for name in TABLES if name != "lama" or options.mlm_model]
    if "lama" in options.only and not options.mlm_model:
        parser.error("the table lama needs --mlm_model")
    options.limits = {name: getattr(options, name) for name in ("max_train_samples", "max_eval_samples")}
    runs = plan(options)
    for name in options.only:
        own = [run for run in runs if run.table == name]
        left = sum(minutes_of(run, runs) for run in own if run.metrics is None)
        done = sum(run.metrics is not None for run in own)
        print(f"{name}: {len(own)} runs, {done} of them done, about {left:.0f} minutes", flush=True)
    if options.plan:
        return 0
    if "ner" in options.only:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, _NER, options.output_dir / "data-ner"], check=True, stdout=subprocess.DEVNULL)
    failed = 0
    for number, run in enumerate(runs, start=1):
        if run.metrics is not None:
            continue
        missing = [name for name in ("peft", "transformers") if run.row.peft and not importlib.util.find_spec(name)]
        left = sum(minutes_of(other, runs) for other in runs[number - 1 :] if other.metrics is None)
        print(f"{number}/{len(runs)} {run.table}: {run.row.name}, seed {run.seed}; {left:.0f} minutes left", flush=True)
        reason = f"{missing[0]} is not installed" if missing else execute(run)
        if reason:
            failed += 1
            print(f"failed: {reason}", flush=True)
        write_table(run.table, runs, options)
    for name in options.only:
        print(write_table(name, runs, options))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
