"""Checkpoints of P-Tuning v2's own code (THUDM): a whole transformers model with `prefix_encoder.*` beside it.

Its prefix enters through `past_key_values`, which moves the tokens' positions, and dropout blurs it as it does the
hidden states. Its RoBERTa classifier is a pooler and one layer, unlike transformers' own, which we follow.
"""

from pathlib import Path

from fastprompt.convert.common import (
    label_names,
    make_config,
    prefix_sizes,
    read_weights,
    setting,
    take,
    take_head,
    unsupported,
    whole_head,
)
from fastprompt.errors import CheckpointError
from fastprompt.methods.layout import from_chunks, to_chunks
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.p_tuning_v2.projection import project
from fastprompt.pretrained.checkpoint import Checkpoint, read_json
from fastprompt.pretrained.geometry import geometry
from fastprompt.saving.files import as_json
from fastprompt.saving.prompt_file import SavedPrompt, describe

import numpy
from safetensors.numpy import save

CONFIG, WEIGHTS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"
_ENCODER = "prefix_encoder."
_PROJECTION = ("trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias")
_ARCHITECTURE = "BertPrefixForSequenceClassification"
_POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")


def read(source: Path, checkpoint: Checkpoint) -> SavedPrompt:
    """The prompt of a checkpoint's folder."""
    settings = read_json(source / CONFIG)
    kind = (settings.get("architectures") or [_ARCHITECTURE])[0]
    if kind != _ARCHITECTURE or checkpoint.model_type != "bert":
        raise CheckpointError(
            f"{source} holds a {kind} on a {checkpoint.model_type} model; {_ARCHITECTURE} on BERT can be read so far."
        )
    path, tensors = read_weights(source, WEIGHTS, PICKLE)
    if f"{_ENCODER}embedding.weight" not in tensors:
        raise CheckpointError(f"{path} has no {_ENCODER}embedding.weight; was it trained with --prefix?")
    pooler = _check_backbone(tensors, checkpoint, path)
    head = take_head(tensors, checkpoint, "sequence_classification", path) | pooler
    config = make_config(
        PTuningV2Config,
        source / CONFIG,
        pre_seq_len=setting(settings, "pre_seq_len", source / CONFIG),
        prefix_projection=settings.get("prefix_projection", False),
        prefix_hidden_size=settings.get("prefix_hidden_size", 512),
        prefix_dropout=settings.get("hidden_dropout_prob", 0.1),
        shift_positions=True,
        pooling="first",
    )
    prompt = _take_encoder(tensors, config, checkpoint, path)
    if tensors:
        raise CheckpointError(f"{path} has a tensor {min(tensors)} that a prompt has no place for.")
    names = label_names(checkpoint, len(head["classifier.bias"]), settings)
    return describe(checkpoint, config, "sequence_classification", names, {**prompt, **head}, source)


def _check_backbone(tensors: dict[str, numpy.ndarray], checkpoint: Checkpoint, path: Path) -> dict[str, numpy.ndarray]:
    """Remove the backbone from `tensors`, which must be `checkpoint`'s; returns a pooler that is not."""
    own = {f"bert.{name}": array for name, array in checkpoint.tensors().items() if not name.startswith("head:")}
    fresh = {}
    if missing := sorted(set(own) - set(tensors)):
        raise CheckpointError(
            f"{path} lacks {missing[0]}, which {checkpoint.name} has; name the backbone of the prompt."
        )
    for name in [name for name in tensors if name.startswith("bert.")]:
        array = tensors.pop(name)
        if name in _POOLER and name not in own:
            fresh[name] = array.astype("float32")
        elif not name.endswith(".position_ids") and not numpy.array_equal(array, own.get(name)):  # a buffer
            raise CheckpointError(
                f"{path}: {name} is not that of {checkpoint.name}; name the backbone that it was tuned on "
                f"(a backbone that was trained too cannot be read)."
            )
    return fresh


def _take_encoder(
    tensors: dict[str, numpy.ndarray], config: PTuningV2Config, checkpoint: Checkpoint, path: Path
) -> dict[str, numpy.ndarray]:
    sizes, hidden = prefix_sizes(checkpoint), geometry(checkpoint.config).hidden_size
    width, inner = 2 * sizes[0] * sizes[1] * sizes[2], config.prefix_hidden_size
    first = (config.pre_seq_len, hidden if config.prefix_projection else width)
    rows = take(tensors, f"{_ENCODER}embedding.weight", first, path)
    if not config.prefix_projection:
        return from_chunks(rows, *sizes)
    shapes = ((inner, hidden), (inner,), (width, inner), (width,))
    layers = [take(tensors, _ENCODER + name, shape, path) for name, shape in zip(_PROJECTION, shapes, strict=True)]
    encoder = {f"prompt.{name}": array for name, array in zip(_PROJECTION, layers, strict=True)}
    return {**from_chunks(project(rows, *layers), *sizes), "prompt.embedding.weight": rows, **encoder}


def write(saved: SavedPrompt, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint that P-Tuning v2's `from_pretrained` loads, by name."""
    config, tool = saved.config, "P-Tuning v2"
    if saved.task != "sequence_classification" or saved.model_type != "bert":
        raise unsupported(saved, tool, f"classifier as ours for {saved.task} on {saved.model_type}")
    if not isinstance(config, PTuningV2Config):
        raise unsupported(saved, tool, f"deep prefix to make from {config.method}")
    if not config.shift_positions:
        raise unsupported(saved, tool, "prefix that leaves the tokens' positions alone (shift_positions=False)")
    if config.pooling != "first":
        raise unsupported(saved, tool, f"pooling {config.pooling!r}")
    projected = config.prefix_projection and not saved.collapsed
    if projected:
        encoder = {name: saved.tensors[f"prompt.{name}"] for name in ("embedding.weight", *_PROJECTION)}
    else:
        encoder = {"embedding.weight": to_chunks(saved.tensors["key"], saved.tensors["value"])}
    model = {f"bert.{name}": x for name, x in checkpoint.tensors().items() if not name.startswith("head:")}
    model |= whole_head(saved, checkpoint)
    model |= {name: saved.tensors[name] for name in _POOLER if name in saved.tensors}
    model |= {_ENCODER + name: array for name, array in encoder.items()}
    settings = {
        **checkpoint.config,
        "architectures": [_ARCHITECTURE],
        "id2label": {str(index): name for index, name in enumerate(saved.label_names)},
        "label2id": {name: index for index, name in enumerate(saved.label_names)},
        "hidden_dropout_prob": config.prefix_dropout,
        "pre_seq_len": config.pre_seq_len,
        "prefix_projection": projected,
        "prefix_hidden_size": config.prefix_hidden_size,
    }
    return {WEIGHTS: save(model, {"format": "pt"}), CONFIG: as_json(settings)}
