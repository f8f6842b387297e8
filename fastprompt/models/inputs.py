"""What the backbone is called with for a batch and its prompt."""

from typing import Any

from fastprompt.backbones.portable import positions
from fastprompt.data.frozen import FrozenStates
from fastprompt.errors import ConfigError
from fastprompt.framework import ops
from fastprompt.models.frozen import own_states
from fastprompt.models.protocol import Model


def backbone_inputs(
    model: Model,
    input_ids: Any,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    pseudo_tokens: Any = None,
    frozen_states: FrozenStates | None = None,
) -> dict[str, Any]:
    """What the backbone is called with for a batch (B, T) and the model's prompt; an attention mask is always in it.

    Args:
        frozen_states: (B, T, hidden), what `fastprompt.models.frozen` computed of this input.
        pseudo_tokens: (B, T), where a template has the prompt among its words: which pseudo token stands at a position,
            counted from 1, and 0 for the others.

    Raises:
        ConfigError: the input is longer than the backbone's positions allow.
        DataError: pseudo_tokens are missing, or the frozen states are another model's.
    """
    limit = max_length(model)
    if limit is not None and input_ids.shape[1] > limit:
        raise ConfigError(
            f"The input has {input_ids.shape[1]} tokens, the backbone's positions leave room for {limit}; lower "
            f"max_length (--max_seq_length)."
        )
    if attention_mask is None:
        attention_mask = input_ids * 0 + 1
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if token_type_ids is not None and model.backbone.takes_token_types:
        inputs["token_type_ids"] = token_type_ids
    if model.prompt is not None:
        inputs = model.prompt.attach(inputs, model.backbone, pseudo_tokens)
    if frozen_states is not None:
        inputs["frozen_states"] = own_states(model, frozen_states)
    return inputs | position_ids(model, inputs, input_ids)


def position_ids(model: Model, inputs: dict[str, Any], input_ids: Any) -> dict[str, Any]:
    """{"position_ids"} where the backbone would count others by itself: of all that the attention mask of `inputs` is
    of."""
    family, shift = model.backbone.family, model.method_config.position_shift
    if family.causal and not family.alibi:
        return {"position_ids": causal_positions(inputs["attention_mask"], shift)}
    if shift and not family.causal and not family.encoder_decoder:
        return {"position_ids": positions(model.backbone.config, input_ids, input_ids, shift)}
    return {}


def causal_positions(attention_mask: Any, shift: int) -> Any:
    """Position ids (B, T) of a causal model, from its mask: real tokens are counted, not positions, as in transformers'
    generate, so that padding in front moves none."""
    return (ops.cumsum(attention_mask, axis=1) - 1 + shift) * attention_mask


def max_length(model: Model) -> int | None:
    """The longest input in tokens, beside the prompt; None where the backbone sets no limit."""
    limit = model.backbone.geometry.max_positions
    config = model.method_config
    taken = config.length_before if model.backbone.family.encoder_decoder else config.positions_taken
    return None if limit is None else limit - taken
