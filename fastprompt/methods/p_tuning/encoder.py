"""P-Tuning v1's prompt encoder (Liu et al., 2021, arXiv:2103.10385): a network that makes a shallow prompt.

Layout and parameter names are those of PEFT's PromptEncoder. Each layer says once what it computes, in the operations
of `lib` and with tensors as `value` gives them: the framework's `ops` and its tensors, or `float64` and arrays.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

from fastprompt.framework import nn, ops
from fastprompt.methods.initial_values import normal, uniform
from fastprompt.methods.p_tuning import float64
from fastprompt.methods.p_tuning.config import PTuningConfig
from fastprompt.methods.prompt import BuildContext
from fastprompt.methods.shallow import ShallowPrompt

import numpy


class MLP(nn.Module):
    """Linear layers from width to width with ReLU between them, under an nn.Sequential's names: "0", "2", ..."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for index, (width_in, width_out) in enumerate(pairwise(widths)):
            setattr(self, str(2 * index), nn.Linear(width_in, width_out))

    def forward(self, x: Any, value: Callable, lib: ModuleType) -> Any:
        for index in range(self.depth):
            layer = getattr(self, str(2 * index))
            x = lib.linear(lib.relu(x) if index else x, value(layer.weight), value(layer.bias))
        return x


class LSTM(nn.Module):
    """Bidirectional (Hochreiter and Schmidhuber, 1997), over one sequence (T, input_size) -> (T, 2 * hidden_size).

    Names and layouts are those of torch.nn.LSTM: input, forget, cell and output gate stand below each other.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_layers, self.dropout = num_layers, dropout
        for layer in range(num_layers):
            width = 2 * hidden_size if layer else input_size
            for end in (f"l{layer}", f"l{layer}_reverse"):
                setattr(self, f"weight_ih_{end}", nn.parameter((4 * hidden_size, width)))
                setattr(self, f"weight_hh_{end}", nn.parameter((4 * hidden_size, hidden_size)))
                setattr(self, f"bias_ih_{end}", nn.parameter((4 * hidden_size,)))
                setattr(self, f"bias_hh_{end}", nn.parameter((4 * hidden_size,)))

    def forward(self, x: Any, value: Callable, lib: ModuleType) -> Any:
        for layer in range(self.num_layers):
            if layer:
                x = lib.dropout(x, self.dropout, self.training)
            both = [self._direction(x, end, value, lib) for end in (f"l{layer}", f"l{layer}_reverse")]
            x = lib.cat(both, axis=1)
        return x

    def _direction(self, x: Any, end: str, value: Callable, lib: ModuleType) -> Any:
        """(T, width) -> (T, hidden_size)"""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weight_ih, weight_hh, bias_ih, bias_hh = (value(getattr(self, f"{name}_{end}")) for name in names)
        width = weight_hh.shape[1]
        inputs = lib.linear(x, weight_ih, bias_ih + bias_hh)  # (T, 4 * hidden_size)
        steps = range(x.shape[0])
        states = [None] * len(steps)
        hidden = cell = inputs[:1, :width] * 0  # of the position before the first
        for step in reversed(steps) if end.endswith("reverse") else steps:
            gates = inputs[step : step + 1] + lib.linear(hidden, weight_hh)
            i, f, g, o = (gates[:, start : start + width] for start in range(0, 4 * width, width))
            cell = lib.sigmoid(f) * cell + lib.sigmoid(i) * lib.tanh(g)
            states[step] = hidden = lib.sigmoid(o) * lib.tanh(cell)  # (1, hidden_size)
        return lib.cat(states, axis=0)


class PromptEncoder(ShallowPrompt):
    """Makes the prompt, [num_virtual_tokens, hidden_size], from a trained embedding of the same shape.

    "mlp": three linear layers with ReLU between them (`mlp_head.0`, `.2`, `.4`). "lstm": a bidirectional LSTM over the
    positions (`lstm_head`), then two (`mlp_head.0`, `.2`).

    Args:
        config: the method's options.
        hidden_size: width of the backbone's word embeddings.
        seed: seeds the initial values.
    """

    def __init__(self, config: PTuningConfig, hidden_size: int, seed: int = 0) -> None:
        super().__init__(config)
        inner = config.encoder_hidden_size or hidden_size
        self.embedding = nn.Embedding(config.num_virtual_tokens, hidden_size)
        if config.encoder == "lstm":
            self.lstm_head = LSTM(hidden_size, inner, config.encoder_num_layers, config.encoder_dropout)
            self.mlp_head = MLP(2 * inner, 2 * inner, hidden_size)
        else:
            self.mlp_head = MLP(hidden_size, inner, inner, hidden_size)
        tensors = nn.named_parameters(self)
        for name, tensor in tensors.items():
            shape = tuple(tensor.shape)
            if name == "embedding.weight":
                values = normal(seed, f"prompt.{name}", shape, config.init_std)
            else:
                # U(-b, b) as torch's own layers start, and so P-Tuning's encoder and PEFT's
                fan_in = inner if name.startswith("lstm_head") else tensors[name.replace("bias", "weight")].shape[1]
                values = uniform(seed, f"prompt.{name}", shape, 1 / math.sqrt(fan_in))
            nn.set_value(tensor, values)

    def forward(self) -> Any:
        return self._make(lambda tensor: tensor, ops)

    def collapse(self) -> dict[str, numpy.ndarray]:
        made = self._make(lambda tensor: ops.to_numpy(tensor).astype("float64"), float64)
        return {"embedding": made.astype("float32")}

    def _make(self, value: Callable, lib: ModuleType) -> Any:
        x = value(self.embedding.weight)
        if self.config.encoder == "lstm":
            x = self.lstm_head(x, value, lib)
        return self.mlp_head(x, value, lib)


def make_prompt(config: PTuningConfig, context: BuildContext) -> PromptEncoder:
    """The encoder of a backbone's shallow prompt."""
    return PromptEncoder(config, context.backbone.geometry.embedding_size, context.seed)
