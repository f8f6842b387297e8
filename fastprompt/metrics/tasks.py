"""The official scores of each task, by their names in metrics.json.

A metric's module, and with it fastNLP and what computes the score, is imported when a metric is made of it: a prompt
that only answers waits for none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastprompt.errors import ConfigError


@dataclass(frozen=True)
class Scores:
    """The scores of a task.

    Attributes:
        main: the one by which prompts are chosen.
        make: the metrics, given the evaluation set (of lama its candidate words) and what `task_metrics` calls
            `qa_options`.
        names: those that every evaluation gives, beside "loss"; one of them can choose the best prompt.
    """

    main: str
    make: Callable[..., dict[str, Any]]
    names: tuple[str, ...]

    def check_name(self, name: str) -> None:
        """Raises: ConfigError: an evaluation gives no such score."""
        known = (*self.names, "loss")
        if name not in known:
            raise ConfigError(f"--metric_for_best_model is {name!r}; there are {', '.join(known)}.")


def _metric(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    """A metric, of the class `name`."""
    return getattr(import_module(f"fastprompt.metrics.{module}"), name)(*arguments, **options)


def _each(**kinds: tuple[str, ...]) -> Scores:
    """Scores that need to know nothing of the data, each (module, class, its arguments); the first is the main one."""
    names = tuple(kinds)
    return Scores(names[0], lambda data, **qa_options: {name: _metric(*kind) for name, kind in kinds.items()}, names)


_ACCURACY = _each(accuracy=("accuracy", "Accuracy"))
_ACCURACY_AND_F1 = _each(accuracy=("accuracy", "Accuracy"), f1=("f1", "F1"))
_REGRESSION = _each(pearson=("correlation", "Pearson"), spearman=("correlation", "Spearman"))
_ENTITIES = Scores(
    *("entity_f1", lambda data, **qa_options: {"entity_f1": _metric("entity_f1", "EntityF1", data.label_names)}),
    ("entity_f1", "precision", "recall"),
)
_ANSWERS = Scores(
    *("f1", lambda data, **qa_options: {"squad": _metric("squad", "SquadScores", data, **qa_options)}),
    ("exact_match", "f1"),  # those of a part of the questions are there only where the part is
)

# Sources of GLUE's and SuperGLUE's: Wang et al., 2018 and 2019.
_TASKS: dict[str, Scores] = {
    "qa": _ANSWERS,
    "ner": _ENTITIES,
    "srl": _ENTITIES,
    "instruction": Scores(
        *("loss", lambda data, **qa_options: {"perplexity": _metric("perplexity", "Perplexity")}), ("perplexity",)
    ),
    "regression": _REGRESSION,
    "lama": Scores(
        *("p_at_1", lambda candidates, **qa_options: {"ranks": _metric("ranks", "WordRanks", candidates)}),
        ("p_at_1", "p_at_10", "mrr"),
    ),
}
_DATASETS: dict[tuple[str, str | None], Scores] = {
    ("glue", "cola"): _each(matthews_correlation=("matthews", "MatthewsCorrelation")),
    ("glue", "mrpc"): _ACCURACY_AND_F1,
    ("glue", "qqp"): _ACCURACY_AND_F1,
    ("glue", "stsb"): _REGRESSION,
    ("superglue", "cb"): _each(accuracy=("accuracy", "Accuracy"), f1=("f1", "F1", "macro")),
    ("superglue", "multirc"): Scores(
        *("f1", lambda data, **qa_options: {"multirc": _metric("multirc", "MultiRC")}), ("f1", "exact_match")
    ),
}


def scores_of(task_name: str, dataset_name: str | None = None) -> Scores:
    """A task's scores: its data set's own, or its own, or accuracy."""
    return _DATASETS.get((task_name, dataset_name)) or _TASKS.get(task_name, _ACCURACY)


# The names that any task's scores have.
SCORE_NAMES = frozenset(
    name for scores in (_ACCURACY, *_TASKS.values(), *_DATASETS.values()) for name in (*scores.names, "loss")
)


def task_metrics(task_name: str, dataset_name: str | None, data: Any, **qa_options: Any) -> dict[str, Any]:
    """fastNLP's `Metric`s for `Trainer(metrics=...)` and `Evaluator(metrics=...)`; the main one is first but for "qa".

    Args:
        task_name, dataset_name: as `load_task` takes them.
        data: the evaluation set that it returned, whose tags say what is scored; for "qa" the `SquadWindows` that were
            made of it.
        qa_options: "qa"'s n_best_size, max_answer_length and null_threshold; see `SquadScores`.
    """
    return scores_of(task_name, dataset_name).make(data, **qa_options)
