"""Step times, interleaved in one run: what a prefix costs, what each framework and each precision takes, and a bank.

    bench_step.py MODEL                 torch: a deep-prefix step against the frozen baseline (the same frozen backbone
                                        trained through its embeddings), and PEFT's prefix tuning where it is installed
    bench_step.py MODEL --frameworks    torch, paddle, jittor: one step each in turn, ratios to torch
    bench_step.py MODEL --precisions    torch: steps and predictions in float32 and bfloat16 against the products of the
                                        backbone's linear layers alone in bfloat16, forward and gradient of their input
    bench_step.py MODEL --bank          ten prompts in one call of a bank against one, prompts in the last 2 layers

MODEL is a checkpoint, or base, large or deep: a random BERT-base, BERT-large, or 12 layers of MiniLM's width. Prints
medians in milliseconds and ratios with their 10 % and 90 % quantiles over rounds.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastprompt as fp

import numpy

BATCH, PRE_SEQ_LEN, WARM_UP, PROMPTS = 32, 20, 5, 10
SIZES = {
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "deep": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536},
}


@contextlib.contextmanager
def checkpoint(name: str) -> Iterator[str]:
    """A checkpoint's name, or the folder of a random one while it is needed."""
    if name not in SIZES:
        yield name
        return
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        transformers.BertModel(transformers.BertConfig(**SIZES[name])).save_pretrained(folder)
        yield folder


def random_batch(length: int) -> dict[str, numpy.ndarray]:
    """Full rows of `length` tokens, the same in every process."""
    ids = numpy.random.default_rng(0).integers(1000, 2000, (BATCH, length))
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "labels": ids[:, 0] % 2}


def fastprompt_step(model_name: str, length: int, bf16: bool = False) -> Callable[[], float]:
    """One whole training step (forward, backward, AdamW) of this process's framework; returns its loss."""
    from fastprompt.framework import ops

    config = fp.PTuningV2Config(pre_seq_len=PRE_SEQ_LEN)
    model = fp.PromptForSequenceClassification.from_pretrained(model_name, config, bf16=bf16)
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


def prediction(model_name: str, length: int, bf16: bool) -> Callable[[], Any]:
    """torch: the classes of a batch."""
    import torch

    config = fp.PTuningV2Config(pre_seq_len=PRE_SEQ_LEN)
    model = fp.PromptForSequenceClassification.from_pretrained(model_name, config, bf16=bf16)
    batch = {name: torch.tensor(array) for name, array in random_batch(length).items() if name != "labels"}
    model.eval()

    def predict() -> Any:
        with torch.no_grad():
            return model(**batch).logits

    return predict


def products(model_name: str, length: int) -> Callable[[], Any]:
    """torch: the products of every linear layer of the backbone in bfloat16, forward and for its input's gradient."""
    import torch
    from transformers import AutoModel

    found = AutoModel.from_pretrained(model_name).modules()
    weights = [one.weight.detach().bfloat16() for one in found if isinstance(one, torch.nn.Linear)]
    states = {size: torch.randn(BATCH * length, size).bfloat16() for weight in weights for size in weight.shape}

    def multiply() -> None:
        for weight in weights:
            torch.nn.functional.linear(states[weight.shape[1]], weight)
            torch.matmul(states[weight.shape[0]], weight)

    return multiply


def bank_calls(model_name: str, length: int) -> dict[str, Callable[[], Any]]:
    """torch: a batch with one prompt of a bank, and with all."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        folders = {f"prompt {number}": Path(folder) / str(number) for number in range(PROMPTS)}
        config = fp.PTuningV2Config(pre_seq_len=PRE_SEQ_LEN, prefix_layers="last:2")
        for seed, one in enumerate(folders.values()):
            fp.PromptForSequenceClassification.from_pretrained(model_name, config, seed=seed).save_pretrained(one)
        bank = fp.PromptBank.from_pretrained(folders)
    batch = {name: torch.tensor(array) for name, array in random_batch(length).items() if name != "labels"}

    def call(names: list[str]) -> Callable[[], Any]:
        def answer() -> Any:
            with torch.no_grad():
                return bank(**batch, prompts=[names] * BATCH).logits

        return answer

    return {"one prompt": call(bank.names[:1]), f"{PROMPTS} prompts": call(bank.names)}


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


def child(backend: str, model_name: str, length: int) -> Callable[[], float]:
    """A step of another framework, timed in its own process."""
    process = subprocess.Popen(
        [sys.executable, __file__, model_name, "--serve", str(length)],
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


def steps_of(options: argparse.Namespace, model: str, length: int) -> tuple[dict[str, Callable[[], float]], str]:
    """What is held against each other, each timed, and which of it the ratios are to."""
    if options.frameworks:
        return {name: child(name, model, length) for name in ("torch", "paddle", "jittor")}, "torch"
    if options.precisions:
        steps = {
            "products in bfloat16": products(model, length),
            "step in bfloat16": fastprompt_step(model, length, bf16=True),
            "step in float32": fastprompt_step(model, length),
            "prediction in bfloat16": prediction(model, length, bf16=True),
            "prediction in float32": prediction(model, length, bf16=False),
        }
        base = "products in bfloat16"
    elif options.bank:
        steps, base = bank_calls(model, length), "one prompt"
    else:
        steps = {
            "frozen baseline": baseline_step(model, length),
            "fastprompt deep prefix": fastprompt_step(model, length),
            "PEFT prefix tuning": peft_step(model, length),
        }
        base = "frozen baseline"
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    return {name: lambda step=step: timed(step) for name, step in steps.items()}, base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--frameworks", action="store_true")
    kinds.add_argument("--precisions", action="store_true")
    kinds.add_argument("--bank", action="store_true")
    kinds.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.serve)
        return
    print(json.dumps({"batch": BATCH, "pre_seq_len": PRE_SEQ_LEN, "rounds": options.rounds, "cpus": os.cpu_count()}))
    with checkpoint(options.model) as model:
        for length in options.lengths:
            compare(*steps_of(options, model, length), length, options.rounds)


if __name__ == "__main__":
    main()
