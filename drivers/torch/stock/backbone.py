"""Stock `transformers` encoders and decoders as backbones, the prefix entering at their attention.

How it enters there is a matter of prefix_attention.py and attention_patches.py, how it travels of forward_pass.py;
models with encoder and decoder are one of encoder_decoder.py.
"""

import inspect
from typing import Any

from fastprompt.backbones.portable import shared_dropout
from fastprompt.backbones.prefix import Prefix
from fastprompt.drivers.torch.stock.attention_patches import PATCHES, patch_attention
from fastprompt.drivers.torch.stock.forward_pass import (
    AttentionCall,
    ForwardPass,
    Pair,
    PrefixSlot,
    RecordingPass,
    checkpoint_contexts,
    running,
)
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.families import family_of
from fastprompt.pretrained.geometry import geometry, reads_token_types

import torch
import transformers
from torch import nn
from transformers import DynamicCache, PreTrainedModel

# What transformers calls checkpointing: later versions warn of the earlier name.
_KIND = "activation" if hasattr(PreTrainedModel, "activation_checkpointing_enable") else "gradient"


class StockBackbone(nn.Module):
    """A stock base model with the same calls as `fastprompt.backbones.portable.PortableBackbone`."""

    def __init__(self, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.family = family_of(config["model_type"])
        self.geometry = geometry(config)
        accepted = inspect.signature(model.forward).parameters
        self._takes = {name for name in ("token_type_ids", "position_ids") if name in accepted}
        self._caches = "use_cache" in accepted
        if not config.get("position_biased_input", True):  # DeBERTa without absolute positions ignores them
            self._takes.discard("position_ids")
        self._shapes: dict[str, tuple[int, int, int]] = {}  # part -> (layers, heads_kv, head_dim)
        self._shares_layers = False
        self._without_dropout: list[nn.Module] = []
        self._find_attention()

    def _probe(self) -> dict[str, torch.Tensor]:
        """The input of the pass in which attention is found."""
        return {"input_ids": torch.ones((1, 2), dtype=torch.long, device=next(self.model.parameters()).device)}

    def _parts(self, calls: list[AttentionCall]) -> dict[str, list[AttentionCall]]:
        """The calls of attention that take a prefix, by part."""
        return {"": calls} if calls else {}

    def _find_attention(self) -> None:
        patch_attention(self.model)
        training = self.model.training
        self.model.eval()
        calls = self._record(self._probe())
        self.model.train(training)
        for part, found in self._parts(calls).items():
            modules = [call.module for call in found]
            self._shapes[part] = (len(found), found[0].heads_kv, found[0].head_dim)
            self._shares_layers |= len(set(modules)) < len(modules)
            for layer, module in enumerate(modules):
                PrefixSlot(part, None if self._shares_layers else layer).put_on(module)
        if not self._shapes:  # its own attention adds the mask to its scores: True and False would be 1 and 0
            self.model.config._attn_implementation = "eager"

    def _record(self, inputs: dict[str, torch.Tensor]) -> list[AttentionCall]:
        """The calls of attention in a pass without a prefix."""
        recorded = RecordingPass()
        with torch.no_grad(), running(recorded):
            self.model(**inputs, **({"use_cache": False} if self._caches else {}))
        return recorded.calls

    @property
    def prefix_shape(self) -> tuple[int, int, int]:
        """(layers, heads_kv, head_dim), as its attention was seen to be called.

        Raises:
            CheckpointError: the family has an attention of its own, which takes no prefix.
        """
        if "" not in self._shapes:
            kind = self.config["model_type"]
            changed = (
                f", in transformers {transformers.__version__} not as fastprompt knows it," if kind in PATCHES else ""
            )
            raise CheckpointError(
                f"{kind} computes attention by itself{changed} and takes no deep prefix; "
                f"use prompt-tuning, or an encoder such as BERT, RoBERTa or DistilBERT."
            )
        return self._shapes[""]

    def no_dropout_before(self, layer: int) -> None:
        """See PortableBackbone.no_dropout_before."""
        self._leave_out_dropout({"": layer})

    def _leave_out_dropout(self, first: dict[str, int]) -> None:
        """`first`: the beginning of a stack's names -> its first layer that has dropout."""
        rates = [module.p for module in self.model.modules() if isinstance(module, nn.Dropout)]
        if self._shares_layers and any(rates):
            raise shared_dropout(self.config["model_type"])
        for name, module in self.model.named_modules():
            for stack, layer in first.items():
                numbers = [int(word) for word in name.split(".") if word.isdecimal()]  # a layer's first
                if f"{name}.".startswith(stack) and (not numbers or numbers[0] < layer):
                    self._without_dropout.append(module)
        self.train(self.training)

    def train(self, mode: bool = True) -> "StockBackbone":
        super().train(mode)
        for module in self._without_dropout:  # dropout asks the module that it stands in
            module.training = False
        return self

    @property
    def gradient_checkpointing(self) -> bool:
        return getattr(self.model, f"is_{_KIND}_checkpointing")

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        if on and self._shares_layers:
            raise ConfigError(
                f"{self.config['model_type']} shares one layer and takes no gradient checkpointing here; "
                f"portable=True does."
            )
        if on and not self.model.supports_gradient_checkpointing:
            raise ConfigError(f"{self.config['model_type']} has no gradient checkpointing in transformers.")
        if on:
            settings = {"use_reentrant": False, "context_fn": checkpoint_contexts}
            getattr(self.model, f"{_KIND}_checkpointing_enable")(**{f"{_KIND}_checkpointing_kwargs": settings})
        else:
            getattr(self.model, f"{_KIND}_checkpointing_disable")()

    @property
    def takes_token_types(self) -> bool:
        return reads_token_types(self.config) and "token_type_ids" in self._takes

    def stock_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def word_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def new_cache(self) -> DynamicCache:
        """See CausalBackbone.new_cache."""
        return DynamicCache()

    def keys_and_values(self, input_ids: torch.Tensor) -> list[Pair]:
        """See PortableBackbone.keys_and_values.

        Raises:
            ConfigError: the family has an attention of its own and no cache.
        """
        if self.family.causal:  # BLOOM's attention shows them there alone
            cache = self.new_cache()
            self(input_ids, cache=cache)
            return [(layer.keys, layer.values) for layer in cache.layers]
        pairs = [call.pair for call in self._record({"input_ids": input_ids})]
        if not pairs or None in pairs:
            raise ConfigError(f"{self.config['model_type']} does not show its keys and values; use init='random'.")
        return pairs

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
        caching: dict[str, Any] = {"use_cache": cache is not None} if self._caches else {}
        if cache is not None:  # transformers warns of a None
            caching["past_key_values"] = cache
        optional = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        if position_ids is not None and "position_ids" not in self._takes:
            raise ConfigError(f"{self.config['model_type']} takes no position_ids: shifted positions cannot be had.")
        with running(ForwardPass({"": prefix})):
            output = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                output_hidden_states=output_hidden_states,
                **caching,
                **{name: value for name, value in optional.items() if value is not None and name in self._takes},
            )
        return [*(output.hidden_states or ())[:-1], output.last_hidden_state]
