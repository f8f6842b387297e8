"""`fastprompt search`: trainings over a grid of options, or over settings drawn from it, chosen by training data set
apart.

Every setting is trained with every seed, each in a process of its own, and scored on a share of the training examples
that it is not trained on. The split that `train` reports is never read.
"""

import hashlib
import itertools
import json
import shutil
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastprompt.commands.request import check_inputs
from fastprompt.compare.runs import RUNS, Run
from fastprompt.data.tasks import load_task
from fastprompt.errors import ConfigError
from fastprompt.metrics.tasks import scores_of
from fastprompt.options.groups import OPTIONS, MethodOptions
from fastprompt.options.parsing import Given, convert
from fastprompt.options.train import TrainOptions
from fastprompt.saving import prompt_file
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import EVALUATIONS_FILE, METRICS_FILE

import numpy
import yaml

PLAN_FILE = "search.json"  # what the runs of a folder share
BEST_FILE = "best.yaml"  # the best setting, for --config
_SHARE, _MOST = 0.2, 2000  # of the training examples that are set apart
_RANGE = ".."
_NOT_GIVEN = "default"  # the value of an option that a setting leaves off
# What search decides itself, and what belongs to one run.
_OWN = (
    *("do_train", "do_eval", "do_predict", "evaluation_strategy", "eval_steps", "load_best_model_at_end"),
    *("save_strategy", "save_steps", "save_total_limit", "resume_from_checkpoint"),
)
_CHOICE = ("selection_samples", "metric_for_best_model")
_FOLDER = ("output_dir", "overwrite_output_dir")
# What has one value for all settings: what is trained on and chosen by, and where.
_NOT_SEARCHED = (
    *(*_OWN, *_CHOICE, *_FOLDER, "seed", "backend", "prefix", "prompt", "task_name", "dataset_name", "data_dir"),
    *("text_columns", "label_column", "tag_column", "chat_template", "relations", "max_train_samples"),
)


@dataclass
class Trial(Run):
    """A run of one setting with one seed."""

    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{describe(self.setting)}, seed {self.seed}"

    def score(self, metric: str) -> float:
        """The score of the last epoch on the examples set apart."""
        last = (self.directory / EVALUATIONS_FILE).read_text(encoding="utf-8").splitlines()[-1]
        return json.loads(last)[metric]


def describe(setting: dict[str, Any]) -> str:
    shown = {name: " ".join(value) if isinstance(value, tuple) else value for name, value in setting.items()}
    return ", ".join(f"{name} {_NOT_GIVEN if value is None else value}" for name, value in shown.items())


