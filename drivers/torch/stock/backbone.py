"""Stock `transformers` encoders and decoders as backbones, the prefix entering at their attention.

`past_key_values` is no way in: half of the families never take it, and gradient checkpointing drops it. Instead one
attention function is registered in transformers' AttentionInterface, with its mask function beside it (without one the
mask is None and padding is attended to). It prepends the layer's keys and values, widens the mask, and hands on to
the stock scaled-dot-product attention. Families that do not call it are a matter of attention_patches.py, those with
encoder and decoder of encoder_decoder.py.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from fastprompt.backbones.prefix import Prefix
from fastprompt.drivers.torch.stock.attention_patches import PATCHES, patch_attention
from fastprompt.drivers.torch.stock.prefix_attention import ATTENTION, _attention, _Calls
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.family import FAMILIES, family_of, geometry

import torch
import transformers
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel, DynamicCache
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as hf_logging

AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class StockBackbone(nn.Module):
    """A stock base model behind the same calls as `fastprompt.backbones.portable.PortableBackbone`."""

    def __init__(self, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.family = family_of(config["model_type"])
        self.geometry = geometry(config)
        accepted = inspect.signature(model.forward).parameters
        self._takes = {name for name in ("token_type_ids", "position_ids") if name in accepted}
        self._keeps = "use_cache" in accepted
        if not config.get("position_biased_input", True):  # DeBERTa without absolute positions ignores them
            self._takes.discard("position_ids")
        self._calls = _Calls()
        self._find_attention()

    def _probe(self) -> dict[str, torch.Tensor]:
        """The input of the pass in which calls are recorded."""
        return {"input_ids": torch.ones((1, 2), dtype=torch.long, device=next(self.model.parameters()).device)}

    def _find_attention(self) -> None:
        patch_attention(self.model)
        for module in self.model.modules():
            module.__dict__["_fastprompt_calls"] = self._calls
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            self.model(**self._probe(), **({"use_cache": False} if self._keeps else {}))
        self.model.train(training)
        self._calls.finish_recording()
        if self._calls.shape is None:  # its own attention adds the mask to its scores: True and False would be 1 and 0
            self.model.config._attn_implementation = "eager"

    @property
    def prefix_shape(self) -> tuple[int, int, int]:
        """(layers, heads_kv, head_dim), as its attention was seen to be called.

        Raises:
            CheckpointError: the family keeps an attention of its own, which takes no prefix.
        """
        if self._calls.shape is None:
            kind = self.config["model_type"]
            changed = (
                f", in transformers {transformers.__version__} not as fastprompt knows it," if kind in PATCHES else ""
            )
            raise CheckpointError(
                f"{kind} computes attention by itself{changed} and takes no deep prefix; "
                f"use prompt-tuning, or an encoder such as BERT, RoBERTa or DistilBERT."
            )
        return (len(self._calls.modules), *self._calls.shape)

    @property
    def gradient_checkpointing(self) -> bool:
        return self.model.is_gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        if on and self._calls.shared:
            raise ConfigError(
                f"{self.config['model_type']} shares one layer and takes no gradient checkpointing here; "
                f"portable=True does."
            )
        if on and not self.model.supports_gradient_checkpointing:
            raise ConfigError(f"{self.config['model_type']} has no gradient checkpointing in transformers.")
        if on:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.model.gradient_checkpointing_disable()

    @property
    def takes_token_types(self) -> bool:
        return self.family.token_types and "token_type_ids" in self._takes

    def stock_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def word_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def new_cache(self) -> DynamicCache:
        """See CausalBackbone.new_cache."""
        return DynamicCache()

    def keys_and_values(self, input_ids: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """See PortableBackbone.keys_and_values.

        Raises:
            ConfigError: the family keeps an attention of its own and no cache.
        """
        if self.family.causal:  # BLOOM's attention shows them there alone
            cache = self.new_cache()
            self(input_ids, cache=cache)
            return [(layer.keys, layer.values) for layer in cache.layers]
        self._calls.kept = []
        try:
            self(input_ids)
            if not self._calls.kept:
                raise ConfigError(f"{self.config['model_type']} does not show its keys and values; use init='random'.")
            return self._calls.kept
        finally:
            self._calls.kept = None

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        prefix: Prefix | None = None,
        output_hidden_states: bool = False,
        cache: DynamicCache | None = None,
    ) -> list[torch.Tensor]:
        """Hidden states, the last one last, each (B, T, hidden); see PortableBackbone.forward and, with a cache,
        CausalBackbone.forward."""
        keeping = {"use_cache": cache is not None, "past_key_values": cache} if self._keeps else {}
        optional = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        if position_ids is not None and "position_ids" not in self._takes:
            raise ConfigError(f"{self.config['model_type']} takes no position_ids: shifted positions cannot be had.")
        self._calls.start(prefix)
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            **keeping,
            **{name: value for name, value in optional.items() if value is not None and name in self._takes},
        )
        return [*(output.hidden_states or ())[:-1], output.last_hidden_state]


def load_backbone(
    checkpoint: Checkpoint, config: dict[str, Any], backbone: type[StockBackbone] = StockBackbone
) -> StockBackbone:
    """The stock base model of `checkpoint`, in float32, with `config` in place of its own config.json.

    Raises:
        CheckpointError: transformers does not know the family, it is an encoder-decoder that fastprompt does not know,
            or the weights do not fit the configuration.
    """
    checkpoint.tensors(only=())  # refuses pickles and cut files with a line of our own
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
    for name, found, wanted in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"{checkpoint.name}: {name} has the shape {tuple(found)}, config.json asks for {tuple(wanted)}."
        )
    return backbone(model, config)


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
