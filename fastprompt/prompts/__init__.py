"""The prompt methods, one file each."""

from fastprompt.prompts.embedding import PromptEmbedding
from fastprompt.prompts.encoder import PromptEncoder
from fastprompt.prompts.prefix import PrefixEncoder, PrefixEncoders

__all__ = ["PrefixEncoder", "PrefixEncoders", "PromptEmbedding", "PromptEncoder"]
