"""Frozen linear layers in 8 bits (LLM.int8: Dettmers et al., 2022, arXiv:2208.07339) or in 4 (NF4 of QLoRA: Dettmers
et al., 2023, arXiv:2305.14314), by bitsandbytes."""

from fastprompt.errors import BackendError, ConfigError

from torch import nn

OUTLIERS = 6.0  # LLM.int8's: activations beyond it are multiplied in their own precision


def quantize(module: nn.Module, bits: int) -> None:
    """Put quantized layers in the place of all linear ones, which are frozen from here on.

    Args:
        bits: 8 or 4.

    Raises:
        BackendError: bitsandbytes is missing.
        ConfigError: the module has no linear layer.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise BackendError(
            f"load_in_{bits}bit needs the package bitsandbytes: pip install bitsandbytes ({error})."
        ) from error
    found = [(parent, name, layer) for parent in module.modules() for name, layer in parent.named_children()]
    found = [(parent, name, layer) for parent, name, layer in found if isinstance(layer, nn.Linear)]
    if not found:
        raise ConfigError(f"This backbone has no linear layers, as GPT-2 has none; leave load_in_{bits}bit off.")
    for parent, name, layer in found:
        setattr(parent, name, _quantized(bitsandbytes.nn, layer, bits))


def _quantized(kinds: object, layer: nn.Linear, bits: int) -> nn.Module:
    sizes = (layer.in_features, layer.out_features, layer.bias is not None)
    weight, dtype, device = layer.weight, layer.weight.dtype, layer.weight.device
    if bits == 8:
        made = kinds.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=OUTLIERS)
        made.weight = kinds.Int8Params(weight.data, requires_grad=False, has_fp16_weights=False)
    else:
        made = kinds.Linear4bit(*sizes, compute_dtype=dtype, quant_type="nf4", compress_statistics=True)
        made.weight = kinds.Params4bit(weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return made.to(device)  # here it is quantized
