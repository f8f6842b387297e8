"""The official scores of each task, by their names in metrics.json."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastprompt.metrics.accuracy import Accuracy
from fastprompt.metrics.correlation import Pearson, Spearman
from fastprompt.metrics.entity_f1 import EntityF1
from fastprompt.metrics.f1 import F1
from fastprompt.metrics.matthews import MatthewsCorrelation
from fastprompt.metrics.multirc import MultiRC
from fastprompt.metrics.perplexity import Perplexity
from fastprompt.metrics.squad import SquadScores

from fastNLP import Metric

_ACCURACY: dict[str, Callable[[], Metric]] = {"accuracy": Accuracy}
_REGRESSION: dict[str, Callable[[], Metric]] = {"pearson": Pearson, "spearman": Spearman}

# Data sets with scores of their own; the others of GLUE and SuperGLUE are scored by accuracy.
# Sources: Wang et al., 2018 (GLUE) and 2019 (SuperGLUE).
_BENCHMARKS: dict[tuple[str, str | None], dict[str, Callable[[], Metric]]] = {
    ("glue", "cola"): {"matthews_correlation": MatthewsCorrelation},
    ("glue", "mrpc"): {"accuracy": Accuracy, "f1": F1},
    ("glue", "qqp"): {"accuracy": Accuracy, "f1": F1},
    ("glue", "stsb"): _REGRESSION,
    ("superglue", "cb"): {"accuracy": Accuracy, "f1": partial(F1, average="macro")},
    ("superglue", "multirc"): {"multirc": MultiRC},
}


def main_score(task_name: str, dataset_name: str | None = None) -> str:
    """The score by which prompts of a task are chosen: the first of `task_metrics`, of questions F1."""
    if task_name == "qa" or (task_name, dataset_name) == ("superglue", "multirc"):
        return "f1"
    if task_name in ("ner", "srl"):
        return "entity_f1"
    if task_name == "regression":
        return "pearson"
    if task_name == "instruction":
        return "loss"
    return next(iter(_BENCHMARKS.get((task_name, dataset_name), _ACCURACY)))


def task_metrics(task_name: str, dataset_name: str | None, data: Any, **answering: Any) -> dict[str, Metric]:
    """Metrics for `Trainer(metrics=...)` and `Evaluator(metrics=...)`; the task's main score comes first.

    Args:
        task_name, dataset_name: as `load_task` takes them.
        data: the evaluation set that it returned, whose tags or kind of labels say what is scored; for "qa" the
            `SquadWindows` that were made of it.
        answering: "qa"'s n_best_size, max_answer_length and null_threshold; see `SquadScores`.
    """
    if task_name == "qa":
        return {"squad": SquadScores(data, **answering)}
    if task_name in ("ner", "srl"):
        return {"entity_f1": EntityF1(data.label_names)}
    if task_name == "instruction":
        return {"perplexity": Perplexity()}
    found = _BENCHMARKS.get((task_name, dataset_name))
    if found is None:
        found = _REGRESSION if getattr(data, "label_names", ()) is None else _ACCURACY
    return {name: make() for name, make in found.items()}
