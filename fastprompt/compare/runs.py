"""`fastprompt compare`: the same training under every framework, method and seed, each in a process of its own."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.commands.request import check_inputs
from fastprompt.errors import ConfigError
from fastprompt.framework import BACKENDS, is_installed
from fastprompt.launch import subprocesses
from fastprompt.options.groups import MethodOptions, ModelOptions
from fastprompt.options.parsing import Given, as_arguments, used_by_each
from fastprompt.options.train import TrainOptions
from fastprompt.saving import prompt_file
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import HISTORY_FILE, METRICS_FILE

PLAN_FILE = "compare.json"  # the options that all runs of a folder share
RUNS = "runs"


@dataclass
class Run:
    """One combination, and what became of it.

    Attributes:
        state: "planned", "finished" or "failed".
        fresh: whether this command ran it, or found it finished.
    """

    backend: str
    method: str
    seed: int
    directory: Path
    given: dict[str, Any]
    state: str = "planned"
    reason: str | None = None
    fresh: bool = False

    @property
    def name(self) -> str:
        return f"{self.backend} {self.method} seed {self.seed}"

    def arguments(self) -> list[str]:
        """What follows `fastprompt` on the command line."""
        own = {"backend": self.backend, "method": self.method, "seed": self.seed, "output_dir": str(self.directory)}
        return ["train", *as_arguments({**own, **self.given})]

    @property
    def command(self) -> str:
        return shlex.join(["fastprompt", *self.arguments()])

    @property
    def metrics(self) -> dict[str, Any] | None:
        path = self.directory / METRICS_FILE
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def history(self) -> list[dict[str, float]]:
        path = self.directory / HISTORY_FILE
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass
class Comparison:
    """What is compared: train's options as they were given, and the lists to go through.

    Attributes:
        model: the backbone.
        given: the options that the runs share.
        options_by_method: those of them that each method uses.

    Raises:
        ConfigError: an option cannot work, or the folder compares something else.
    """

    requested: Given
    output: Path
    backends: list[str] = dataclasses.field(default_factory=lambda: list(BACKENDS))
    methods: list[str] = dataclasses.field(default_factory=list)
    seeds: list[int] = dataclasses.field(default_factory=list)
    overwrite: bool = False

    def __post_init__(self) -> None:
        values = self.requested.values
        self.methods = self.methods or [values.get("method", MethodOptions.method)]
        self.seeds = self.seeds or [values.get("seed", ModelOptions.seed)]
        for name, several in (("backends", self.backends), ("methods", self.methods), ("seeds", self.seeds)):
            if len(set(several)) < len(several):
                raise ConfigError(f"--{name} names {max(several, key=several.count)} twice.")
        self.model = values.get("model_name_or_path", "")
        if prompt_file.is_prompt(self.model):
            raise ConfigError(f"{self.model} is a saved prompt; compare starts from its backbone.")
        shared = self.requested.without("method", "seed", "backend")
        self.given = shared.values
        self.options_by_method = used_by_each(shared, self.methods)
        for method in self.methods:
            check_inputs(TrainOptions(**self.options_by_method[method], method=method))

    def runs(self) -> list[Run]:
        """Every combination; frameworks take turns, so that a machine that slows down slows all of them."""
        return [
            Run(
                backend, method, seed, self.output / RUNS / f"{backend}-{method}-{seed}", self.options_by_method[method]
            )
            for seed in self.seeds
            for method in self.methods
            for backend in self.backends
        ]

    def prepare(self) -> None:
        """Make the folder, or check that it holds this comparison, which then goes on.

        Raises:
            ConfigError: it holds another, or cannot be written.
        """
        plan = self.output / PLAN_FILE
        try:
            if self.overwrite and plan.exists():
                shutil.rmtree(self.output / RUNS, ignore_errors=True)
                plan.unlink()
            self.output.mkdir(parents=True, exist_ok=True)
            if plan.exists():
                self._check_same(json.loads(plan.read_text()), plan)
            elif (self.output / METRICS_FILE).exists():
                raise ConfigError(f"{self.output} holds a training run; choose another --output_dir.")
        except OSError as error:
            raise ConfigError(f"{self.output} cannot be written ({error.strerror}); name another folder.") from error
        write_whole({plan: as_json(self.given)})

    def _check_same(self, before: dict[str, Any], plan: Path) -> None:
        changed = sorted(name for name in before.keys() | self.given if before.get(name) != self.given.get(name))
        if changed:
            name = changed[0]
            raise ConfigError(
                f"{plan.parent} compares runs with {name} {before.get(name, 'not given')}, now it is "
                f"{self.given.get(name, 'not given')}; add --overwrite_output_dir or choose another folder."
            )


def run_all(runs: list[Run], on_line: Callable[[Run, str], None] = lambda run, line: None) -> Iterator[Run]:
    """Run what is not finished, one after the other, and yield each as it ends; one that fails stops no other.

    Args:
        on_line: is given each line that a run prints on standard error.
    """
    for run in runs:
        if run.metrics is not None:
            run.state = "finished"
        elif not is_installed(run.backend):
            run.state, run.reason = "failed", f"not installed: pip install 'fastprompt[{run.backend}]'"
        else:
            on_line(run, "starting")
            arguments = ["-m", "fastprompt.cli", *run.arguments(), "--overwrite_output_dir"]  # a run cut off before
            done = subprocesses.run(run.backend, arguments, lambda line, run=run: on_line(run, line))
            run.fresh = True
            run.state = "failed" if done.returncode else "finished"
            run.reason = done.reason if done.returncode else None
        yield run
