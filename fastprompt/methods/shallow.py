"""A prompt put before a batch, and the pooling of what the backbone makes of them."""

from typing import Any

from fastprompt.framework import ops


def lengthen(words: Any, inputs: dict[str, Any], prompt: Any) -> dict[str, Any]:
    """A shallow prompt [length, embedding_size] before the embeddings (B, T, embedding_size) of a batch.

    Args:
        inputs: the batch's attention_mask (B, T), and its token_type_ids if it has them.

    Returns:
        The same, (B, length + T), and the lengthened inputs_embeds: the prompt is seen by all and of the first type.
    """
    batch = words.shape[0]
    length, width = prompt.shape
    prompt = ops.expand(ops.reshape(ops.cast_like(prompt, words), (1, length, width)), (batch, length, width))
    before = {"attention_mask": ops.ones, "token_type_ids": ops.zeros}
    longer = {
        name: ops.cat([before[name]((batch, length), like=x, dtype="int64"), x], axis=1) for name, x in inputs.items()
    }
    return {"inputs_embeds": ops.cat([prompt, words], axis=1), **longer}


def fill_in(words: Any, prompt: Any, pseudo_tokens: Any) -> Any:
    """A shallow prompt [length, embedding_size] at its places among the embeddings (B, T, embedding_size) of a batch.

    Args:
        pseudo_tokens: (B, T) which row of the prompt, counted from 1, stands at a place; 0 leaves the word there.
    """
    length, batch = prompt.shape[0], words.shape[0]
    numbers = ops.reshape(ops.arange(length, like=pseudo_tokens) + 1, (1, 1, length))
    chosen = ops.cast_like(ops.reshape(pseudo_tokens, (batch, -1, 1)) == numbers, words)  # (B, T, length)
    kept = ops.cast_like(ops.reshape(pseudo_tokens == 0, (batch, -1, 1)), words)
    # A product with ones and zeros is a gather whose gradient every framework has, and has alike.
    return words * kept + ops.linear(chosen, ops.transpose(ops.cast_like(prompt, words), (1, 0)))
