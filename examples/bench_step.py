"""Step times, interleaved in one run: what a prefix costs, and what each framework takes.

    bench_step.py MODEL                 torch: a deep-prefix step against the frozen baseline (the same frozen backbone
                                        trained through its embeddings), and PEFT's prefix tuning where it is installed
    bench_step.py MODEL --frameworks    torch, paddle, jittor: one step each in turn, ratios to torch

Prints medians in milliseconds and ratios with their 10 % and 90 % quantiles over rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import fastprompt as fp

import numpy

BATCH, PRE_SEQ_LEN, WARM_UP = 32, 20, 5


def random_batch(length: int) -> dict[str, numpy.ndarray]:
    """Full rows of `length` tokens, the same in every process."""
    ids = numpy.random.default_rng(0).integers(1000, 2000, (BATCH, length))
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "labels": ids[:, 0] % 2}


def fastprompt_step(model_name: str, length: int) -> Callable[[], float]:
    """One whole training step (forward, backward, AdamW) of this process's framework; returns its loss."""
    from fastprompt.framework import ops

    model = fp.PromptForSequenceClassification.from_pretrained(model_name, fp.PTuningV2Config(pre_seq_len=PRE_SEQ_LEN))
    driver = fp.get_driver(model)
    driver.setup()
    driver.set_optimizers(fp.AdamW(model.trainable_parameters(), lr=1e-3))
    batch = {name: ops.tensor(array) for name, array in random_batch(length).items()}
    model.train()

    def step() -> float:
        loss = model.train_step(**batch)["loss"]
        driver.backward(loss)
        driver.step()
        driver.zero_grad()
        return float(ops.to_numpy(loss).item())

    return step


def baseline_step(model_name: str, length: int) -> Callable[[], float]:
    """torch: the stock classifier frozen, with a trained vector added to its embeddings and a trained classifier."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier"))
    offset = torch.zeros(model.config.hidden_size, requires_grad=True)
    tuned = [offset, *(p for p in model.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(tuned, lr=1e-3)
    batch = {name: torch.tensor(array) for name, array in random_batch(length).items()}
    words = model.get_input_embeddings()(batch.pop("input_ids")).detach()
    model.train()

    def step() -> float:
        loss = model(inputs_embeds=words + offset, **batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def peft_step(model_name: str, length: int) -> Callable[[], float]:
    """torch: PEFT's prefix tuning of the same length."""
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification

    stock = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
    settings = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=PRE_SEQ_LEN)
    model = peft.get_peft_model(stock, settings)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    batch = {name: torch.tensor(array) for name, array in random_batch(length).items()}
    model.train()

    def step() -> float:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def timed(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1e3


def serve(model_name: str, length: int) -> None:
    """A child: one timed step per line of standard input."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    step = fastprompt_step(model_name, length)
    for _ in range(WARM_UP):
        step()
    for _ in sys.stdin:
        print(timed(step), file=results, flush=True)


def child(backend: str, options: argparse.Namespace, length: int) -> Callable[[], float]:
    """A step of another framework, timed in its own process."""
    process = subprocess.Popen(
        [sys.executable, __file__, options.model, "--serve", str(length)],
        env={**os.environ, "FASTNLP_BACKEND": backend},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def step() -> float:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return step


def compare(steps: dict[str, Callable[[], float]], base: str, length: int, rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(step())
    for name, values in times.items():
        ratios = numpy.array(values) / numpy.array(times[base])
        low, middle, high = numpy.quantile(ratios, [0.1, 0.5, 0.9])
        line = f"T={length:3d}  {name:<22} {statistics.median(values):8.1f} ms   x {middle:.3f} of {base}"
        print(f"{line}  ({low:.2f} to {high:.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--frameworks", action="store_true")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.serve)
        return
    print(json.dumps({"batch": BATCH, "pre_seq_len": PRE_SEQ_LEN, "rounds": options.rounds, "cpus": os.cpu_count()}))
    for length in options.lengths:
        if options.frameworks:
            steps = {name: child(name, options, length) for name in ("torch", "paddle", "jittor")}
            compare(steps, "torch", length, options.rounds)
            continue
        steps = {
            "frozen baseline": baseline_step,
            "fastprompt deep prefix": fastprompt_step,
            "PEFT prefix tuning": peft_step,
        }
        made = {name: make(options.model, length) for name, make in steps.items()}
        for step in made.values():
            for _ in range(WARM_UP):
                step()
        compare(
            {name: lambda step=step: timed(step) for name, step in made.items()},
            "frozen baseline",
            length,
            options.rounds,
        )


if __name__ == "__main__":
    main()
