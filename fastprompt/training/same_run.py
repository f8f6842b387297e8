"""Whether a request is a run's own: what the run's numbers depend on, compared name by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fastprompt.data.tasks import TaskData
from fastprompt.errors import ConfigError
from fastprompt.launch.world import world
from fastprompt.options.groups import OPTIONS
from fastprompt.options.train import TrainOptions
from fastprompt.saving.prompt_file import TENSOR_FILE

# What a training's numbers do not depend on, but what is written of a finished run does.
_OUTCOME = ("do_eval", "do_predict", "n_best_size", "max_answer_length", "null_score_diff_threshold", "max_new_tokens")


def request_of(options: TrainOptions, data: TaskData) -> dict[str, Any]:
    """What the numbers of a training on `data` depend on, flat: options, examples, and the prompt it starts from."""
    found = options.numbers()
    batch = found.pop("per_device_train_batch_size") * world().size  # however many processes share it
    start = options.model.model_name_or_path if options.model.is_prompt else options.model.init_prompt
    if start is not None:
        start = hashlib.sha256((Path(start).expanduser() / TENSOR_FILE).read_bytes()).hexdigest()[:16]
    return {
        **{name: _plain(value) for name, value in found.items()},
        "per_device_train_batch_size times processes": batch,
        "initial_prompt": start,
        "train_samples": len(data),
        "train_fingerprint": data.fingerprint,
    }


def outcome_of(options: TrainOptions) -> dict[str, Any]:
    """What else the metrics of a finished run depend on."""
    flat = options.flat()
    return {name: flat[name] for name in _OUTCOME}


def _plain(value: Any) -> Any:
    """A value as metrics.json, which is flat, has it."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def check_same(before: dict[str, Any], now: dict[str, Any], where: str) -> str | None:
    """None where the request `now` is that of `before`; where it wants more of the same, a line that says so.

    Names that one of them lacks, for it was written by another version, are not compared.

    Args:
        where: the run of `before`, as a message begins.

    Raises:
        ConfigError: it is another request; the first name that differs is given.
    """
    line = None
    for name, new in now.items():
        old = before.get(name)
        if name not in before or old == new or (old is None and _was_left_open(name, before)):
            continue
        extended = name in OPTIONS and OPTIONS[name].extends and None not in (old, new) and new > old
        if not extended:
            raise ConfigError(
                f"{where} with {name} {old}, now it is {new}; give the same options and data, or leave "
                f"--resume_from_checkpoint off and choose another folder."
            )
        line = (
            f"{where} with {name} {old}, now it is {new}: the training goes on with the schedule of the new total, "
            f"and is not what it would have been from the start"
        )
    return line


def _was_left_open(name: str, before: dict[str, Any]) -> bool:
    """Whether an earlier version wrote a method's option as it was given, and not what it came to."""
    return "train_fingerprint" not in before and name in OPTIONS and OPTIONS[name].group == "method"
