"""Options from arguments and from a YAML file alike; what is given and not used is refused."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.options.groups import ALIASES, GROUPS, OPTIONS
from fastprompt.options.option import Option, defaults_of
from fastprompt.options.train import TrainOptions
from fastprompt.options.unused import unused

import yaml

_RECIPES = Path(__file__).parents[1] / "recipes"
# What most runs give; --help shows them first in their groups.
_COMMON = (
    *("model_name_or_path", "task_name", "dataset_name", "data_dir", "text_columns", "max_seq_length"),
    *("method", "pre_seq_len", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("evaluation_strategy", "load_best_model_at_end", "backend", "device", "num_processes", "output_dir"),
)


def add_arguments(parser: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    """Give `parser` the options, or those in `names`; an option not given leaves no trace in the result."""
    parser.usage = "%(prog)s --model_name_or_path MODEL [--OPTION VALUE ...]"
    groups = {name: parser.add_argument_group(f"{name} options") for name in GROUPS}
    for item in sorted(OPTIONS.values(), key=lambda item: item.name not in _COMMON):
        if names is not None and item.name not in names:
            continue
        settings: dict[str, Any] = {"help": _help_of(item), "default": argparse.SUPPRESS}
        if item.kind is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["type"] = str if item.kind is tuple else item.kind
            settings["nargs"] = "+" if item.kind is tuple else None
            settings["choices"] = item.choices
            settings["metavar"] = None if settings["choices"] else settings["type"].__name__.upper()
        groups[item.group].add_argument(f"--{item.name}", **settings)
    parser.add_argument("--config", metavar="FILE", help="YAML file of the same options; the command line wins")
    if names is None:
        known = ", ".join(recipes())
        parser.add_argument("--recipe", metavar="NAME", help=f"options of a published run, below --config's: {known}")


def _help_of(item: Option) -> str:
    """An option's help, with its default where that is a value and the text does not say it."""
    if "default: " in item.help:
        return item.help
    defaults = defaults_of(item)
    shown = dict.fromkeys(str(value) for value in defaults.values() if value not in (None, "", False))
    if len(shown) < 2:
        return item.help + "".join(f"; default: {value}" for value in shown)
    return f"{item.help}; default: {', '.join(f'{value} ({method})' for method, value in defaults.items())}"


@dataclass(frozen=True)
class Given:
    """Options by their names, from the command line, --config's file and --recipe's, the former before the latter.

    Attributes:
        explicit: the names of those that do not come from a recipe, which has more than one command may want.
    """

    values: dict[str, Any]
    explicit: frozenset[str]

    def without(self, *names: str) -> "Given":
        return Given({name: value for name, value in self.values.items() if name not in names}, self.explicit)

    def used(self) -> dict[str, Any]:
        """The options without those of a recipe that have no effect here; a line says which.

        Raises:
            ConfigError: one that was asked for has none.
        """
        idle = unused(self.values)
        for name, why in idle.items():
            if name in self.explicit:
                raise ConfigError(f"--{name} would change nothing: {why}; leave it off.")
            _note_left_out(name, why)
        return {name: value for name, value in self.values.items() if name not in idle}


def used_by_each(given: Given, methods: list[str]) -> dict[str, dict[str, Any]]:
    """For each of several methods the options that have an effect there; a line says what one of them is run without.

    Raises:
        ConfigError: an option that was asked for has no effect with any of them.
    """
    idle = {method: unused({**given.values, "method": method}) for method in methods}
    for name in given.values:
        reasons = {method: found[name] for method, found in idle.items() if name in found}
        if len(reasons) == len(methods) and name in given.explicit:
            raise ConfigError(f"--{name} would change nothing: {next(iter(reasons.values()))}; leave it off.")
        for method, why in reasons.items():
            _note_left_out(name, f"{method}: {why}" if method not in why else why)
    return {method: {n: v for n, v in given.values.items() if n not in idle[method]} for method in methods}


def _note_left_out(name: str, why: str) -> None:
    print(f"note: --{name} is left out: {why}.", file=sys.stderr)


def gather(arguments: dict[str, Any], names: list[str] | None = None) -> TrainOptions:
    """Options from parsed arguments, over those of the file that --config names.

    Args:
        names: the options that the command takes; None: all.

    Raises:
        ConfigError: the file cannot be read or has an unknown option, a value cannot work, or an option would have no
            effect.
    """
    return TrainOptions(**read_given(arguments, names).used())


def read_given(arguments: dict[str, Any], names: list[str] | None = None) -> Given:
    """The options that are given: the arguments, and those that --config's file and --recipe's add.

    Raises:
        ConfigError: there is no such recipe, the file cannot be read or has an unknown option, or two name the method.
    """
    arguments = dict(arguments)
    path, recipe = arguments.pop("config", None), arguments.pop("recipe", None)
    if recipe is not None and recipe not in recipes():
        raise ConfigError(f"There is no recipe {recipe!r}; there are {', '.join(recipes())}.")
    below = {} if recipe is None else _read_yaml(_RECIPES / f"{recipe}.yaml", None)
    file = _named(_read_yaml(Path(path), names)) if path else {}
    arguments = _named(arguments)
    return Given({**below, **file, **arguments}, frozenset(file) | frozenset(arguments))


def _named(given: dict[str, Any]) -> dict[str, Any]:
    """The options with --method in place of the other words for it.

    Raises:
        ConfigError: they name two methods.
    """
    named = [name for name in ALIASES if given.get(name)]
    rest = {name: value for name, value in given.items() if name not in ALIASES}
    if not named:
        return rest
    if len(named) > 1:
        raise ConfigError("--prefix and --prompt name two methods; give one.")
    method = ALIASES[named[0]]
    if rest.get("method") not in (None, method):
        raise ConfigError(f"--{named[0]} means --method {method}, and --method is {rest['method']}; give one.")
    return {**rest, "method": method}


def recipes() -> list[str]:
    """The names that --recipe takes."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def as_arguments(given: dict[str, Any]) -> list[str]:
    """The command line that gives these options."""
    words: list[str] = []
    for name, value in given.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def _read_yaml(path: Path, names: list[str] | None) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no options; one `name: value` a line is expected.")
    for name, value in content.items():
        if name not in OPTIONS:
            raise ConfigError(f"{path}: there is no option {name!r}.")
        if names is not None and name not in names:
            raise ConfigError(f"{path}: this command has no option {name!r}; leave it out.")
        content[name] = convert(path, OPTIONS[name], value)
    return content


def convert(where: Path | str, item: Option, value: Any) -> Any:
    """A value as its option's type: 1e-2 is text to YAML, 1 may stand for 1.0.

    Args:
        where: what brings it, as a message begins.

    Raises:
        ConfigError: it is of another type, or none of the option's choices.
    """
    kind = item.kind
    if kind is tuple:
        value = value.split() if isinstance(value, str) else list(value or ()) or None
    if value is None or kind is tuple or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        result = value
    else:
        try:
            result = kind(value) if kind is not bool and not isinstance(value, bool) else None
        except (TypeError, ValueError):
            result = None
        if result is None or (kind is int and result != float(value)):
            raise ConfigError(f"{where}: {item.name} is {value!r}; it must be of type {kind.__name__}.")
    if item.choices and result is not None and result not in item.choices:
        raise ConfigError(f"{where}: {item.name} is {value!r}; it is one of {', '.join(item.choices)}.")
    return result
