"""Several processes of one command on this machine; no framework is imported to start them."""

from typing import Any, TextIO

from fastprompt.errors import ConfigError
from fastprompt.framework import backend
from fastprompt.launch import local
from fastprompt.launch.world import world
from fastprompt.options.parsing import as_arguments
from fastprompt.options.train import TrainOptions


def run_in_several(options: TrainOptions, given: dict[str, Any], results: TextIO) -> int | None:
    """Run `fastprompt train` in as many processes as are asked for; its status, or None where this one does it.

    Args:
        given: the options as they are handed to each.

    Raises:
        ConfigError: a launcher has started another number.
    """
    count, started = options.hardware.num_processes or world().size, world().size
    if options.data.task_name == "lama" and count > 1:
        raise ConfigError("lama trains a prompt for each relation, in one process; leave --num_processes off.")
    if count == started:
        return None
    if started > 1:
        raise ConfigError(f"--num_processes is {count}, and a launcher started {started}; leave it off.")
    return local.run(backend(), count, options.hardware.device, ["train", *as_arguments(given)], results)
