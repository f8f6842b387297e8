"""Which framework this process runs on, what each can do, and the one entry point to a driver's modules.

One process, one framework, chosen once: by `set_backend`, by the environment variable FASTNLP_BACKEND (fastNLP's
own), by the only framework the script has imported so far, or else the first installed of torch, paddle, jittor.

`from fastprompt.framework import nn, ops` hands out the chosen driver's modules; this is the first moment at which
a framework is imported. What a driver can do is declared in its module `declaration`, which imports no framework.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TextIO

from fastprompt.errors import BackendError

BACKENDS = ("torch", "paddle", "jittor")
DRIVER_MODULES = ("nn", "ops", "optim", "driver", "runtime", "loader", "collective")  # every driver has them
# What only some drivers have; those that are modules of theirs are handed out by `driver_module`.
CAPABILITIES = ("bf16", "fp16", "fsdp", "quantization", "stock", "export")


@dataclass(frozen=True)
class Launcher:
    """What starts several processes of a framework.

    Attributes:
        command: the framework's own launcher, for several machines.
        rank, size, local_rank: the environment variables that it sets for each process: its number, the number of
            processes, its number on its machine.
        meeting: further ones, by which the processes find each other.
        commands: `commands(count, device, arguments)` gives what starts `python ARGUMENTS` in `count` processes of this
            machine: command lines, each with its environment.
        run: `run(count, arguments, results)` runs it to its end, where that is not one process for each command; as
            `fastprompt.launch.local.run`.
    """

    command: str
    rank: str
    size: str
    local_rank: str
    meeting: tuple[str, ...]
    commands: Callable[[int, str | None, Sequence[str]], list[tuple[list[str], dict[str, str]]]]
    run: Callable[[int, Sequence[str], TextIO], int] | None = None


@dataclass(frozen=True)
class LineStyle:
    """How a framework is drawn in every figure.

    Attributes:
        light, dark: its colours on a light and on a dark ground; text of it has a contrast of 4.5 or more there.
        dashes: on and off, in line widths; () is a solid line.
        width: in CSS pixels.
    """

    light: str
    dark: str
    dashes: tuple[float, ...]
    width: float


@dataclass(frozen=True)
class Declaration:
    """What a driver declares about itself, before its framework is imported.

    Attributes:
        packages: the distributions that it stands on, for `fastprompt doctor`.
        capabilities: those of CAPABILITIES that it has.
    """

    packages: tuple[str, ...]
    capabilities: frozenset[str]
    launcher: Launcher
    line_style: LineStyle


_chosen: str | None = None
_on_choice: list[Callable[[], None]] = []


def on_choice(check: Callable[[], None]) -> None:
    """Have `check` called when a framework is chosen, with FASTNLP_BACKEND set; it raises where that is too late."""
    _on_choice.append(check)


def _check_name(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise BackendError(f"{where} names the framework {name!r}; choose one of {', '.join(BACKENDS)}.")
    return name


def _resolve() -> str:
    if named := os.environ.get("FASTNLP_BACKEND"):
        return _check_name(named, "FASTNLP_BACKEND")
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
    _check_name(name, "set_backend")
    if _chosen not in (None, name):
        raise BackendError(
            f"This process already runs on {_chosen}; {name!r} needs a process of its own "
            f"(call set_backend first, or set FASTNLP_BACKEND={name} before the start)."
        )
    if not is_installed(name):
        raise BackendError(f"{name} is not installed: pip install 'fastprompt[{name}]'.")
    os.environ["FASTNLP_BACKEND"] = name  # fastNLP reads it when it is imported
    for check in _on_choice:
        check()
    _chosen = name


def backend() -> str:
    """The framework of this process; the first call decides it."""
    if _chosen is None:
        set_backend(_resolve())
    return _chosen


def declaration(framework: str | None = None) -> Declaration:
    """What a framework's driver declares about itself; by default the chosen framework's. Imports no framework."""
    return importlib.import_module(f"fastprompt.drivers.{framework or backend()}.declaration").DECLARATION


def frameworks_with(capability: str) -> list[str]:
    """The frameworks, installed or not, whose drivers have a capability."""
    return [name for name in BACKENDS if capability in declaration(name).capabilities]


def has(capability: str) -> bool:
    """Whether the chosen framework's driver has a capability."""
    return capability in declaration().capabilities


def require(capability: str, option: str | None = None) -> None:
    """Raises: BackendError: the chosen framework's driver lacks a capability, which an option asks for by its name."""
    if not has(capability):
        frameworks = " and ".join(frameworks_with(capability))
        raise BackendError(f"{option or capability} runs on {frameworks}; leave it off, or use that framework.")


def driver_module(name: str) -> ModuleType:
    """A module of the chosen framework's driver; imports the framework.

    Raises:
        BackendError: it is a capability that this driver lacks.
    """
    framework = backend()
    if name in CAPABILITIES and not has(name):
        raise BackendError(f"{name} runs on {' and '.join(frameworks_with(name))}, not on {framework}.")
    importlib.import_module(f"fastprompt.drivers.{framework}.runtime").prepare()
    return importlib.import_module(f"fastprompt.drivers.{framework}.{name}")


def __getattr__(name: str) -> ModuleType:
    if name not in DRIVER_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return driver_module(name)
