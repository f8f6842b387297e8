"""What one framework makes of a model and a batch, as arrays that can be held against another's."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastprompt.config import method_config

import numpy
from safetensors.numpy import load_file, save_file


@dataclass
class Job:
    """A measurement to be taken in a process of its own.

    Args:
        model: a model's or saved prompt's folder.
        task: what it is for, as prompt files name it.
        method: a configuration's `to_dict()`; None for a saved prompt.
        batches: what `write_batches` wrote.
        steps: optimizer steps to take over the batches in turn; 0 measures hidden states, logits, gradients and the
            tensors after one step on the first.
        float64: in double precision (torch alone can).
    """

    model: str
    output: str
    batches: str
    task: str = "sequence_classification"
    method: dict[str, Any] | None = None
    learning_rate: float = 1e-2
    steps: int = 0
    seed: int = 0
    float64: bool = False
    portable: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def write_jobs(jobs: list[Job], path: Path) -> None:
    path.write_text(json.dumps([asdict(job) for job in jobs]))


def write_batches(batches: list[dict[str, numpy.ndarray]], path: Path) -> None:
    arrays = {f"{i}.{name}": array for i, batch in enumerate(batches) for name, array in batch.items()}
    save_file(arrays, str(path))


def _read_batches(path: str) -> list[dict[str, numpy.ndarray]]:
    batches: dict[int, dict[str, numpy.ndarray]] = {}
    for name, array in load_file(path).items():
        index, key = name.split(".", 1)
        batches.setdefault(int(index), {})[key] = array
    return [batches[index] for index in sorted(batches)]


def run_job(job: Job) -> None:
    """Take one measurement and write it to the job's output file."""
    from fastprompt.framework import nn, ops
    from fastprompt.models.auto import model_class

    model = model_class(job.task).from_pretrained(
        job.model,
        None if job.method is None else method_config(**job.method),
        seed=job.seed,
        portable=job.portable,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **job.options,
    )
    if job.float64:
        model.double()
    model.train()
    like = next(iter(nn.named_parameters(model.head).values()))
    batches = [{name: ops.tensor(array, like=like) for name, array in b.items()} for b in _read_batches(job.batches)]
    found = train_losses(model, batches, job) if job.steps else measure(model, batches[0], job.learning_rate)
    save_file({name: numpy.ascontiguousarray(array) for name, array in found.items()}, job.output)


def measure(model: Any, batch: dict[str, Any], learning_rate: float) -> dict[str, numpy.ndarray]:
    """Hidden state after every layer, logits, loss, gradients, and tuned tensors after one step.

    Names: "hidden.<layer>", "logits", "loss", "gradient.<tensor>", "updated.<tensor>".
    """
    from fastprompt.framework import ops, optim

    tuned = model.tuned_parameters()
    output = model(**batch, output_hidden_states=True)
    found = {f"hidden.{index:02d}": ops.to_numpy(state) for index, state in enumerate(output.hidden_states)}
    found |= {"logits": ops.to_numpy(output.logits), "loss": ops.to_numpy(output.loss)}
    gradients = ops.gradients(output.loss, list(tuned.values()))
    found |= {f"gradient.{name}": gradient for name, gradient in zip(tuned, gradients, strict=True)}
    optimizer = optim.AdamW(list(tuned.values()), lr=learning_rate, weight_decay=0.0)
    optim.step_with(optimizer, list(tuned.values()), gradients)
    return found | {f"updated.{name}": ops.to_numpy(p) for name, p in model.tuned_parameters().items()}


def train_losses(model: Any, batches: list[dict[str, Any]], job: Job) -> dict[str, numpy.ndarray]:
    """{"losses"}: the loss of each of `job.steps` steps."""
    from fastprompt.framework import ops, optim

    parameters = model.trainable_parameters()
    optimizer = optim.AdamW(parameters, lr=job.learning_rate, weight_decay=0.0)
    losses = []
    for step in range(job.steps):
        loss = model.train_step(**batches[step % len(batches)])["loss"]
        gradients = ops.gradients(loss, parameters)
        losses.append(ops.to_numpy(loss).item())
        optim.step_with(optimizer, parameters, gradients)
    return {"losses": numpy.array(losses)}


if __name__ == "__main__":
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        run_job(Job(**entry))
