"""What the runs of a comparison amount to: means over seeds, and how far the frameworks' losses lie apart."""

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastprompt.commands.doctor import package_versions
from fastprompt.compare.budgets import LOSSES, loss_differences
from fastprompt.compare.runs import Comparison, Run
from fastprompt.options.train import TrainOptions

import numpy

SCORES = (
    *("accuracy", "f1", "matthews_correlation", "pearson", "spearman"),
    *("exact_match", "entity_f1", "p_at_1", "p_at_10", "mrr"),
)
COSTS = ("samples_per_second", "seconds_to_first_step", "train_seconds", "peak_memory_mb")
FORMAT_VERSION = 1


def report(comparison: Comparison, runs: list[Run], parity: list[dict[str, Any]], command: str) -> dict[str, Any]:
    """What report.json holds, from ended runs and the parity reports of the methods."""
    finished = [run for run in runs if run.state == "finished"]
    scores = [name for name in SCORES if any(name in run.metrics for run in finished)]
    options = TrainOptions(**comparison.options_by_method[comparison.methods[0]])
    data, model = options.data, options.model
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "task": "/".join(name for name in (data.task_name, data.dataset_name) if name),
        "model": model.model_name_or_path,
        "options": comparison.given,
        "versions": {name: found for name, found in package_versions().items() if found},
        "machine": _machine(),
        "base": comparison.backends[0],
        "task_metrics": scores,
        "runs": [
            {
                "backend": run.backend,
                "method": run.method,
                "seed": run.seed,
                "status": run.state,
                "reason": run.reason,
                "command": run.command,
                "directory": str(run.directory),
                "metrics": run.metrics,
                "history": run.history,
            }
            for run in runs
        ],
        "summary": list(_summaries(finished, [*scores, "loss", *COSTS])),
        "loss_differences": list(_loss_differences(finished, comparison.backends[0])),
        # With dropout each framework draws masks of its own, and the curves are not expected to agree.
        "loss_budget": LOSSES if _without_dropout(comparison) else None,
        "parity": parity,
    }


def _without_dropout(comparison: Comparison) -> bool:
    """Whether no training draws a mask; beside a frozen backbone none does unless a rate is given."""
    for method, options in comparison.options_by_method.items():
        given = TrainOptions(**options, method=method)
        config, model = given.method.config(), given.model
        rates = (model.hidden_dropout_prob, model.attention_probs_dropout_prob)
        own = any(getattr(config, name, 0.0) for name in ("prefix_dropout", "encoder_dropout"))
        if any(rates) or (config.tunes_backbone and None in rates) or (own and rates[0] is None):
            return False
    return True


def _summaries(finished: list[Run], names: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Mean and sample deviation over seeds, for each method and framework."""
    for method, backend in dict.fromkeys((run.method, run.backend) for run in finished):
        same = [run for run in finished if (run.method, run.backend) == (method, backend)]
        metrics = [run.metrics for run in same]
        yield {
            "backend": backend,
            "method": method,
            "seeds": [run.seed for run in same],
            "trainable_parameters": metrics[0]["trainable_parameters"],
            "values": {name: _spread([found[name] for found in metrics]) for name in names if name in metrics[0]},
        }


def _spread(values: list[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation, "count": len(values)}


def _loss_differences(finished: list[Run], base: str) -> Iterable[dict[str, Any]]:
    """Each run's logged losses against those of the base framework's run of the same method and seed, relative."""
    by_name = {(run.backend, run.method, run.seed): run.history for run in finished}
    for (backend, method, seed), history in by_name.items():
        reference = {line["step"]: line["loss"] for line in by_name.get((base, method, seed), ())}
        ours = {line["step"]: line["loss"] for line in history if line["step"] in reference}
        if backend == base or not ours:
            continue
        values = loss_differences(numpy.array(list(ours.values())), numpy.array([reference[step] for step in ours]))
        worst = int(values.argmax())
        yield {
            "method": method,
            "seed": seed,
            "backend": backend,
            "largest": float(values[worst]),
            "at_step": list(ours)[worst],
            "steps": list(ours),
            "values": values.tolist(),
        }


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "processor": next(named, platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "memory_gb": None if memory is None else round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
    }
