"""fastNLP drivers for Jittor: of one process, and of one among several."""

from typing import Any

from fastprompt.drivers.common.checkpoint_files import CheckpointFiles
from fastprompt.drivers.common.distributed import Distributed
from fastprompt.drivers.jittor import collective
from fastprompt.drivers.jittor.runtime import check_device
from fastprompt.errors import BackendError
from fastprompt.framework import require
from fastprompt.launch.world import world

import jittor
from fastNLP.core.drivers.jittor_driver import JittorSingleDriver


class Driver(CheckpointFiles, JittorSingleDriver):
    """fastNLP's driver, with checkpoints in fastprompt's form."""

    loaders = "fastprompt.make_dataloader"  # fastNLP's own loader takes no sampler here


class _ProcessDriver(Distributed, Driver):
    """The same of one process among those that mpirun started."""

    def spread(self, dataloader: Any, dist: Any = None, reproducible: bool = False) -> Any:
        """fastNLP divides no loader of jittor's.

        Raises:
            BackendError: it would have to.
        """
        if isinstance(dist, str):
            raise BackendError(
                "Several processes under jittor share the loaders of fastprompt.make_dataloader; make this one with it."
            )
        return Driver.set_dist_repro_dataloader(self, dataloader, dist, reproducible)


def get_driver(model: jittor.nn.Module, device: str = "cpu", fsdp: bool = False, fp16: bool = False) -> Driver:
    """A fastNLP driver that runs `model` on `device` ("cpu"; "gpu" or "cuda").

    Raises:
        BackendError: jittor cannot use that device here, several processes do not find each other, or fsdp or fp16 is
            asked for.
    """
    for capability, asked in (("fsdp", fsdp), ("fp16", fp16)):
        if asked:
            require(capability)
    check_device(device)
    if world().size == 1:
        return Driver(model, device=device)
    collective.join(device)
    return _ProcessDriver(model, device)
