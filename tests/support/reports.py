"""Made comparisons, for tests of their report."""

import math
import random

BACKENDS = ("torch", "paddle", "jittor")


METHODS = ("p-tuning-v2", "prompt-tuning")


NINE = (
    *("p-tuning-v2", "p-tuning-v2-reparameterised-with-a-long-name", "prompt-tuning", "p-tuning-lstm", "p-tuning-mlp"),
    *("shallow-prefix", "fine-tuning", "linear-probe", "bitfit"),
)


EVERYTHING = {(backend, method, seed) for backend in BACKENDS for method in METHODS for seed in (11, 12)}


SPEED = {"torch": 148.0, "paddle": 131.0, "jittor": 97.0}


MEMORY = {"torch": 955.0, "paddle": 1210.0, "jittor": 1873.0}


TENSORS = (
    *(f"prompt.layers.{layer}.{kind}" for layer in range(12) for kind in ("key", "value")),
    *("classifier.weight", "classifier.bias"),
)


def made_report(
    backends=BACKENDS,
    methods=METHODS,
    seeds=(11, 12),
    steps=200,
    failed=(),
    budget=1e-4,
    drift=1e-7,
    broken=(),
    task_metrics=("accuracy",),
):
    """A report; `failed` holds (backend, method, seed), `broken` frameworks that break parity's budgets, and `drift` is
    how far a loss goes from the base's at one step."""
    draw = random.Random(7)
    runs = [
        _run(draw, b, m, s, steps, (b, m, s) in failed, drift, task_metrics)
        for m in methods
        for b in backends
        for s in seeds
    ]
    quantities = (
        *task_metrics,
        "loss",
        "samples_per_second",
        "seconds_to_first_step",
        "train_seconds",
        "peak_memory_mb",
    )
    summary = []
    for method in methods:
        for backend in backends:
            own = [r for r in runs if (r["method"], r["backend"]) == (method, backend) and r["status"] == "finished"]
            if own:
                values = {name: _mean([run["metrics"][name] for run in own]) for name in quantities}
                entry = {"backend": backend, "method": method, "seeds": [run["seed"] for run in own], "values": values}
                summary.append({**entry, "trainable_parameters": own[0]["metrics"]["trainable_parameters"]})
    by_key = {(run["method"], run["seed"], run["backend"]): run["history"] for run in runs}
    differences = []
    for (method, seed, backend), history in by_key.items():
        reference = by_key[method, seed, backends[0]]
        if backend != backends[0] and history and reference:
            values = [abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(history, reference, strict=True)]
            at = max(range(len(values)), key=values.__getitem__)
            entry = {"method": method, "seed": seed, "backend": backend, "largest": values[at]}
            logged = [line["step"] for line in history]
            differences.append({**entry, "at_step": logged[at], "steps": logged, "values": values})
    return {
        "format_version": 1,
        "created": "2026-11-25T02:30:00+00:00",
        "command": f"fastprompt compare --backends {' '.join(backends)} --methods {' '.join(methods)} --task_name glue "
        f"--dataset_name sst2 --seeds {' '.join(map(str, seeds))} --output_dir comparison",
        "task": "glue/sst2",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "options": {
            **{"num_train_epochs": 1, "max_train_samples": 704, "max_eval_samples": 200, "max_seq_length": 128},
            **{"per_device_train_batch_size": 32, "lr_scheduler_type": "linear", "warmup_ratio": 0.1, "bf16": False},
            **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "logging_steps": 1, "device": None},
        },
        "versions": {
            **{"fastprompt": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "paddlepaddle": "3.3.1"},
            **{"jittor": "1.3.11", "fastNLP": "1.0.1", "numpy": "1.26.4"},
        },
        "machine": {
            **{"processor": "Intel(R) Xeon(R) Processor @ 2.70GHz", "cores": 2, "memory_gb": 23.4},
            "system": "Linux 6.1.0-18-amd64",
        },
        "base": backends[0],
        "runs": runs,
        "summary": summary,
        "task_metrics": list(task_metrics),
        "loss_differences": differences,
        "loss_budget": budget,
        "parity": [made_parity(draw, backends, method, broken) for method in methods],
    }


