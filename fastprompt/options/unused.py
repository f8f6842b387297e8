"""Options that would be given and not used."""

from typing import Any

from fastprompt.data.tasks import TASKS
from fastprompt.methods.registry import METHODS
from fastprompt.options.groups import ALIASES, OPTIONS
from fastprompt.options.option import Option, fields_of
from fastprompt.saving import prompt_file


def unused(given: dict[str, Any]) -> dict[str, str]:
    """Those of the options that would have no effect, each with the reason.

    Args:
        given: options by their names; None and False ask for nothing.
    """
    return {name: why for name, why in _reasons(given) if why}


def _reasons(given: dict[str, Any]) -> Any:
    model = given.get("model_name_or_path", "")
    saved = prompt_file.read_description(model) if prompt_file.is_prompt(model) else None
    method = given.get("method") or OPTIONS["method"].default
    own = {"method": None, **fields_of(method)} if method in METHODS else {}
    of_methods = {name for name, item in OPTIONS.items() if item.group == "method"} - ALIASES.keys()
    for name, value in given.items():
        if value is None or value is False:
            continue
        item = OPTIONS[name]
        if name in of_methods:
            if saved:
                yield name, f"{model} is a saved prompt, which brings its own method ({saved.config.method})"
            elif own and name not in own:
                yield name, f"{method} has no such option; {_whose(name)}"
            elif own.get(name) is not None and own[name].metadata.get("start") and given.get("init_prompt"):
                yield name, "the prompt of --init_prompt is the start"
            elif own.get(name) is not None:
                yield name, _without_partner(own[name], own, given)
            continue
        yield name, _off_task(item, given, saved) or _without_need(item, given, saved)


def _whose(name: str) -> str:
    owners = [method for method in METHODS if name in fields_of(method)]
    return f"{', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"


def _without_partner(field: Any, own: dict[str, Any], given: dict[str, Any]) -> str | None:
    """Why a field of a configuration has no effect beside the others' values."""
    if "only_with" not in field.metadata:
        return None
    partner, wanted = field.metadata["only_with"]
    name = next(name for name, other in own.items() if other is not None and other.name == partner)
    value = given.get(name)
    value = own[name].default if value is None else value
    return None if value == wanted else f"it goes with {_written(name, wanted)}"


def _off_task(item: Option, given: dict[str, Any], saved: Any) -> str | None:
    """Why an option has no effect in this task; where lines are answered, a saved prompt says what they are."""
    if item.tasks is None:
        return None
    task = given.get("task_name")
    if task:
        return None if task in item.tasks or not _known(task) else f"{task} has no use for it"
    if saved is None or saved.task in item.tasks:
        return None
    return f"{saved.task} has no use for it"


def _known(task: str) -> bool:
    """Others are refused by name where they are looked up."""
    return task == "lama" or task in TASKS


def _without_need(item: Option, given: dict[str, Any], saved: Any) -> str | None:
    if item.unless is not None and given.get(item.unless) is not None:
        return f"--{item.unless} takes its place"
    if item.needs is None:
        return None
    name, values = item.needs
    if name == "do_train":
        return _without_training(given, saved)
    value = given.get(name)
    if saved and OPTIONS[name].group == "method":
        value = getattr(saved.config, fields_of(saved.config.method)[name].name, None)
    if values is None:
        return f"it goes with --{name}" if value is None else None
    if name == "save_strategy" and value is None and given.get("save_steps"):
        value = "steps"
    if (OPTIONS[name].default if value is None else value) not in values:
        return f"it goes with {_written(name, values[0])}"
    return _without_training(given, saved) if item.group == "training" else None


def _without_training(given: dict[str, Any], saved: Any) -> str | None:
    if METHODS[given.get("method") or OPTIONS["method"].default].trains is False:
        return f"{given['method']} trains nothing"
    if saved is None:  # refused where it is opened: it holds nothing to evaluate
        return None
    asked = [one for one in ("do_train", "do_eval", "do_predict") if given.get(one)]
    return None if not asked or "do_train" in asked else "nothing is trained: add --do_train, or leave it off"


def _written(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name} {value}"
