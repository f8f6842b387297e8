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

from fastprompt.backbones.portable import Prefix
from fastprompt.drivers.torch.stock.attention_patches import PATCHES, patch_attention
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.family import FAMILIES, family_of, geometry

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as hf_logging

ATTENTION = "fastprompt"


class _Calls:
    """Which attention call of a forward pass is whose: filled once, by a pass over two tokens.

    ALBERT calls one attention module for all its layers, so the index belongs to the call and not to the module;
    a gradient checkpoint calls them again in another order, so for all others it belongs to the module.
    """

    def __init__(self) -> None:
        self.recording = True
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] | None = None  # see StockBackbone.keys_and_values
        self.modules: list[nn.Module] = []
        self._shapes: list[tuple[int, int]] = []  # heads_kv, head_dim
        self._lengths: list[tuple[int, int] | None] = []  # of queries and keys
        self.start(None)

    def start(self, prefix: Prefix | None) -> None:
        """Begin a forward pass with `prefix`."""
        self.prefix = prefix
        self._next = 0
        self._widened: dict[int, torch.Tensor] = {}
        self._causal: torch.Tensor | None = None

    def record(self, module: nn.Module, heads_kv: int, head_dim: int, lengths: tuple[int, int] | None = None) -> None:
        self.modules.append(module)
        self._shapes.append((heads_kv, head_dim))
        self._lengths.append(lengths)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(heads_kv, head_dim); None where no call was seen."""
        return self._shapes[0] if self._shapes else None

    def of_lengths(self, queries: int, keys: int) -> "_Calls":
        """Those calls alone that were recorded with so many queries and keys."""
        found = _Calls()
        for module, shape, lengths in zip(self.modules, self._shapes, self._lengths, strict=True):
            if lengths == (queries, keys):
                found.record(module, *shape, lengths)
                module.__dict__["_fastprompt_calls"] = found
        found.finish_recording()
        return found

    def finish_recording(self) -> None:
        self.recording = False
        self.shared = len(set(self.modules)) < len(self.modules)

    def layer_of(self, module: nn.Module) -> int:
        if not self.shared:
            return self.modules.index(module)
        index = self._next % len(self.modules)
        self._next += 1
        return index

    def prefix_of(self, module: nn.Module, batch: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values to stand before those of this call, (batch, heads_kv, pre_seq_len, head_dim) each."""
        return None if self.prefix is None else self.prefix.layer(self.layer_of(module), batch)

    def unseen(self, dtype: torch.dtype) -> torch.Tensor | None:
        """To be added to scores of the prefix, (B, 1, 1, P): `dtype`'s lowest where a row's own has none; None: 0."""
        if self.prefix is None or self.prefix.mask is None:
            return None
        seen = self.prefix.mask.bool()[:, None, None]
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    def causal(self, query: torch.Tensor) -> torch.Tensor:
        """Which tokens each of the queries (B, heads, T, head_dim) sees, (B, 1, T, T); made once for all layers."""
        if self._causal is None:
            batch, _, length, _ = query.shape
            seen = torch.ones((length, length), dtype=torch.bool, device=query.device).tril()
            self._causal = seen.expand(batch, 1, length, length)
        return self._causal

    def widened(self, mask: torch.Tensor | None, key: torch.Tensor) -> torch.Tensor | None:
        """The tokens' `mask`, None or (B, 1, T, T), with the prefix before it; made once for all layers that share it.

        key is (B, heads_kv, T, head_dim). None stays None where every row sees the whole prefix.
        """
        rows = self.prefix.mask  # (B, P)
        if mask is None and rows is None:
            return None
        name = id(mask)
        if name not in self._widened:
            if mask is None:
                mask = key.new_ones((key.shape[0], 1, 1, key.shape[2]), dtype=torch.bool)
            shape = (*mask.shape[:3], self.prefix.length)
            if rows is None:
                seen = mask.new_full(shape, mask.dtype == torch.bool)  # True, or 0 to add
            else:
                own = rows.bool()[:, None, None] if mask.dtype is torch.bool else self.unseen(mask.dtype)
                seen = own.expand(shape)
            self._widened[name] = torch.cat([seen, mask], dim=-1)
        return self._widened[name]


def _attention(
    module: nn.Module,
    query: torch.Tensor,  # (B, heads, T, head_dim)
    key: torch.Tensor,  # (B, heads_kv, T, head_dim)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # (B, 1, T, T), bool or additive
    **options: Any,
) -> tuple[torch.Tensor, None]:
    calls: _Calls | None = module.__dict__.get("_fastprompt_calls")
    if calls is not None and calls.recording:
        calls.record(module, key.shape[1], key.shape[3], (query.shape[2], key.shape[2]))
    elif calls is not None and calls.kept is not None:
        calls.kept.append((key, value))
    elif calls is not None and (prefix := calls.prefix_of(module, query.shape[0])) is not None:
        prefix_key, prefix_value = prefix
        if attention_mask is None and _is_causal(module, options) and query.shape[2] > 1:
            # Left to is_causal, the corner of a mask that is wider than high would be the wrong one.
            attention_mask = calls.causal(query)
        attention_mask = calls.widened(attention_mask, key)
        if options.get("position_bias") is not None:  # T5's, of distances: a prefix has none
            options["position_bias"] = F.pad(options["position_bias"], (prefix_key.shape[2], 0))
        key = torch.cat([prefix_key.to(key.dtype), key], dim=2)
        value = torch.cat([prefix_value.to(value.dtype), value], dim=2)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    asked = options.get("is_causal")
    return getattr(module, "is_causal", True) if asked is None else asked


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