def _run(draw, backend, method, seed, steps, fails, drift, task_metrics):
    run = {
        **{"backend": backend, "method": method, "seed": seed, "directory": f"runs/{backend}-{method}-{seed}"},
        "command": f"fastprompt train --backend {backend} --method {method} --model_name_or_path "
        f"sentence-transformers/all-MiniLM-L6-v2 --task_name glue --dataset_name sst2 --seed {seed} "
        f"--output_dir runs/{backend}-{method}-{seed}",
    }
    if fails:
        reason = f"The loss is nan at or before step 17; lower the learning rate ({backend}, {method})."
        return {**run, "status": "failed", "reason": reason, "metrics": None, "history": []}
    course = random.Random(f"{method}{seed}")  # the same for every framework
    level, rate = course.uniform(0.25, 0.45), course.uniform(2, 5)
    history = []
    for step in range(1, steps + 1):
        loss = level + (0.69 - level) * math.exp(-rate * step / steps) + course.gauss(0, 0.03)
        loss *= 1 if backend == "torch" or draw.random() < 0.04 else 1 + draw.gauss(0, drift * (0.2 + step / steps))
        history.append({"step": step, "loss": loss, "learning_rate": 0.01 * (1 - step / steps)})
    speed = SPEED[backend] * draw.uniform(0.96, 1.04)
    metrics = {name: min(0.999, 0.8 + course.uniform(0, 0.05)) for name in task_metrics}
    metrics |= {"loss": history[-1]["loss"], "samples_per_second": speed, "train_seconds": 32 * steps / speed}
    metrics |= {"seconds_to_first_step": draw.uniform(0.3, 0.6) * (9 if backend == "jittor" else 1)}
    metrics |= {"peak_memory_mb": MEMORY[backend] * draw.uniform(0.99, 1.01), "train_samples": 704, "steps": steps}
    metrics |= {"trainable_parameters": 92930, "total_parameters": 22806146, "eval_samples": 200}
    return {**run, "status": "finished", "reason": None, "metrics": metrics, "history": history}


def _mean(values):
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "deviation": spread, "count": len(values)}


def made_parity(draw, backends, method, broken=(), failed=None):
    """A parity measurement of twelve layers."""
    wanted = [("hidden state", f"layer {layer}", 1e-5) for layer in range(1, 13)]
    wanted += [("gradient of hidden state", f"layer {layer}", 1e-4) for layer in range(1, 13)]
    wanted += [("logits", "logits", 1e-5), *(("gradient", name, 1e-4) for name in TENSORS)]
    wanted += [("step", name, 1e-6) for name in TENSORS] + [("update", name, None) for name in TENSORS]
    rows, over = [], []
    for quantity, name, budget in wanted:
        values = {b: 0.0 if draw.random() < 0.02 else 10 ** draw.uniform(-8, -6.3) for b in backends}
        if quantity == "gradient" and name.startswith("prompt.layers.3"):
            values |= {backend: draw.uniform(0.1, 0.4) for backend in broken}
            over += [
                {"backend": b, "quantity": quantity, "name": name, "value": values[b], "budget": budget} for b in broken
            ]
        rows.append({"quantity": quantity, "name": name, "budget": budget, "values": values})
    return {
        **{"method": method, "model": "sentence-transformers/all-MiniLM-L6-v2", "prompt": f"runs/torch-{method}-11"},
        **{"reference": "transformers (float64)", "backends": list(backends), "failed": failed or {}},
        "command": f"fastprompt parity --backends {' '.join(backends)} --model_name_or_path runs/torch-{method}-11",
        **{"holds": not over and not failed, "rows": rows, "broken": over},
    }


CASES = {
    "usual": lambda: made_report(failed={("jittor", "prompt-tuning", 12)}),
    "much": lambda: made_report(
        methods=NINE,
        seeds=(11, 12, 13),
        steps=60,
        failed={("jittor", NINE[1], seed) for seed in (11, 12, 13)} | {("torch", "bitfit", 11)},
        broken=("paddle",),
        task_metrics=("accuracy", "f1", "matthews_correlation"),
    ),
    "one step": lambda: made_report(methods=METHODS[:1], seeds=(11,), steps=1),
    "one framework": lambda: made_report(backends=("torch",), seeds=(11,)),
    "ten thousand steps": lambda: made_report(methods=METHODS[:1], seeds=(11,), steps=10_000),
    "nothing finished": lambda: made_report(failed=EVERYTHING),
    "dropout": lambda: made_report(seeds=(11,), budget=None, drift=0.03),
}
