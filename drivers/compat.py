"""What fastNLP 1.0.1 needs to import and run on today's frameworks.

fastNLP is frozen (last commit 2022-12), so the patches live here and in `drivers/<framework>/fastnlp_patches.py`: each
one small, with its reason and the condition under which it can go. An import hook applies a patch right after the
fastNLP module it concerns has run; where fastNLP is loaded already, `apply()` patches the loaded modules in place.

No framework is imported here: patches that need one run only when fastNLP itself has imported it.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fastprompt.drivers.common.accumulation import step_with_every_batch
from fastprompt.errors import BackendError
from fastprompt.framework import BACKENDS, backend, on_choice

_PATCHED = "_fastprompt_patched"  # set on a fastNLP module whose patch is in place


def install_import_hook() -> None:
    """Put the import hook first on `sys.meta_path`; imports no framework, and a second call changes nothing.

    Raises:
        BackendError: fastNLP is loaded already, for another framework than the one chosen.
    """
    if not any(isinstance(finder, _FastNLPFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _FastNLPFinder())
    if named := os.environ.get("FASTNLP_BACKEND"):
        _check_loaded_for(named)
    _patch_loaded()


def apply() -> None:
    """Make fastNLP importable under the framework of this process, or patch it where it is loaded; may be repeated.

    Raises:
        BackendError: fastNLP is loaded already, for another framework than `fastprompt.backend()`.
    """
    install_import_hook()
    _check_loaded_for(backend())
    _prepare(backend())


def _before_framework(name: str) -> None:
    # set_backend after fastNLP: this is the last moment at which the two can be found to differ.
    if os.environ.get("FASTNLP_BACKEND") == name:
        _check_loaded_for(name)
    _prepare(name)


def _prepare(framework: str) -> None:
    importlib.import_module(f"fastprompt.drivers.{framework}.runtime").prepare()


def _check_loaded_for(framework: str) -> None:
    imports = sys.modules.get("fastNLP.envs.imports")
    if imports is not None and framework not in imports.need_import:
        raise BackendError(
            f"fastNLP is already loaded for {', '.join(imports.need_import)}, not {framework}: "
            f"import fastprompt before fastNLP, or set FASTNLP_BACKEND={framework} before the start."
        )


def _patch_loaded() -> None:
    for name in _PATCHES:
        if (module := sys.modules.get(name)) is not None:
            _patch(module)


def _patch(module: ModuleType) -> None:
    framework, patch = _PATCHES[module.__name__]
    if getattr(module, _PATCHED, False) or (framework is not None and not _fastnlp_imports(framework)):
        return
    if isinstance(patch, str):
        patch = getattr(importlib.import_module(f"fastprompt.drivers.{framework}.fastnlp_patches"), patch)
    patch(module)
    setattr(module, _PATCHED, True)


def _fastnlp_imports(framework: str) -> bool:
    return getattr(sys.modules["fastNLP.envs.imports"], f"_NEED_IMPORT_{framework.upper()}")


class _FastNLPFinder(MetaPathFinder):
    """Runs what must come before a framework or fastNLP, and patches fastNLP's modules once they have run.

    Both happen when the module runs, not when it is looked for: `find_spec("fastNLP")` alone decides nothing.
    """

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not (fullname in _BEFORE or fullname in _PATCHES or fullname in _ASK_PKG_RESOURCES):
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    _wrap_exec(spec)
                return spec
        return None


def _wrap_exec(spec: ModuleSpec) -> None:
    run = spec.loader.exec_module

    def exec_module(module: ModuleType) -> None:
        if before := _BEFORE.get(spec.name):
            before()
        with _pkg_resources() if spec.name in _ASK_PKG_RESOURCES else nullcontext():
            run(module)
        if spec.name in _PATCHES:
            _patch(module)

    spec.loader.exec_module = exec_module


# --- before a module runs -------------------------------------------------------------------------------------------

_BEFORE: dict[str, Callable[[], None]] = {
    # jittor fails on import without a few environment variables; the others only follow suit. Stays: it is not about
    # fastNLP's age.
    **{name: functools.partial(_before_framework, name) for name in BACKENDS},
    # With FASTNLP_BACKEND unset fastNLP imports every installed framework and fails at the first broken one; backend()
    # sets it. Can go when fastNLP imports one framework only.
    "fastNLP": apply,
}


# --- while a module runs ----------------------------------------------------------------------------------------------

_ASK_PKG_RESOURCES = (
    "fastNLP.envs.utils",
    "fastNLP.io.pipe.utils",
    "fastNLP.core.dataloaders.torch_dataloader.mix_dataloader",
    "fastNLP.core.drivers.torch_driver.initialize_torch_driver",
)


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """Stand in for setuptools' pkg_resources, which setuptools dropped in version 82 and warned of before, while a
    module imports the three names of it that fastNLP takes. Can go when fastNLP asks importlib.metadata."""
    from importlib import metadata

    from packaging.version import Version

    stand_in: Any = ModuleType("pkg_resources")
    stand_in.parse_version = Version
    stand_in.DistributionNotFound = metadata.PackageNotFoundError
    stand_in.get_distribution = metadata.distribution
    before = sys.modules.get("pkg_resources")
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = before


# --- after a module has run -----------------------------------------------------------------------------------------


def _preserve_environment(module: ModuleType) -> None:
    """Let paddle be imported before fastNLP, and leave the environment alone where there is no GPU.

    fastNLP asserts that paddle is not imported, in order to choose the GPU by CUDA_VISIBLE_DEVICES in time; on one
    device nothing depends on it. It sets CUDA_VISIBLE_DEVICES=0 under paddle, which every child inherits, and
    use_cuda=1 under jittor as soon as CUDA_VISIBLE_DEVICES is set, even to nothing: without a GPU jittor then aborts
    the process. Can go when fastNLP asks the frameworks instead of the environment.
    """
    run = module._set_backend

    @functools.wraps(run)
    def _set_backend() -> None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        before = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "use_cuda")}
        paddle = sys.modules.pop("paddle", None)
        try:
            run()
        finally:
            if paddle is not None:
                sys.modules["paddle"] = paddle
        if visible == "" or module.get_gpu_count() < 1:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    module._set_backend = _set_backend


def _hide_torch_metrics(module: ModuleType) -> None:
    """Under another framework, do not see the torch-only metric libraries: fastNLP imports them, and torch with them.

    Can go when fastNLP looks at its backend before it imports torchmetrics.
    """
    available = module._module_available

    @functools.wraps(available)
    def _module_available(path: str) -> bool:
        return (backend() == "torch" or path not in ("torchmetrics", "allennlp")) and available(path)

    module._module_available = _module_available


def _pass_text_settings(module: ModuleType) -> None:
    """Let a prompt model know how the texts of its training dataloader became tokens, for its prompt file.

    Stays: fastNLP's Trainer shows a model its batches and not its dataloader.
    """
    run = module.Trainer.__init__

    @functools.wraps(run)
    def __init__(self: object, *arguments: object, **options: object) -> None:
        run(self, *arguments, **options)
        settings = getattr(self.train_dataloader, "text_settings", None)
        if settings is not None and hasattr(self.model, "text_settings"):
            self.model.text_settings = settings

    module.Trainer.__init__ = __init__


def _change_trainer(module: ModuleType) -> None:
    step_with_every_batch(module)
    _pass_text_settings(module)


# fastNLP module -> (the framework it is patched for, None for all; what patches it: a function, or the name of one in
# drivers/<framework>/fastnlp_patches.py). Each function says why, and when it can go.
_PATCHES: dict[str, tuple[str | None, str | Callable[[ModuleType], None]]] = {
    "fastNLP.envs.set_backend": (None, _preserve_environment),
    "fastNLP.envs.utils": (None, _hide_torch_metrics),
    "fastNLP.core.dataloaders.torch_dataloader.fdl": ("torch", "no_prefetch_without_workers"),
    "fastNLP.core.dataloaders.torch_dataloader.mix_dataloader": ("torch", "no_prefetch_in_mix"),
    "fastNLP.core.drivers.torch_driver.torch_driver": ("torch", "change_driver"),
    "fastNLP.core.utils.paddle_utils": ("paddle", "provide_fluid"),
    "fastNLP.core.collators.padders.paddle_padder": ("paddle", "pad_without_paddle_in_workers"),
    "fastNLP.core.dataloaders.paddle_dataloader.fdl": ("paddle", "collect_before_workers"),
    "fastNLP.core.drivers.paddle_driver.paddle_driver": ("paddle", "change_driver"),
    "fastNLP.core.metrics.backend.paddle_backend.backend": ("paddle", "gather_on_any_device"),
    "fastNLP.core.metrics.backend.jittor_backend.backend": ("jittor", "gather_elements"),
    "fastNLP.core.controllers.trainer": (None, _change_trainer),
    "fastNLP.core.controllers.evaluator": ("paddle", "feed_paddle_metrics"),
    "fastNLP.core.dataloaders.prepare_dataloader": ("jittor", "return_the_loader"),
    "fastNLP.core.drivers.jittor_driver.utils": ("jittor", "sample_any_dataset"),
    "fastNLP.core.drivers.jittor_driver.jittor_driver": ("jittor", "change_driver"),
}


def _check_choice() -> None:
    if "fastNLP" in sys.modules:
        install_import_hook()


on_choice(_check_choice)
