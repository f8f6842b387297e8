"""What a task asks of a backbone and of a method, refused by name where they do not go together."""

import dataclasses
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.models.protocol import Task
from fastprompt.pretrained.checkpoint import Checkpoint


def resolve_config(kind: type[Task], config: MethodConfig, checkpoint: Checkpoint) -> MethodConfig:
    """`config` for a task, with what it leaves to the checkpoint filled in.

    Raises:
        ConfigError: task, method and checkpoint do not go together.
    """
    _check_direction(kind, checkpoint)
    config = config.for_backbone(checkpoint)
    if not kind.pools and config.pooling:
        raise ConfigError(f"{kind.task} reads every token and pools none; leave pooling={config.pooling!r} off.")
    if kind.pools and checkpoint.family.causal and config.pooling in ("first", "prompt"):
        raise ConfigError(
            f"pooling={config.pooling!r} reads a position of {checkpoint.name} that sees nothing of the text after it; "
            f"a causal model takes 'last' or 'mean'."
        )
    if not kind.fills_blanks and (config.template or config.verbalizer):
        raise ConfigError(f"Template and verbalizer are a masked language model's; leave them off for {kind.task}.")
    if not kind.fills_blanks and not config.trains:
        raise ConfigError(f"{config.method} trains nothing, and {kind.task} has a head to train; use another method.")
    if kind.pools and config.pooling is None:
        config = dataclasses.replace(config, pooling=checkpoint.pooling)
    return config


def _check_direction(kind: type[Task], checkpoint: Checkpoint) -> None:
    family, named = checkpoint.family, f"{checkpoint.name} ({checkpoint.model_type})"
    if family.encoder_decoder != kind.encoder_decoder:
        what = "no encoder-decoder" if kind.encoder_decoder else "an encoder-decoder"
        fix = "take one, such as T5 or BART" if kind.encoder_decoder else "there is PromptForSeq2SeqLM for it"
        raise ConfigError(f"{named} is {what}, which {kind.task} does not go with; {fix}.")
    if kind.causal is not None and family.causal != kind.causal:
        what = "a causal" if family.causal else "no causal"
        fix = "there is PromptForCausalLM for it" if family.causal else "take one, such as Llama"
        raise ConfigError(f"{named} is {what} language model, which {kind.task} does not go with; {fix}.")


def dropout_rates(
    config: MethodConfig, checkpoint: Checkpoint, hidden: float | None, attention: float | None
) -> dict[str, float | None]:
    """The rates to load a backbone with: a frozen one has none that is not asked for, None: the checkpoint's."""
    if not config.tunes_backbone:
        hidden = 0.0 if hidden is None else hidden
        attention = 0.0 if attention is None and checkpoint.family.attention_dropout else attention
    return {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}


def check_positions(config: MethodConfig, backbone: Any) -> None:
    """Raises: ConfigError: the prompt leaves no room for a text in the backbone's positions."""
    limit, length = backbone.geometry.max_positions, config.positions_taken or config.num_pseudo
    if limit and length and length + 2 > limit:
        raise ConfigError(
            f"A prompt of {length} leaves no room in the backbone's {limit} positions; "
            f"shorten it{' or leave shift_positions off' if config.position_shift else ''}."
        )
