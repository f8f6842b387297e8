"""Every method, a line each; the only place that names them all."""

import dataclasses
from typing import Any

from fastprompt.methods.base import MethodConfig
from fastprompt.methods.baselines import BitFitConfig, FineTuningConfig, LinearProbeConfig, ManualConfig
from fastprompt.methods.checks import one_of
from fastprompt.methods.p_tuning.config import PTuningConfig
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig, ShallowPrefixConfig

# configuration -> the module under fastprompt.methods whose make_prompt makes its prompt; None: it has none
_TABLE: dict[type[MethodConfig], str | None] = {
    PTuningV2Config: "p_tuning_v2.prefix",
    PTuningConfig: "p_tuning.encoder",
    ShallowPrefixConfig: "prompt_tuning.embedding",
    PromptTuningConfig: "prompt_tuning.embedding",
    FineTuningConfig: None,
    LinearProbeConfig: None,
    BitFitConfig: None,
    ManualConfig: None,
}

METHODS: dict[str, type[MethodConfig]] = {kind.method: kind for kind in _TABLE}


def prompt_module(config: MethodConfig) -> str | None:
    """The name of the module that makes the prompt of a method; None where the method has none."""
    name = _TABLE[type(config)]
    return name and f"fastprompt.methods.{name}"


def method_config(method: str, **options: Any) -> MethodConfig:
    """The configuration of `method` with those of `options` that it has.

    Raises:
        ConfigError: there is no such method, or an option's value cannot work.
    """
    one_of("method", method, tuple(METHODS))
    kind = METHODS[method]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in options.items() if name in names})
