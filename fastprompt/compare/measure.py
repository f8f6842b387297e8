"""What one framework computes from a model and a batch, as arrays that can be compared with another's."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastprompt.errors import FastpromptError
from fastprompt.methods.registry import method_config

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
        reference: another job's output, whose gradients one step is taken from beside the step from our own.
        options: further arguments of `from_pretrained`.
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
    reference: str | None = None
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
    from fastprompt.models.auto import model_class

    model = model_class(job.task).from_pretrained(
        job.model,
        None if job.method is None else method_config(**job.method),
        seed=job.seed,
        portable=job.portable,
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **job.options},
    )
    if job.float64:
        model.double()
    model.train()
    batches = [{name: model.tensor(array) for name, array in b.items()} for b in _read_batches(job.batches)]
    found = train_losses(model, batches, job) if job.steps else measure(model, batches[0], job)
    save_file({name: numpy.ascontiguousarray(array) for name, array in found.items()}, job.output)


def measure(model: Any, batch: dict[str, Any], job: Job) -> dict[str, numpy.ndarray]:
    """Hidden state after every layer, logits, loss, gradients, and tuned tensors after one step.

    Names: "hidden.<layer>" and "hidden_gradient.<layer>" (0: the embeddings), "logits", "loss", "gradient.<tensor>",
    "updated.<tensor>" (after a step from the gradients found here), and "stepped.<tensor>" (from the reference's).
    """
    from fastprompt.framework import nn, ops

    tuned = model.tuned_parameters()
    output = model(**batch, output_hidden_states=True)
    states = dict(enumerate(output.hidden_states))
    # (B, T), or (B, C, T) of multiple choice; an encoder-decoder's states are the decoder's
    real = ops.to_numpy(batch["labels"] * 0 + 1 if model.encoder_decoder else batch["attention_mask"])
    real = real.reshape(-1, real.shape[-1])
    found = {f"hidden.{index:02d}": _without_padding(ops.to_numpy(state), real) for index, state in states.items()}
    found |= {"logits": ops.to_numpy(output.logits), "loss": ops.to_numpy(output.loss)}
    reached = {index: state for index, state in states.items() if index >= _first_trained(model, len(states))}
    gradients = ops.gradients(output.loss, [*reached.values(), *tuned.values()])
    names = [*(f"hidden_gradient.{index:02d}" for index in reached), *(f"gradient.{name}" for name in tuned)]
    found |= dict(zip(names, gradients, strict=True))

    start = {name: ops.to_numpy(parameter) for name, parameter in tuned.items()}
    found |= _step("updated", tuned, found, job.learning_rate)
    if job.reference:
        for name, parameter in tuned.items():
            nn.set_value(parameter, start[name])
        found |= _step("stepped", tuned, load_file(job.reference), job.learning_rate)
    return found


def _without_padding(states: numpy.ndarray, real: numpy.ndarray) -> numpy.ndarray:
    """Hidden states (B, [P +] T, hidden) with zeros for padding, which nothing reads; `real` is (B, T)."""
    prompt = numpy.ones((len(real), states.shape[1] - real.shape[1]), real.dtype)
    return states * numpy.concatenate([prompt, real], axis=1)[:, :, None].astype(states.dtype)


def _first_trained(model: Any, states: int) -> int:
    """The first hidden state that depends on what is tuned; `states` where none does."""
    config = model.method_config
    if config.has_prompt and not config.tunes_backbone:
        if config.takes_pseudo_tokens and not model.encoder_decoder:
            return 0
        return 1 + config.first_changed_layer(states - 1)  # a deep prompt enters after the embeddings, or later
    return 0 if config.tunes_backbone else states


def _step(
    name: str, tuned: dict[str, Any], gradients: dict[str, numpy.ndarray], learning_rate: float
) -> dict[str, numpy.ndarray]:
    """The tuned tensors after the first step of a fresh optimizer from "gradient.<tensor>"."""
    from fastprompt.framework import ops, optim

    parameters = list(tuned.values())
    optimizer = optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    kind = str(ops.to_numpy(parameters[0]).dtype)
    optim.step_with(optimizer, parameters, [gradients[f"gradient.{tensor}"].astype(kind) for tensor in tuned])
    return {f"{name}.{tensor}": ops.to_numpy(parameter) for tensor, parameter in tuned.items()}


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


def main(path: str) -> int:
    try:
        for entry in json.loads(Path(path).read_text()):
            run_job(Job(**entry))
    except FastpromptError as error:
        print(f"fastprompt: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
