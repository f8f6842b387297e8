"""`fastprompt parity`: is a prompt the same thing under every framework?

Each framework, in a process of its own, takes the same weights, the same prompt and the same padded batch; what it
computes is compared with a reference, normally the stock transformers model in float64.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastprompt.compare.budgets import Difference, differences
from fastprompt.compare.measure import Job, write_batches, write_jobs
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.encoding import encode
from fastprompt.data.readers.sst2 import LabelledTexts, load_reviews
from fastprompt.errors import BackendError, ConfigError
from fastprompt.framework import BACKENDS, frameworks_with, is_installed
from fastprompt.launch import subprocesses
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.saving import prompt_file
from fastprompt.saving.files import as_json, write_whole

import numpy
from rich.table import Table
from safetensors.numpy import load_file

STOCK = "transformers"
REFERENCES = (STOCK, *BACKENDS)
REPORT_FILE = "parity.json"
FORMAT_VERSION = 1
_ROWS = 8
_MAX_LENGTH = 48


@dataclass
class ParityRequest:
    """What is compared with what.

    Args:
        model: hub id or folder of a backbone, or of a saved prompt.
        prompt: a saved prompt's folder, `model` being its backbone.
        config: the method of a fresh prompt where none is saved; P-Tuning v2 where it is None.
        reference: "transformers", the stock model in float64, or a framework.
        learning_rate: of the one optimizer step.
        seed: seeds a fresh prompt and head.
    """

    model: str
    prompt: str | None = None
    config: MethodConfig | None = None
    backends: tuple[str, ...] = BACKENDS
    reference: str = STOCK
    learning_rate: float = 1e-2
    seed: int = 11

    def __post_init__(self) -> None:
        if self.prompt is None and prompt_file.is_prompt(self.model):
            self.prompt, self.model = self.model, prompt_file.read_prompt(self.model).backbone_name
        if self.prompt is not None:
            if self.config is not None:
                raise ConfigError(f"{self.prompt} is a saved prompt and brings its own method.")
            saved = prompt_file.read_prompt(self.prompt)
            if saved.task != "sequence_classification" or saved.num_labels < 2:
                raise ConfigError(f"{self.prompt} is for {saved.task}; parity measures classifiers of texts so far.")
            saved.check_backbone(saved.open_backbone(None if self.model == saved.backbone_name else self.model))
            self.config = saved.config
        self.config = self.config or PTuningV2Config()

    def job(self, folder: Path, subject: str, reference: Path | None = None) -> Job:
        """The measurement of `subject`, a framework or the stock model."""
        saved = self.prompt is not None
        return Job(
            model=self.prompt if saved else self.model,
            output=str(folder / f"{subject}.safetensors"),
            batches=str(folder / "batch.safetensors"),
            method=None if saved else self.config.to_dict(),
            learning_rate=self.learning_rate,
            seed=self.seed,
            float64=subject == STOCK,
            reference=None if reference is None else str(reference),
            options={"backbone": self.model} if saved else {},
        )


def run_parity(request: ParityRequest, on_line: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure the reference, then every framework; returns what parity.json holds.

    A framework that cannot be measured is reported under "failed" and the others go on.

    Args:
        on_line: is given a line as each begins.

    Raises:
        BackendError: the reference cannot be measured.
        CheckpointError: model or prompt cannot be read, or do not belong together.
    """
    found: dict[str, list[Difference]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="fastprompt-parity-") as scratch:
        folder = Path(scratch)
        write_batches([_batch(request.model)], folder / "batch.safetensors")
        on_line(f"{request.reference}: the reference ...")
        if reason := _measure(request.job(folder, request.reference), request.reference, folder):
            raise BackendError(f"The reference, {request.reference}, cannot be measured: {reason}")
        reference = (folder / f"{request.reference}.safetensors").rename(folder / "reference.safetensors")
        for backend in request.backends:
            on_line(f"{backend} ...")
            job = request.job(folder, backend, reference)
            if reason := _measure(job, backend, folder):
                failed[backend] = reason
            else:
                found[backend] = list(differences(load_file(job.output), load_file(reference), job.learning_rate))
    return _report(request, found, failed)


