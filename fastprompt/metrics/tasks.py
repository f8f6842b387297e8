"""The official scores of each task, by their names in metrics.json."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.metrics.accuracy import Accuracy
from fastprompt.metrics.correlation import Pearson, Spearman
from fastprompt.metrics.entity_f1 import EntityF1
from fastprompt.metrics.f1 import F1
from fastprompt.metrics.matthews import MatthewsCorrelation
from fastprompt.metrics.multirc import MultiRC
from fastprompt.metrics.perplexity import Perplexity
from fastprompt.metrics.squad import SquadScores

from fastNLP import Metric


@dataclass(frozen=True)
class Scores:
    """The scores of a task.

    Attributes:
        main: the one by which prompts are chosen.
        make: the metrics, given the evaluation set and what `task_metrics` calls `qa_options`.
        names: those that every evaluation gives, beside "loss"; one of them can choose the best prompt.
    """

    main: str
    make: Callable[..., dict[str, Metric]]
    names: tuple[str, ...]

    def check_name(self, name: str) -> None:
        """Raises: ConfigError: an evaluation gives no such score."""
        known = (*self.names, "loss")
        if name not in known:
            raise ConfigError(f"--metric_for_best_model is {name!r}; there are {', '.join(known)}.")


def _each(**kinds: Callable[[], Metric]) -> Scores:
    """Scores that need to know nothing of the data; the first is the main one."""
    names = tuple(kinds)
    return Scores(names[0], lambda data, **qa_options: {name: kind() for name, kind in kinds.items()}, names)


_ACCURACY = _each(accuracy=Accuracy)
_REGRESSION = _each(pearson=Pearson, spearman=Spearman)
_ENTITIES = Scores(
    *("entity_f1", lambda data, **qa_options: {"entity_f1": EntityF1(data.label_names)}),
    ("entity_f1", "precision", "recall"),
)
_ANSWERS = Scores(
    *("f1", lambda data, **qa_options: {"squad": SquadScores(data, **qa_options)}),
    ("exact_match", "f1"),  # those of a part of the questions are there only where the part is
)

# Sources of GLUE's and SuperGLUE's: Wang et al., 2018 and 2019.
_TASKS: dict[str, Scores] = {
    "qa": _ANSWERS,
    "ner": _ENTITIES,
    "srl": _ENTITIES,
    "instruction": Scores("loss", lambda data, **qa_options: {"perplexity": Perplexity()}, ("perplexity",)),
    "regression": _REGRESSION,
}
_DATASETS: dict[tuple[str, str | None], Scores] = {
    ("glue", "cola"): _each(matthews_correlation=MatthewsCorrelation),
    ("glue", "mrpc"): _each(accuracy=Accuracy, f1=F1),
    ("glue", "qqp"): _each(accuracy=Accuracy, f1=F1),
    ("glue", "stsb"): _REGRESSION,
    ("superglue", "cb"): _each(accuracy=Accuracy, f1=partial(F1, average="macro")),
    ("superglue", "multirc"): Scores("f1", lambda data, **qa_options: {"multirc": MultiRC()}, ("f1", "exact_match")),
}


def scores_of(task_name: str, dataset_name: str | None = None) -> Scores:
    """A task's scores: its data set's own, or its own, or accuracy."""
    return _DATASETS.get((task_name, dataset_name)) or _TASKS.get(task_name, _ACCURACY)


def task_metrics(task_name: str, dataset_name: str | None, data: Any, **qa_options: Any) -> dict[str, Metric]:
    """Metrics for `Trainer(metrics=...)` and `Evaluator(metrics=...)`; but for "qa" the main score comes first.

    Args:
        task_name, dataset_name: as `load_task` takes them.
        data: the evaluation set that it returned, whose tags say what is scored; for "qa" the `SquadWindows` that were
            made of it.
        qa_options: "qa"'s n_best_size, max_answer_length and null_threshold; see `SquadScores`.
    """
    return scores_of(task_name, dataset_name).make(data, **qa_options)
