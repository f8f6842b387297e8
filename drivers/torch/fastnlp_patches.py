"""fastNLP 1.0.1 on today's PyTorch; `drivers/compat.py` says when each function runs."""

import functools
import pickle
from types import ModuleType
from typing import Any

from fastprompt.drivers.common.batches import take_mappings
from fastprompt.drivers.common.patching import set_default
from fastprompt.errors import CheckpointError


def no_prefetch_without_workers(module: ModuleType) -> None:
    """Default `prefetch_factor` to None, as torch does.

    fastNLP's default of 2 is refused by torch >= 2.0 where there are no workers; with workers torch makes it 2
    itself. Can go when fastNLP's default is None.
    """
    set_default(module.TorchDataLoader.__init__, "prefetch_factor", None)
    set_default(module.prepare_torch_dataloader, "prefetch_factor", None)


def no_prefetch_in_mix(module: ModuleType) -> None:
    """Send `MixDataLoader` down its branch for torch < 1.7, the one that leaves `prefetch_factor` alone.

    The other one passes 2, as above. Can go when fastNLP no longer does.
    """
    module.torchversion = "1.6"


def change_driver(module: ModuleType) -> None:
    refuse_whole_models(module)
    take_mappings(module.TorchDriver)


def refuse_whole_models(module: ModuleType) -> None:
    """Say in one line why a whole pickled model is not read, and what to do.

    torch >= 2.6 reads tensors only (`weights_only=True`), since a pickled model runs code from the file; fastNLP's
    `only_state_dict=False` fails on that with a page of text. The refusal stays; whoever trusts the file has torch's
    own TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1. Can go when fastNLP says so itself.
    """
    load = module.TorchDriver.load_model

    @functools.wraps(load)
    def load_model(self: Any, filepath: Any, only_state_dict: bool = True, **kwargs: Any) -> None:
        try:
            load(self, filepath, only_state_dict, **kwargs)
        except pickle.UnpicklingError as error:
            if "Unsupported global" not in str(error):  # a cut file, not a refused one
                raise
            raise CheckpointError(
                f"{filepath} holds a whole pickled model, which is not read because that runs code from the file: "
                "save and load with only_state_dict=True."
            ) from error

    module.TorchDriver.load_model = load_model
