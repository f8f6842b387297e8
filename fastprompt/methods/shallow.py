"""A prompt put before a batch, and the pooling of what the backbone makes of them."""

from typing import Any

from fastprompt.backbones.portable import Prefix
from fastprompt.framework import ops


def deep_prefix(key: Any, value: Any, batch: int, dropout: float, bf16: bool, placed: bool) -> Prefix:
    """A prompt's keys and values [layers, heads_kv, pre_seq_len, head_dim] for `batch` rows, in one copy for all of
    them where they need not differ; `placed` as `Prefix` has it."""
    layers, heads, length, width = key.shape
    rows = batch if dropout else 1  # dropout differs from row to row
    shape = (layers, rows, heads, length, width)
    pair = [ops.expand(ops.reshape(x, (layers, 1, heads, length, width)), shape) for x in (key, value)]
    if dropout:
        pair = [ops.dropout(x, dropout, training=True) for x in pair]
    if bf16:
        pair = [ops.cast(x, "bfloat16") for x in pair]
    return Prefix(*pair, placed=placed)


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


def causal_positions(attention_mask: Any, shift: int) -> Any:
    """Position ids (B, T) of a causal model, from its mask: tokens are counted and not places, as in transformers'
    generate, so that padding in front moves none."""
    return (ops.cumsum(attention_mask, axis=1) - 1 + shift) * attention_mask


def pool(last: Any, attention_mask: Any, pooling: str | None, skipped: int) -> Any:
    """What a head reads of hidden states (B, skipped + T, hidden): (B, hidden), or (B, T, hidden) unpooled.

    Args:
        attention_mask: (B, skipped + T), 1 for prompt and real tokens.
        pooling: one of `config.POOLINGS`; None leaves the tokens as they are.
        skipped: how many positions a shallow prompt takes.
    """
    if pooling is None:
        return last[:, skipped:]
    if pooling == "prompt":
        return last[:, 0]
    if pooling == "first":
        return last[:, skipped]
    mask = attention_mask[:, skipped:]
    if pooling == "last":  # of all real tokens the one that has as many up to it as there are
        counts = ops.cumsum(mask, axis=1)
        mask = mask * ops.cast(counts == counts[:, -1:], "int64")
    weights = ops.cast_like(mask, last)[:, :, None]
    return ops.sum(last[:, skipped:] * weights, axis=1) / ops.sum(weights, axis=1)
