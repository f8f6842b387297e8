"""A checkpoint -> the stock transformers model that it is of, as a backbone."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from fastprompt.drivers.torch.stock.backbone import StockBackbone
from fastprompt.drivers.torch.stock.encoder_decoder import EncoderDecoderBackbone
from fastprompt.drivers.torch.stock.prefix_attention import ATTENTION
from fastprompt.errors import CheckpointError
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.families import FAMILIES

import torch
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as hf_logging


def load_backbone(checkpoint: Checkpoint, config: dict[str, Any]) -> StockBackbone:
    """The stock base model of `checkpoint`, in float32, with `config` in place of its own config.json.

    Raises:
        CheckpointError: transformers does not know the family, it is an encoder-decoder that fastprompt does not know,
            or the weights do not fit the configuration.
    """
    checkpoint.tensors(only=())  # refuses files that are cut, or hold more than tensors, with a line of our own
    options = {key: value for key, value in config.items() if key not in ("model_type", "dtype", "torch_dtype")}
    try:
        stock = AutoConfig.for_model(config["model_type"], **options)
        kind = AutoModel._model_mapping[type(stock)]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"transformers knows no base model of the type {config['model_type']!r}.") from error
    if stock.is_encoder_decoder and not checkpoint.family.encoder_decoder:
        known = ", ".join(name for name, family in FAMILIES.items() if family.encoder_decoder)
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.model_type} model; of encoder-decoders fastprompt knows {known}."
        )
    # The pooler, where there is one, belongs to our head.
    pooler = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind.__init__).parameters else {}
    with _quiet():
        model, report = kind.from_pretrained(
            checkpoint.directory,
            config=stock,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below
            **pooler,
        )
    # What it does not find, transformers draws at random.
    for name in sorted(name for name in report["missing_keys"] if "pooler" not in name):
        raise CheckpointError(f"{checkpoint.name} lacks the tensor {name}; is it a {checkpoint.model_type} model?")
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"{checkpoint.name}: {name} has the shape {tuple(found)}, config.json asks for {tuple(expected)}."
        )
    return (EncoderDecoderBackbone if stock.is_encoder_decoder else StockBackbone)(model, config)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its report on head weights, which we read ourselves."""
    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()
