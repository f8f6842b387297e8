"""The command line's options: one dataclass, read from arguments and from a YAML file alike."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.options.train import TrainOptions

import yaml

_RECIPES = Path(__file__).parents[1] / "recipes"


def add_arguments(parser: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    """Give `parser` the options, or those in `names`; an option not given leaves no trace in the result."""
    for item in dataclasses.fields(TrainOptions):
        if names is not None and item.name not in names:
            continue
        kind = _kind(item)
        settings: dict[str, Any] = {"help": item.metadata["help"], "default": argparse.SUPPRESS}
        if kind is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["type"] = str if item.metadata.get("many") else kind
            settings["nargs"] = "+" if item.metadata.get("many") else None
            settings["choices"] = item.metadata.get("choices")
            settings["metavar"] = None if settings["choices"] else settings["type"].__name__.upper()
        parser.add_argument(f"--{item.name}", **settings)
    parser.add_argument("--config", metavar="FILE", help="YAML file of the same options; the command line wins")
    if names is None:
        known = ", ".join(recipes())
        parser.add_argument("--recipe", metavar="NAME", help=f"options of a published run, below --config's: {known}")


def _kind(item: dataclasses.Field) -> type:
    return item.type if isinstance(item.type, type) else item.type.__args__[0]


def gather(arguments: dict[str, Any]) -> TrainOptions:
    """Options from parsed arguments, over those of the file that --config names.

    Raises:
        ConfigError: the file cannot be read or has an unknown option, or a value cannot work.
    """
    return TrainOptions(**over_file(arguments))


def over_file(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options that are given: the arguments, and those that --config's file and --recipe's add.

    Raises:
        ConfigError: there is no such recipe, or the file cannot be read or has an unknown option.
    """
    path, recipe = arguments.pop("config", None), arguments.pop("recipe", None)
    if recipe is not None and recipe not in recipes():
        raise ConfigError(f"There is no recipe {recipe!r}; there are {', '.join(recipes())}.")
    below = {} if recipe is None else _read_yaml(_RECIPES / f"{recipe}.yaml")
    return {**below, **(_read_yaml(Path(path)) if path else {}), **arguments}


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


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no options; one `name: value` a line is wanted.")
    kinds = {item.name: item for item in dataclasses.fields(TrainOptions)}
    for name, value in content.items():
        if name not in kinds:
            raise ConfigError(f"{path}: there is no option {name!r}.")
        content[name] = _converted(path, kinds[name], value)
    return content


def _converted(path: Path, item: dataclasses.Field, value: Any) -> Any:
    """A YAML value as its option's type: 1e-2 is text to YAML, 1 may stand for 1.0."""
    kind = _kind(item)
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
            raise ConfigError(f"{path}: {item.name} is {value!r}; it wants {kind.__name__}.")
    choices = item.metadata.get("choices")
    if choices and result is not None and result not in choices:
        raise ConfigError(f"{path}: {item.name} is {value!r}; it is one of {', '.join(choices)}.")
    return result
