"""P-Tuning v2's prefix encoder (Liu et al., 2022, arXiv:2110.07602): keys and values for the layers."""

from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.framework import nn, ops
from fastprompt.methods.deep import PrefixParts, StoredPrefix, for_parts
from fastprompt.methods.initial_values import normal, tokens_of_text
from fastprompt.methods.layout import from_chunks, to_chunks
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.p_tuning_v2.projection import project
from fastprompt.methods.prompt import BuildContext

import numpy


class PrefixProjection(nn.Module):
    """Linear, Tanh, Linear, under the names that P-Tuning v2's nn.Sequential gives them ("0", "2")."""

    def __init__(self, hidden_size: int, inner: int, width: int) -> None:
        super().__init__()
        layers = {"0": nn.Linear(hidden_size, inner), "2": nn.Linear(inner, width)}
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return getattr(self, "2")(ops.tanh(getattr(self, "0")(x)))


class PrefixEncoder(StoredPrefix):
    """Makes the prefix: keys and values [layers, heads_kv, pre_seq_len, head_dim].

    Without projection the embedding holds them, with it a row of hidden_size per position, which the network turns into
    keys and values.

    Args:
        config: the method's options.
        prefix_shape: (layers, heads_kv, head_dim): how many layers have a prefix, and the sizes of its heads.
        hidden_size: the backbone's; the width of a position's embedding under projection.
        seed: seeds the initial values, and `name` does: encoders of other names start from others.
    """

    def __init__(
        self,
        config: PTuningV2Config,
        prefix_shape: tuple[int, int, int],
        hidden_size: int,
        seed: int = 0,
        name: str = "prefix",
    ) -> None:
        super().__init__(config, prefix_shape)
        if config.prefix_projection:
            self.embedding = nn.Embedding(config.pre_seq_len, hidden_size)
            self.trans = PrefixProjection(hidden_size, config.prefix_hidden_size, self.row_width)
        for key, parameter in nn.named_parameters(self).items():
            std = 0.0 if key.endswith("bias") or config.init == "zero" else config.init_std
            nn.set_value(parameter, normal(seed, f"{name}.{key}", tuple(parameter.shape), std))

    def rows(self) -> Any:
        rows = super().rows()
        return self.trans(rows) if self.config.prefix_projection else rows

    def collapse(self) -> dict[str, numpy.ndarray]:
        if not self.config.prefix_projection:
            return super().collapse()
        weights = {name: ops.to_numpy(p) for name, p in nn.named_parameters(self).items()}
        names = ("embedding.weight", "trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias")
        return from_chunks(project(*(weights[name] for name in names)), *self.prefix_shape)


def make_prompt(config: PTuningV2Config, context: BuildContext) -> PrefixEncoder | PrefixParts:
    """The prefix of a backbone.

    Raises:
        ConfigError: init="text" of an encoder-decoder, or the text has no token.
    """
    hidden_size = context.backbone.geometry.hidden_size
    prompt = for_parts(
        config, context, lambda shape, name: PrefixEncoder(config, shape, hidden_size, context.seed, name)
    )
    if config.init == "text":
        if config.prefix_parts:
            raise ConfigError("init='text' is for one prefix; an encoder-decoder's parts take init='random'.")
        tokens = tokens_of_text(config.init_text, config.pre_seq_len, context.tokenize)
        _init_from_text(prompt, context.backbone, tokens)
    return prompt


def _init_from_text(prefix: PrefixEncoder, backbone: Any, tokens: list[int]) -> None:
    """Initialise a prefix with the backbone's own keys and values of a text's tokens."""
    backbone.eval()
    with ops.no_grad():
        pairs = backbone.keys_and_values(ops.tensor(numpy.array([tokens])))
    backbone.train()
    chosen = prefix.config.prefix_layers or range(len(pairs))
    layers = [[ops.to_numpy(x) for x in pairs[index]] for index in chosen]
    key, value = (numpy.concatenate(arrays) for arrays in zip(*layers, strict=True))  # [layers, heads_kv, T, head_dim]
    nn.set_value(prefix.embedding.weight, to_chunks(key, value))
