"""The modules that make prompts, for those who use them without a model of ours."""

from fastprompt.methods.p_tuning.encoder import PromptEncoder
from fastprompt.methods.p_tuning_v2.prefix import PrefixEncoder
from fastprompt.methods.prompt_tuning.embedding import PromptEmbedding

__all__ = ["PrefixEncoder", "PromptEmbedding", "PromptEncoder"]
