"""The prompt methods, one file each."""

from fastprompt.methods.p_tuning.encoder import PromptEncoder
from fastprompt.methods.p_tuning_v2.prefix import PrefixEncoder, PrefixEncoders
from fastprompt.methods.prompt_tuning.embedding import PromptEmbedding

__all__ = ["PrefixEncoder", "PrefixEncoders", "PromptEmbedding", "PromptEncoder"]
