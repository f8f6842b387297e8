"""What two processes on this machine gain over one, and what they send each other, for the same steps.

Prints the bytes that a step hands to all-reduce beside those of what is tuned and of the whole model, and the step
time of one process against that of two with half of the batch each: median ratio, with its 10 % and 90 % quantiles
over rounds that take turns. Each process computes in one thread, so that two have twice the cores of one.

Usage: bench_processes.py MODEL [--backend torch] [--batch 32] [--length 64] [--steps 20] [--rounds 5]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import fastprompt as fp
from fastprompt.framework import declaration

import numpy

WARM_UP = 3


def time_steps(options: argparse.Namespace) -> None:
    """In one of the processes: time its steps; the first prints what it found."""
    from fastprompt.framework import ops

    launcher = declaration(fp.backend()).launcher
    rank, size = int(os.environ.get(launcher.rank, 0)), int(os.environ.get(launcher.size, 1))
    model = fp.PromptForSequenceClassification.from_pretrained(options.model, fp.PTuningV2Config())
    driver = fp.get_driver(model, "cpu")
    driver.setup()
    driver.set_optimizers(fp.AdamW(model.trainable_parameters(), lr=1e-3))
    rows = options.batch // size
    ids = numpy.random.default_rng(rank).integers(1000, 2000, (rows, options.length))
    arrays = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "labels": ids[:, 0] % 2}
    batch = {name: ops.tensor(array) for name, array in arrays.items()}
    driver.set_model_mode("train")
    times = []
    for _ in range(WARM_UP + options.steps):
        started = time.perf_counter()
        loss = driver.model_call(batch, model.train_step, None)["loss"]
        driver.backward(loss)
        driver.step()
        driver.zero_grad()
        ops.to_numpy(loss)
        times.append(time.perf_counter() - started)
    if rank == 0:
        tuned, total = model.count_parameters()
        sent = getattr(driver, "bytes_reduced", 0) // len(times)
        found = {"seconds": statistics.median(times[WARM_UP:]), "sent": sent, "tuned": 4 * tuned, "whole": 4 * total}
        print("FOUND " + json.dumps(found))


def run(options: argparse.Namespace, count: int) -> dict[str, float]:
    """What the first of `count` processes found."""
    arguments = [__file__, *sys.argv[1:], "--child"]
    shared = {**os.environ, "FASTNLP_BACKEND": options.backend, "OMP_NUM_THREADS": "1"}
    starts = [([sys.executable, *arguments], {})]
    if count > 1:
        starts = declaration(options.backend).launcher.commands(count, "cpu", arguments)
    processes = [
        subprocess.Popen(command, env={**found, **shared}, stdout=subprocess.PIPE, text=True)
        for command, found in starts
    ]
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a process failed")
    line = next(line for line in printed[0].splitlines() if "FOUND " in line)  # mpirun tags it
    return json.loads(line.partition("FOUND ")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--backend", choices=("torch", "paddle", "jittor"), default="torch")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        time_steps(options)
        return
    rounds = [(run(options, 1), run(options, 2)) for _ in range(options.rounds)]
    two = rounds[0][1]
    print(f"bytes a step: {two['sent']} sent, {two['tuned']} tuned, {two['whole']} the whole model")
    ratios = sorted(two["seconds"] / one["seconds"] for one, two in rounds)
    low, high = numpy.quantile(ratios, [0.1, 0.9])
    for name, place in (("one process", 0), ("two processes", 1)):
        print(f"{name}: {1000 * statistics.median(pair[place]['seconds'] for pair in rounds):.0f} ms a step")
    print(f"two / one: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}); {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
