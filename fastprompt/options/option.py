"""One option of the command line, and those that a method's configuration brings."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from fastprompt.methods.registry import METHODS


@dataclass(frozen=True)
class Option:
    """What the command line and a YAML file need to know of an option.

    Attributes:
        group: the field of `TrainOptions` that holds it.
        kind: the type of its value; tuple: one or more texts.
        default: its value where it is not given; a method's options have None, for the configuration has theirs.
        tasks: the names of the tasks that it is for; None: all.
        needs: another option and the values of it with which alone this one has an effect; None: any that is given.
        unless: another option, beside which it has no effect.
        free: whether a run's numbers are the same whatever its value is.
        extends: whether a finished run can go on with a larger value.
    """

    name: str
    group: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    needs: tuple[str, tuple[Any, ...] | None] | None = None
    unless: str | None = None
    free: bool = False
    extends: bool = False


def option(default: Any, text: str, **settings: Any) -> Any:
    """A dataclass field that is an option; `settings` are further attributes of `Option`."""
    return dataclasses.field(default=default, metadata={"help": text, **settings})


def kind_of(annotation: Any) -> type:
    """The type of an option's value: that of an annotation without its None and its brackets."""
    first = next((part for part in get_args(annotation) if part is not type(None)), annotation)
    annotation = annotation if get_origin(annotation) in (tuple, dict) else first
    return get_origin(annotation) or annotation


def options_of(group: str, holder: type) -> Iterator[Option]:
    """The options that are fields of the dataclass `holder`."""
    for field in dataclasses.fields(holder):
        if "help" in field.metadata:
            yield Option(field.name, group, kind_of(field.type), field.default, **field.metadata)


def fields_of(method: str) -> dict[str, dataclasses.Field]:
    """The fields of a method's configuration that are options, by their names on the command line."""
    found = (field for field in dataclasses.fields(METHODS[method]) if "help" in field.metadata)
    return {field.metadata.get("option", field.name): field for field in found}


def method_options(group: str) -> Iterator[Option]:
    """Every option that some method's configuration has; the help says whose it is, unless it is everybody's."""
    owners: dict[str, list[str]] = {}
    for method in METHODS:
        for name in fields_of(method):
            owners.setdefault(name, []).append(method)
    for name, methods in owners.items():
        field = fields_of(methods[0])[name]
        whose = "" if len(methods) == len(METHODS) else f" ({', '.join(methods)})"
        choices, kind = field.metadata.get("choices"), kind_of(field.type)
        kind = str if "read" in field.metadata else kind
        yield Option(name, group, kind, None, field.metadata["help"] + whose, choices)


def defaults_of(item: Option) -> dict[str, Any]:
    """The default of an option by method: each method's own that has it, or one under ""."""
    own = {method: fields_of(method) for method in METHODS}
    found = {method: fields[item.name].default for method, fields in own.items() if item.name in fields}
    return found or {"": item.default}


def value_of(field: dataclasses.Field, given: Any) -> Any:
    """What a configuration's field gets from an option's value."""
    read: Callable[[str], Any] | None = field.metadata.get("read")
    return read(given) if read and isinstance(given, str) else given