def _batch(backbone: str) -> dict[str, numpy.ndarray]:
    """Eight embedded sentences of unequal lengths, padded.

    Two are of one class, six of the other: where classes balance, the last layers' bias gradients cancel down to
    float32's noise.
    """
    held_out = load_reviews("validation")
    by_label = [[i for i, label in enumerate(held_out.labels) if label == k] for k in (0, 1)]
    chosen = by_label[0][:2] + by_label[1][: _ROWS - 2]
    texts = LabelledTexts([held_out.texts[i] for i in chosen], [held_out.labels[i] for i in chosen])
    tokenizer = load_tokenizer(Checkpoint(backbone).directory)
    return PadBatch(tokenizer.pad_token_id)(encode(texts, tokenizer, _MAX_LENGTH))


def _measure(job: Job, subject: str, folder: Path) -> str | None:
    """Run a job in a process of its own; the reason where it fails."""
    backend = frameworks_with("stock")[0] if subject == STOCK else subject
    if not is_installed(backend):
        return f"{backend} is not installed: pip install 'fastprompt[{backend}]'."
    write_jobs([job], folder / "jobs.json")
    done = subprocesses.run(backend, ["-m", "fastprompt.compare.measure", str(folder / "jobs.json")])
    return done.reason if done.returncode else None


def _report(request: ParityRequest, found: dict[str, list[Difference]], failed: dict[str, str]) -> dict[str, Any]:
    measured = list(found)
    rows = [
        {
            "quantity": same[0].quantity,
            "name": same[0].name,
            "budget": same[0].budget,
            "values": {subject: difference.value for subject, difference in zip(measured, same, strict=True)},
        }
        for same in zip(*found.values(), strict=True)
    ]
    broken = [{"backend": subject, **d._asdict()} for subject, own in found.items() for d in own if not d.holds]
    return {
        "format_version": FORMAT_VERSION,
        "model": request.model,
        "prompt": request.prompt,
        "method": request.config.method,
        "reference": f"{STOCK} (float64)" if request.reference == STOCK else f"{request.reference} (float32)",
        "backends": list(request.backends),
        "learning_rate": request.learning_rate,
        "seed": request.seed,
        "config": asdict(request.config),
        "holds": not broken and not failed,
        "failed": failed,
        "broken": broken,
        "rows": rows,
    }


def write_report(report: dict[str, Any], directory: Path) -> Path:
    """Write parity.json into `directory`, whole or not at all."""
    path = directory / REPORT_FILE
    write_whole({path: as_json(report)})
    return path


def table(report: dict[str, Any]) -> Table:
    """Every quantity against the reference, a column a framework; what is over its budget is marked."""
    measured = [subject for subject in report["backends"] if subject not in report["failed"]]
    drawn = Table("quantity", "of", *measured, "budget", title=f"largest difference from {report['reference']}")
    for row in report["rows"]:
        cells = [
            f"{value:.1e}{' BREAKS' if row['budget'] is not None and not value <= row['budget'] else ''}"
            for value in (row["values"][subject] for subject in measured)
        ]
        drawn.add_row(row["quantity"], row["name"], *cells, "-" if row["budget"] is None else f"{row['budget']:.0e}")
    return drawn


def verdicts(report: dict[str, Any]) -> list[str]:
    """A line for each framework: inside the budgets, or where a pass first leaves them, or why it was not measured."""
    lines = []
    for subject in report["backends"]:
        broken = [item for item in report["broken"] if item["backend"] == subject]
        if subject in report["failed"]:
            lines.append(f"{subject}: not measured: {report['failed'][subject]}")
        elif not broken:
            lines.append(f"{subject}: inside every budget")
        else:
            first = broken[0]
            lines.append(
                f"{subject}: {_place(report, first)} ({first['value']:.1e}, the budget is {first['budget']:.0e}; "
                f"{len(broken)} of {len(report['rows'])} quantities break theirs)"
            )
    return lines


def _place(report: dict[str, Any], first: dict[str, Any]) -> str:
    """Where it breaks first. A hidden state is its layer's output, the gradient of one comes out of the next layer."""
    quantity, name = first["quantity"], first["name"]
    if quantity == "hidden state":
        return (
            f"the forward pass breaks in the {name}" if name == "embeddings" else f"the forward pass breaks in {name}"
        )
    if quantity == "gradient of hidden state":
        layers = [row["name"] for row in report["rows"] if row["quantity"] == "hidden state"]
        after = layers.index(name) + 1
        where = layers[after] if after < len(layers) else "the head"
        return f"the backward pass breaks in {where}"
    return f"the {quantity} breaks" if quantity == name else f"the {quantity} of {name} breaks"
