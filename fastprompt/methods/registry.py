"""Every method by its name."""

import dataclasses
from typing import Any

from fastprompt.methods.base import MethodConfig
from fastprompt.methods.baselines import BitFitConfig, FineTuningConfig, LinearProbeConfig, ManualConfig
from fastprompt.methods.checks import one_of
from fastprompt.methods.p_tuning.config import PTuningConfig
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig, ShallowPrefixConfig

METHODS: dict[str, type[MethodConfig]] = {
    kind.method: kind
    for kind in (
        PTuningV2Config,
        PTuningConfig,
        ShallowPrefixConfig,
        PromptTuningConfig,
        FineTuningConfig,
        LinearProbeConfig,
        BitFitConfig,
        ManualConfig,
    )
}


def method_config(method: str, **options: Any) -> MethodConfig:
    """The configuration of `method` with those of `options` that it has.

    Raises:
        ConfigError: there is no such method, or an option's value cannot work.
    """
    one_of("method", method, tuple(METHODS))
    kind = METHODS[method]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in options.items() if name in names})