@dataclass
class Search:
    """What is searched: train's options as they were given, and the values to try for some of them.

    Attributes:
        over: the values of each option that is searched, as texts; LOW..HIGH is a range, from which values are drawn.
        trials: draw so many settings instead of trying all.
        metric: the score that chooses; a smaller "loss" is better, of all others a larger one.
        apart: how many training examples are set apart.

    Raises:
        ConfigError: an option or a value cannot work.
        DataError: the training data cannot be read.
    """

    requested: Given
    output: Path
    backend: str
    over: dict[str, list[str]]
    seeds: list[int]
    trials: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        given = self.requested.values
        if own := next((name for name in _OWN if name in given), None):
            raise ConfigError(f"search trains, and scores training examples set apart by itself; leave --{own} off.")
        for name in self.over:
            if name not in OPTIONS or name in _NOT_SEARCHED:
                raise ConfigError(f"--over {name}: there is no such option of a training that can be searched.")
            if name in given:
                raise ConfigError(f"--{name} is given and searched; leave one off.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds names {max(self.seeds, key=self.seeds.count)} twice.")
        if given.get("task_name") == "lama":
            raise ConfigError("lama chooses by its own development facts; search is for the other tasks.")
        self.settings = self._drawn() if self.trials else self._grid()
        if prompt_file.is_prompt(given.get("model_name_or_path", "")):
            raise ConfigError(f"{given['model_name_or_path']} is a saved prompt; search starts from its backbone.")
        shared = self.requested.without("seed", "backend", *_CHOICE, *_FOLDER)
        self.given = shared.values
        self.options = [self._options(shared, setting) for setting in self.settings]
        scores = scores_of(given.get("task_name", ""), given.get("dataset_name"))
        self.metric = given.get("metric_for_best_model") or scores.main
        scores.check_name(self.metric)
        self.apart = self._apart(given.get("selection_samples"))

    def _grid(self) -> list[dict[str, Any]]:
        for name, words in self.over.items():
            if ranged := next((word for word in words if _RANGE in word), None):
                raise ConfigError(f"--over {name} {ranged} is a range, from which --trials N draws; name the values.")
        values = [[_value(name, word) for word in words] for name, words in self.over.items()]
        return [dict(zip(self.over, chosen, strict=True)) for chosen in itertools.product(*values)]

    def _drawn(self) -> list[dict[str, Any]]:
        """Settings drawn with --seed, no two alike."""
        generator = numpy.random.default_rng(self.requested.values.get("seed", OPTIONS["seed"].default))
        found: dict[str, dict[str, Any]] = {}
        for _ in range(100 * self.trials):
            setting = {name: _draw(name, words, generator) for name, words in self.over.items()}
            found.setdefault(describe(setting), setting)
            if len(found) == self.trials:
                break
        return list(found.values())

    def _options(self, shared: Given, setting: dict[str, Any]) -> dict[str, Any]:
        """train's options of a setting."""
        chosen = {name: value for name, value in setting.items() if value is not None}
        try:
            options = Given({**shared.values, **chosen}, shared.explicit | frozenset(chosen)).used()
            check_inputs(TrainOptions(**options))
        except ConfigError as error:
            raise ConfigError(f"{describe(setting)}: {error}") from error
        return options

    def _apart(self, asked: int | None) -> int:
        """How many training examples choose: those asked for, or a share."""
        data = TrainOptions(**self.options[0]).data
        names = ("task_name", "dataset_name", "data_dir")
        columns = data.text_columns.split(",") if data.text_columns else None
        more = {"label_column": data.label_column, "tag_column": data.tag_column, "chat_template": data.chat_template}
        found = load_task(*(getattr(data, name) for name in names), "train", text_columns=columns, **more)
        count = len(found.head(data.max_train_samples))
        apart = asked or min(_MOST, round(_SHARE * count))
        if not 0 < apart < count:
            raise ConfigError(f"{apart} of {count} training examples cannot be set apart; give --selection_samples.")
        return apart

    def runs(self) -> list[Trial]:
        """Every setting with every seed; all settings with the first seed come first."""
        own = {
            **{"do_train": True, "evaluation_strategy": "epoch", "load_best_model_at_end": True},
            **{"selection_samples": self.apart, "metric_for_best_model": self.metric},
        }
        return [
            Trial(
                *(self.backend, options.get("method", MethodOptions.method), seed),
                self.output / RUNS / f"{self.backend}-{_short_name(setting)}-{seed}",
                {**{name: value for name, value in options.items() if name != "method"}, **own},
                setting=setting,
            )
            for seed in self.seeds
            for setting, options in zip(self.settings, self.options, strict=True)
        ]

    def prepare(self) -> None:
        """Make the folder, or check that it holds a search with the same options, which then goes on; it may have had
        other settings and seeds.

        Raises:
            ConfigError: it holds another, or cannot be written.
        """
        plan, now = self.output / PLAN_FILE, {**self.given, "selection_samples": self.apart, "metric": self.metric}
        now = json.loads(json.dumps(now))
        try:
            if self.overwrite and plan.exists():
                shutil.rmtree(self.output / RUNS, ignore_errors=True)
                plan.unlink()
            self.output.mkdir(parents=True, exist_ok=True)
            if plan.exists():
                _check_same(json.loads(plan.read_text()), now, self.output)
            elif (self.output / METRICS_FILE).exists():
                raise ConfigError(f"{self.output} holds a training run; choose another --output_dir.")
        except OSError as error:
            raise ConfigError(f"{self.output} cannot be written ({error.strerror}); name another folder.") from error
        write_whole({plan: as_json(now)})

    def results(self, runs: list[Trial]) -> list[dict[str, Any]]:
        """What became of each setting, the best first; one with a failed run comes last and has no mean."""
        rows = []
        for setting in self.settings:
            own = [run for run in runs if run.setting == setting]
            scores = {run.seed: run.score(self.metric) for run in own if run.state == "finished"}
            whole = len(scores) == len(own)
            rows.append(
                {
                    "setting": setting,
                    "scores": scores,
                    "mean": statistics.fmean(scores.values()) if whole else None,
                    "deviation": statistics.stdev(scores.values()) if whole and len(scores) > 1 else None,
                    "seconds": sum(run.metrics["train_seconds"] for run in own if run.metrics),
                    "reason": next((run.reason for run in own if run.state == "failed"), None),
                }
            )
        sign = 1 if self.metric == "loss" else -1
        return sorted(rows, key=lambda row: (row["mean"] is None, sign * (row["mean"] or 0.0)))

    def write_best(self, setting: dict[str, Any]) -> Path:
        """Write the options of a training with `setting` as a file for --config."""
        options = self.options[self.settings.index(setting)]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
        path = self.output / BEST_FILE
        write_whole({path: yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).encode()})
        return path


def _check_same(before: dict[str, Any], now: dict[str, Any], output: Path) -> None:
    changed = sorted(name for name in before.keys() | now if before.get(name) != now.get(name))
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{output} holds a search with {name} {before.get(name, 'not given')}, now it is "
            f"{now.get(name, 'not given')}; add --overwrite_output_dir or choose another folder."
        )


def _short_name(setting: dict[str, Any]) -> str:
    """A setting's name in the folders of its runs, whatever else is tried beside it."""
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:12]


def _value(name: str, word: str) -> Any:
    """The value of an option that `word` stands for; of several words, with commas between."""
    if word == _NOT_GIVEN:
        return None
    item = OPTIONS[name]
    if item.kind is tuple:
        return tuple(word.split(","))
    if item.kind is bool:
        if word not in ("true", "false"):
            raise ConfigError(f"--over {name} is {word!r}; it is true or false.")
        return word == "true"
    return convert("--over", item, word)


def _draw(name: str, words: list[str], generator: numpy.random.Generator) -> Any:
    """One of the values, each as likely; of a range a number in it, of fractions evenly over their logarithm."""
    word = words[int(generator.integers(len(words)))]
    if _RANGE not in word:
        return _value(name, word)
    low, high = (_value(name, end) for end in word.split(_RANGE, 1))
    if not isinstance(low, int | float) or not isinstance(high, int | float) or isinstance(low, bool) or low >= high:
        raise ConfigError(f"--over {name} {word} is no range of numbers, LOW{_RANGE}HIGH.")
    if OPTIONS[name].kind is int:
        return int(generator.integers(low, high + 1))
    if low <= 0:
        return float(f"{generator.uniform(low, high):.3g}")
    return float(f"{numpy.exp(generator.uniform(numpy.log(low), numpy.log(high))):.3g}")
