"""The prompt that a configuration and a backbone make together."""

from importlib import import_module
from typing import Any

from fastprompt.methods.base import DeepConfig, MethodConfig
from fastprompt.methods.deep import StoredPrefix, for_parts
from fastprompt.methods.prompt import BuildContext, Prompt
from fastprompt.methods.registry import prompt_module
from fastprompt.methods.shallow import StoredEmbedding


def make_prompt(config: MethodConfig, context: BuildContext, collapsed: bool) -> Prompt | None:
    """The prompt of a method; None where it has none.

    Args:
        collapsed: without the network that made it: its values alone, which are zero until they are loaded.

    Raises:
        CheckpointError: the backbone takes no such prompt, or has no tokenizer for init="text".
        ConfigError: an option does not go with this backbone.
    """
    if not config.has_prompt:
        return None
    if collapsed:
        return _stored(config, context)
    return import_module(prompt_module(config)).make_prompt(config, context)


def _stored(config: Any, context: BuildContext) -> Prompt:
    if isinstance(config, DeepConfig):
        return for_parts(config, context, lambda shape, _: StoredPrefix(config, shape))
    return StoredEmbedding(config, context.backbone.geometry.embedding_size)
