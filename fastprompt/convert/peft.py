"""Adapters of PEFT: prefix tuning, cartridges, prompt tuning and p-tuning, as PEFT 0.21 writes and reads them.

PEFT stores what an encoder made and not the encoder. Its prefix enters through `past_key_values`, which moves the
tokens' positions; its prompt tuning pools position 0, which is a prompt vector. Padding in front
moves positions too, where it counts places and not tokens.

A cartridge is a prefix whose first tokens PEFT does not train; it goes out as prefix tuning, which gives the same
logits. Of an encoder-decoder PEFT makes twice the vectors of a shallow prompt and reads the first half. A prefix there
is the decoder's alone: layer i has pair 2 i of keys and values, counted on from the first after the last.

In a model with a sliding window PEFT's prefix counts as tokens, and those beyond the window do not see it; here all do.
Within the window the logits are the same.
"""

from pathlib import Path
from typing import Any

from fastprompt.convert.common import (
    SPAN,
    check_sizes,
    classes_of,
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
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.layout import from_chunks, to_chunks
from fastprompt.methods.p_tuning.config import PTuningConfig
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.prompt_tuning.config import PromptTuningConfig
from fastprompt.methods.registry import OF_PEFT
from fastprompt.pretrained.checkpoint import Checkpoint, read_json, weights_in
from fastprompt.pretrained.geometry import geometry
from fastprompt.saving.files import as_json, same_folder
from fastprompt.saving.prompt_file import SavedPrompt, describe

import numpy
from safetensors.numpy import save

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX, CARTRIDGE, PROMPT, P_TUNING = "PREFIX_TUNING", "CARTRIDGE", "PROMPT_TUNING", "P_TUNING"
_DEEP = (PREFIX, CARTRIDGE)
# A shallow prompt of another method is no prompt tuning, though its file looks alike.
_KINDS = {ours: theirs for theirs, ours in OF_PEFT.items()}
TASKS = {
    "SEQ_CLS": "sequence_classification",
    "TOKEN_CLS": "token_classification",
    "QUESTION_ANS": "question_answering",
    "CAUSAL_LM": "causal_lm",
    "SEQ_2_SEQ_LM": "seq2seq_lm",
}
_WITH_HEAD = ("sequence_classification", "token_classification", "question_answering")
_HEAD = "base_model."  # before the names of modules_to_save


def read(source: Path, checkpoint: Checkpoint) -> SavedPrompt:
    """The prompt of an adapter's folder."""
    path = source / CONFIG
    settings = read_json(path)
    kind, task = setting(settings, "peft_type", path), setting(settings, "task_type", path)
    if kind not in (*_DEEP, PROMPT, P_TUNING):
        raise CheckpointError(f"{source} is an adapter of the kind {kind}, which is no prompt: use PEFT itself for it.")
    if task not in TASKS:
        raise CheckpointError(f"{source} is for the task {task}; {', '.join(TASKS)} can be read.")
    task = TASKS[task]
    decodes = task == "seq2seq_lm"
    parts = settings.get("num_transformer_submodules") or 1
    if parts != 1 + decodes and (kind in _DEEP or not decodes):
        raise CheckpointError(f"{path} has num_transformer_submodules={parts}, which no prompt for {task} can have.")
    _check_backbone(settings, checkpoint, path)
    path, tensors = read_weights(source, WEIGHTS, PICKLE)
    tensors = {name.removeprefix(_HEAD): array for name, array in tensors.items()}
    length = setting(settings, "num_virtual_tokens", source / CONFIG)
    config = _config(kind, length, settings, source / CONFIG, task)
    if kind in _DEEP:
        sizes = prefix_sizes(checkpoint)
        rows = take(tensors, "prompt_embeddings", (length, 2 * sizes[0] * sizes[1] * sizes[2]), path)
        prompt = from_chunks(rows, *sizes)
        if decodes:
            order = _decoder_pairs(checkpoint)
            prompt = {f"decoder.{name}": array[order] for name, array in prompt.items()}
    else:
        width = geometry(checkpoint.config).embedding_size
        prompt = {"embedding": take(tensors, "prompt_embeddings", (parts * length, width), path)[:length]}
    pooler = checkpoint.family.heads.pooler if task == "sequence_classification" else None
    if pooler and not checkpoint.tensors(only={f"{pooler}.weight"}):
        raise CheckpointError(f"{checkpoint.name} has no pooler: PEFT drew one at random and did not save it.")
    head = take_head(tensors, checkpoint, task, path) if task in _WITH_HEAD else {}
    if tensors:
        raise CheckpointError(f"{path} has a tensor {min(tensors)} that a prompt has no place for.")
    names = label_names(checkpoint, classes_of(head)) if head else []
    if task == "question_answering":
        names = SPAN
    return describe(checkpoint, config, task, names, {**prompt, **head}, source)


def _check_backbone(settings: dict[str, Any], checkpoint: Checkpoint, path: Path) -> None:
    """Refuse another backbone, as far as PEFT says which it was: its sizes, and where it lay."""
    sizes = geometry(checkpoint.config)
    # Of a prefix PEFT counts the heads of keys and values.
    heads = sizes.heads_kv if settings["peft_type"] in _DEEP else sizes.heads
    check_sizes(settings, {"num_layers": sizes.layers, "num_attention_heads": heads}, checkpoint, path)
    named = settings.get("base_model_name_or_path")
    if not named or not weights_in(Path(named)) or same_folder(named, checkpoint.directory):
        return
    if Checkpoint(named).fingerprint != checkpoint.fingerprint:
        raise CheckpointError(f"{path} is for {named}, whose weights are not {checkpoint.name}'s: another backbone.")


def _decoder_pairs(checkpoint: Checkpoint) -> list[int]:
    """Which of PEFT's pairs of keys and values each layer of an encoder-decoder's decoder has.

    Raises:
        CheckpointError: encoder and decoder are of unequal depth, for which PEFT has no prefix.
    """
    sizes = geometry(checkpoint.config)
    if sizes.layers != sizes.decoder_layers:
        raise CheckpointError(
            f"{checkpoint.name} has {sizes.layers} layers in its encoder and {sizes.decoder_layers} in its decoder; "
            f"PEFT has no prefix for it."
        )
    return [2 * layer % sizes.layers for layer in range(sizes.layers)]


def _config(kind: str, length: int, settings: dict[str, Any], path: Path, task: str) -> MethodConfig:
    pooling = ("first" if kind in _DEEP else "prompt") if task == "sequence_classification" else None
    if kind in _DEEP:
        options = {"prefix_parts": ("decoder",)} if task == "seq2seq_lm" else {}
        return make_config(PTuningV2Config, path, pre_seq_len=length, shift_positions=True, pooling=pooling, **options)
    if kind == PROMPT:
        return make_config(PromptTuningConfig, path, num_virtual_tokens=length, pooling=pooling)
    return make_config(
        PTuningConfig,
        path,
        num_virtual_tokens=length,
        encoder=str(settings.get("encoder_reparameterization_type", "MLP")).lower(),
        encoder_hidden_size=settings.get("encoder_hidden_size"),
        encoder_num_layers=settings.get("encoder_num_layers", 2),
        encoder_dropout=settings.get("encoder_dropout", 0.0),
        pooling=pooling,
    )


def _kind_for(saved: SavedPrompt) -> str:
    """The kind of adapter that a prompt becomes.

    Raises:
        CheckpointError: PEFT has no such method, task, positions or pooling.
    """
    config = saved.config
    if saved.task not in TASKS.values():
        known = ", ".join(TASKS.values())
        raise CheckpointError(f"{saved.directory} is for {saved.task}; prompts for {known} can be written for PEFT.")
    kind = _KINDS.get(type(config))
    if kind is None:
        raise unsupported(saved, "PEFT", f"prompt for {config.method}")
    if kind == PREFIX and saved.task == "seq2seq_lm" and config.prefix_parts != ("decoder",):
        raise unsupported(saved, "PEFT", f"prefix of {', '.join(config.prefix_parts)}, only of a decoder")
    if kind == PREFIX and not config.shift_positions:
        raise unsupported(saved, "PEFT", "prefix that leaves the tokens' positions alone (shift_positions=False)")
    pooling = "first" if kind == PREFIX else "prompt"
    if saved.task == "sequence_classification" and config.pooling != pooling:
        raise unsupported(saved, "PEFT", f"pooling {config.pooling!r} for {config.method}, only {pooling!r}")
    return kind


def _prefix_rows(saved: SavedPrompt, checkpoint: Checkpoint) -> numpy.ndarray:
    """A deep prefix as PEFT lays it out, (num_virtual_tokens, 2 * layers * heads_kv * head_dim).

    Raises:
        CheckpointError: layers of a decoder that have one prefix in PEFT differ.
    """
    if not saved.config.prefix_parts:
        return to_chunks(saved.tensors["key"], saved.tensors["value"])
    order, pairs = _decoder_pairs(checkpoint), []
    for name in ("key", "value"):
        own = saved.tensors[f"decoder.{name}"]
        pairs.append(numpy.zeros_like(own))  # PEFT reads every other pair where their number is even
        pairs[-1][order] = own
        if not numpy.array_equal(pairs[-1][order], own):
            half = len(order) // 2
            raise unsupported(saved, "PEFT", f"prefix of its own for a decoder's layer {half}, only that of layer 0")
    return to_chunks(*pairs)


def write(saved: SavedPrompt, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of an adapter's folder, by name."""
    kind, config, sizes = _kind_for(saved), saved.config, prefix_sizes(checkpoint)
    rows = _prefix_rows(saved, checkpoint) if kind == PREFIX else saved.tensors["embedding"]
    head = {n: x for n, x in saved.tensors.items() if n not in config.prompt_tensors and not n.startswith("prompt.")}
    if pooler := next((name for name in head if "pooler" in name), None):
        raise unsupported(saved, "PEFT", f"place for a trained pooler ({pooler})")
    if saved.task in _WITH_HEAD:
        head |= whole_head(saved, checkpoint)  # PEFT's file has even a frozen one
    layers, heads, head_dim = sizes
    if kind != PREFIX:
        heads = geometry(checkpoint.config).heads
    settings = {
        "peft_type": kind,
        "task_type": next(theirs for theirs, ours in TASKS.items() if ours == saved.task),
        "base_model_name_or_path": saved.backbone_name,
        "inference_mode": True,
        "num_virtual_tokens": len(rows),
        "num_transformer_submodules": 2 if kind == PREFIX and saved.task == "seq2seq_lm" else 1,
        "num_layers": layers,
        "num_attention_heads": heads,
        "token_dim": heads * head_dim if kind == PREFIX else rows.shape[1],
        "modules_to_save": sorted({name.split(".")[0] for name in head}) or None,
    }
    if kind == PREFIX:
        settings |= {"prefix_projection": False, "encoder_hidden_size": heads * head_dim}
    elif kind == P_TUNING:
        settings |= {
            "encoder_reparameterization_type": config.encoder.upper(),
            "encoder_hidden_size": config.encoder_hidden_size or rows.shape[1],
            "encoder_num_layers": config.encoder_num_layers,
            "encoder_dropout": config.encoder_dropout,
        }
    tensors = {"prompt_embeddings": rows, **{_HEAD + name: array for name, array in head.items()}}
    return {WEIGHTS: save(tensors, {"format": "pt"}), CONFIG: as_json(settings)}
