"""Every method, a line each; the only place that names them all."""

import dataclasses
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.baselines import BitFitConfig, FineTuningConfig, LinearProbeConfig, ManualConfig
from fastprompt.methods.checks import one_of, plain
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

# PEFT's name of a method, in its configurations, -> ours
OF_PEFT: dict[str, type[MethodConfig]] = {
    "PREFIX_TUNING": PTuningV2Config,
    "P_TUNING": PTuningConfig,
    "PROMPT_TUNING": PromptTuningConfig,
}


def check_config(config: Any) -> None:
    """Raises: ConfigError: `config` is no configuration of a method; the message names the one to take."""
    if isinstance(config, MethodConfig):
        return
    kind = config if isinstance(config, type) else type(config)
    if isinstance(config, type) and issubclass(config, MethodConfig):
        raise ConfigError(f"config is the class {kind.__name__}; give one of it: fp.{kind.__name__}().")
    if isinstance(config, str) and config in METHODS:
        raise ConfigError(f"config is {config!r}; give the method's configuration: fp.{METHODS[config].__name__}().")
    ours = OF_PEFT.get(str(getattr(config, "peft_type", "")).rpartition(".")[2])
    if ours is not None:
        option = "num_virtual_tokens" if hasattr(ours, "num_virtual_tokens") else "pre_seq_len"
        given = f"{option}={plain(getattr(config, 'num_virtual_tokens', None))}"
        raise ConfigError(
            f"config is PEFT's {kind.__name__}; give ours, fp.{ours.__name__}({given}). A prompt that PEFT has saved "
            f"is read by fp.import_prompt."
        )
    known = ", ".join(f"fp.{one.__name__}" for one in METHODS.values())
    raise ConfigError(f"config is of the type {kind.__name__}; it is one of {known}.")


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
