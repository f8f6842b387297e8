"""Prefix models of PaddleNLP: prefix_config.json beside a pickle of arrays, a row a position in the halves layout.

They are for causal language models and have no head. Linear weights are (in, out).
"""

import io
import pickle
from pathlib import Path
from typing import Any

from fastprompt.convert.common import check_sizes, make_config, prefix_sizes, setting, take, unsupported
from fastprompt.errors import CheckpointError
from fastprompt.methods.layout import from_halves, to_halves
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.p_tuning_v2.projection import project
from fastprompt.pretrained.checkpoint import Checkpoint, read_json
from fastprompt.pretrained.geometry import geometry
from fastprompt.saving.files import as_json
from fastprompt.saving.prompt_file import SavedPrompt, describe

import ml_dtypes
import numpy

CONFIG, WEIGHTS = "prefix_config.json", "prefix_model_state.pdparams"
_PARAMETERS = "StructuredToParameterName@@"  # paddle.save's own entry
_DTYPES = ("float16", "float32", "float64", "uint16")  # paddle stores bfloat16 as uint16
_PROJECTION = ("1.weight", "1.bias", "3.weight", "3.bias")
# All that a pickle of a dict of NumPy arrays calls for, under the names of NumPy 1 and 2.
_ARRAYS = {
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict")),
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    *(("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it calls for {module}.{name}")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def _read_arrays(path: Path) -> dict[str, numpy.ndarray]:
    """A pickled dict of arrays; nothing but arrays is ever made of it."""
    try:
        found = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}.") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than arrays and is not read: {error}.") from error
    except Exception as error:  # a cut pickle fails in any way
        raise CheckpointError(f"{path} is cut short or no file of Paddle's ({error}).") from error
    arrays = {name: x for name, x in found.items() if name != _PARAMETERS} if isinstance(found, dict) else {}
    if not arrays or not all(isinstance(x, numpy.ndarray) and x.dtype in _DTYPES for x in arrays.values()):
        raise CheckpointError(f"{path} holds no tensors by name, or more than tensors.")
    return {name: x.view(ml_dtypes.bfloat16) if x.dtype == numpy.uint16 else x for name, x in arrays.items()}


def read(source: Path, checkpoint: Checkpoint) -> SavedPrompt:
    """The prompt of a prefix model's folder; a projection is replaced by what it made."""
    path = source / CONFIG
    settings = read_json(path)
    length = setting(settings, "num_prefix_tokens", path)
    sizes, whole = prefix_sizes(checkpoint), geometry(checkpoint.config)
    named = {"num_hidden_layers": whole.layers, "num_attention_heads": whole.heads, "hidden_size": whole.hidden_size}
    check_sizes(settings, named, checkpoint, path)
    config = make_config(PTuningV2Config, path, pre_seq_len=length, shift_positions=True)
    path = source / WEIGHTS
    tensors = _read_arrays(path)
    inside, width = sizes[1] * sizes[2], 2 * sizes[0] * sizes[1] * sizes[2]
    if settings.get("prefix_projection"):
        inner = setting(settings, "prefix_projection_hidden_size", source / CONFIG)
        shapes = ((inside, inner), (inner,), (inner, width), (width,))
        rows = take(tensors, "0.weight", (length, inside), path)
        layers = [take(tensors, name, shape, path) for name, shape in zip(_PROJECTION, shapes, strict=True)]
        rows = project(rows, layers[0].T, layers[1], layers[2].T, layers[3])
    else:
        rows = take(tensors, "0.weight", (length, width), path)
    if tensors:
        raise CheckpointError(f"{path} has a tensor {min(tensors)} that a prompt has no place for.")
    return describe(checkpoint, config, "causal_lm", [], from_halves(rows, *sizes), source)


def write(saved: SavedPrompt, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a prefix model's folder, by name."""
    config, tool = saved.config, "PaddleNLP"
    if saved.task != "causal_lm":
        raise unsupported(saved, tool, f"place for the head of {saved.task} beside a prefix")
    if not isinstance(config, PTuningV2Config):
        raise unsupported(saved, tool, f"deep prefix to make from {config.method}")
    if not config.shift_positions:
        raise unsupported(saved, tool, "prefix that leaves the tokens' positions alone (shift_positions=False)")
    sizes = geometry(checkpoint.config)
    settings = {
        "dtype": "float32",
        "hidden_size": sizes.hidden_size,
        "multi_query_group_num": None if sizes.heads_kv == sizes.heads else sizes.heads_kv,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_prefix_tokens": config.pre_seq_len,
        "prefix_dropout": config.prefix_dropout,
        "prefix_projection": False,
        "prefix_projection_hidden_size": None,
        "tensor_parallel_degree": -1,
    }
    rows = to_halves(saved.tensors["key"], saved.tensors["value"])
    return {WEIGHTS: pickle.dumps({"0.weight": rows}, protocol=4), CONFIG: as_json(settings)}
