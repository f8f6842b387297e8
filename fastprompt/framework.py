"""Which framework this process runs on, and the one door to it.

One process, one framework, chosen once: by `set_backend`, by the environment variable FASTNLP_BACKEND (fastNLP's
own), by the only framework the script has imported so far, or else the first installed of torch, paddle, jittor.

`from fastprompt.framework import nn, ops` hands out the chosen driver's modules; this is the first moment at which
a framework is imported.
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from fastprompt.errors import BackendError

BACKENDS = ("torch", "paddle", "jittor")
DRIVER_MODULES = ("nn", "ops", "optim", "driver", "runtime", "loader", "collective")

_chosen: str | None = None


def _known(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise BackendError(f"{where} names the framework {name!r}; choose one of {', '.join(BACKENDS)}.")
    return name


def _resolve() -> str:
    if named := os.environ.get("FASTNLP_BACKEND"):
        return _known(named, "FASTNLP_BACKEND")
    # transformers and jittor import torch by themselves, so torch beside them says nothing about what the script wants.
    not_counted = "torch" if {"transformers", "jittor"} & set(sys.modules) else None
    imported = [name for name in BACKENDS if name in sys.modules and name != not_counted]
    if len(imported) == 1:
        return imported[0]
    for name in BACKENDS:
        if is_installed(name):
            return name
    raise BackendError("No framework is installed: pip install 'fastprompt[torch]' (or [paddle], [jittor], [all]).")


def is_installed(name: str) -> bool:
    """Whether `name` can be imported, found out without importing it."""
    return name in sys.modules or importlib.util.find_spec(name) is not None


def set_backend(name: str) -> None:
    """Choose the framework of this process: "torch", "paddle" or "jittor".

    Raises:
        BackendError: the name is unknown, the framework is not installed, or another one is in use already.
    """
    global _chosen
    _known(name, "set_backend")
    if _chosen not in (None, name):
        raise BackendError(
            f"This process already runs on {_chosen}; {name!r} needs a process of its own "
            f"(call set_backend first, or set FASTNLP_BACKEND={name} before the start)."
        )
    if not is_installed(name):
        raise BackendError(f"{name} is not installed: pip install 'fastprompt[{name}]'.")
    os.environ["FASTNLP_BACKEND"] = name  # fastNLP reads it when it is imported
    if "fastNLP" in sys.modules:
        importlib.import_module("fastprompt.drivers.compat").install_import_hook()  # refuses one loaded for another
    _chosen = name


def backend() -> str:
    """The framework of this process; the first call decides it."""
    if _chosen is None:
        set_backend(_resolve())
    return _chosen


def __getattr__(name: str) -> ModuleType:
    if name not in DRIVER_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    chosen = backend()
    importlib.import_module(f"fastprompt.drivers.{chosen}.runtime").prepare()
    return importlib.import_module(f"fastprompt.drivers.{chosen}.{name}")
