"""Every portable family at its published base size, with random weights: each framework against transformers.

    check_sizes.py FOLDER [--only FAMILY ...] [--frameworks torch paddle jittor]     (make test-sizes)

A family's weights are written into FOLDER, measured and removed. transformers' model on torch in float32 is the
reference; the portable definition on torch, paddle and jittor, each in a process of its own, computes the same batch:
hidden states, logits, gradients and one step, held to the budgets of parity. FOLDER/<family>.json keeps what was found:
a family that is there is not measured again, unless --only names it. Decoders that float32 makes too large for this
have their published widths and fewer layers.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastprompt.compare.budgets import differences
from fastprompt.compare.measure import Job, measure
from fastprompt.framework import BACKENDS
from fastprompt.launch import subprocesses
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.pretrained.families import FAMILIES

import numpy
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file, save_file

REFERENCE = "transformers"
RATE = 1e-2


@dataclass(frozen=True)
class Size:
    """A published checkpoint's sizes: what its config.json has otherwise than transformers' default of the family."""

    checkpoint: str
    settings: dict[str, Any]
    layers: int | None = None  # how many of the published ones are taken, where not all are

    def config(self) -> dict[str, Any]:
        if self.layers is None:
            return self.settings
        names = ("encoder_layers", "decoder_layers") if "encoder_layers" in self.settings else ("num_hidden_layers",)
        return {**self.settings, **dict.fromkeys(names, self.layers)}


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
SIZES = {
    "bert": Size("bert-base-uncased", {}),
    "ernie": Size(
        "ernie-3.0-base-zh",
        {"vocab_size": 40000, "max_position_embeddings": 2048, "type_vocab_size": 4, "use_task_id": True},
    ),
    "roberta": Size("roberta-base", {**ROBERTA, "vocab_size": 50265}),
    "xlm-roberta": Size("xlm-roberta-base", {**ROBERTA, "vocab_size": 250002}),
    "mpnet": Size("mpnet-base", {"vocab_size": 30527, "max_position_embeddings": 514, "layer_norm_eps": 1e-5}),
    "distilbert": Size("distilbert-base-uncased", {}),
    "electra": Size(
        "electra-base-discriminator",
        {"embedding_size": 768, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    ),
    "albert": Size(
        "albert-base-v2",
        {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "embedding_size": 128},
    ),
    "modernbert": Size("ModernBERT-base", {}),
    "deberta": Size(
        "deberta-base",
        {
            **{"vocab_size": 50265, "type_vocab_size": 0, "relative_attention": True, "max_relative_positions": -1},
            **{"pos_att_type": ["c2p", "p2c"], "position_biased_input": False, "layer_norm_eps": 1e-7},
        },
    ),
    "deberta-v2": Size(
        "deberta-v3-base",
        {
            **{"vocab_size": 128100, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
            **{"intermediate_size": 3072, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 256},
            **{"max_relative_positions": -1, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
            **{"norm_rel_ebd": "layer_norm", "position_biased_input": False},
        },
    ),
    "gpt2": Size("gpt2", {}),
    "bloom": Size("bloom-560m", {"vocab_size": 250880, "hidden_size": 1024, "n_layer": 24, "n_head": 16}),
    "llama": Size(
        "Llama-3.2-1B",
        {
            **{"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True},
            **{"rope_parameters": LLAMA3, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072},
        },
    ),
    "qwen2": Size(
        "Qwen2-0.5B",
        {
            **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
            **{"num_key_value_heads": 2, "tie_word_embeddings": True},
            **{"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
        },
    ),
    "qwen3": Size(
        "Qwen3-0.6B",
        {
            **{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
            **{"num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
            **{"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
        },
    ),
    "mistral": Size("Mistral-7B-v0.1", {"rms_norm_eps": 1e-5, "max_position_embeddings": 32768}, layers=4),
    "gemma": Size(
        "gemma-2b",
        {"hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8, "num_key_value_heads": 1},
        layers=6,
    ),
    "phi3": Size("Phi-3-mini-4k-instruct", {"sliding_window": 2047}, layers=8),
    "t5": Size(
        "t5-base",
        {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "d_kv": 64, "decoder_start_token_id": 0},
    ),
    "mt5": Size(
        "mt5-base",
        {"vocab_size": 250112, "d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12, "d_kv": 64}
        | {"decoder_start_token_id": 0},
    ),
    "bart": Size(
        "bart-base",
        {
            **{"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12},
            **{"decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072},
        },
    ),
    "mbart": Size(
        "mbart-large-50",
        {"vocab_size": 250054, "scale_embedding": True, "encoder_layers": 12, "decoder_layers": 12},
        layers=4,
    ),
}


def task_of(name: str) -> str:
    family = FAMILIES[name]
    if family.encoder_decoder:
        return "seq2seq_lm"
    return "causal_lm" if family.causal else "sequence_classification"


# --- what a child does ------------------------------------------------------------------------------------------------


def make(name: str, folder: Path) -> None:
    """Write the family's checkpoint: transformers' own first values, and noise where those are all alike."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(name, **SIZES[name].config())
    kind = {"causal_lm": transformers.AutoModelForCausalLM, "seq2seq_lm": transformers.AutoModelForSeq2SeqLM}
    torch.manual_seed(0)
    model = kind.get(task_of(name), transformers.AutoModel).from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)


def batch_of(name: str, config: dict[str, Any]) -> dict[str, numpy.ndarray]:
    """Texts of unequal lengths, padded at the end."""
    draw, task = numpy.random.default_rng(0), task_of(name)
    lengths = numpy.array([[64], [41], [23], [9]] if task == "sequence_classification" else [[32], [21]])
    mask = (numpy.arange(lengths.max()) < lengths).astype("int64")
    ids = draw.integers(5, config["vocab_size"], mask.shape)
    classes = numpy.array([0, 1, 1, 1])  # where they balance, the last gradients cancel down to noise
    return {
        "input_ids": numpy.where(mask, ids, config.get("pad_token_id") or 0),
        "attention_mask": mask,
        "labels": classes if task == "sequence_classification" else numpy.where(mask, ids, -100),
    }


def measure_one(subject: str, name: str, folder: Path) -> dict[str, Any]:
    """What one framework needs for a family, and how far it lies from the reference."""
    from fastprompt.commands.setup import peak_memory_mb
    from fastprompt.framework import ops
    from fastprompt.models.auto import model_class

    checkpoint, reference = folder / "weights", folder / "reference.safetensors"
    task, start = task_of(name), time.perf_counter()
    options = {} if FAMILIES[name].attention_dropout == () else {"attention_probs_dropout_prob": 0.0}
    config = PTuningV2Config(pre_seq_len=20)
    model = model_class(task).from_pretrained(
        checkpoint, config, seed=11, portable=subject != REFERENCE, hidden_dropout_prob=0.0, **options
    )
    model.train()
    found = {"load_seconds": time.perf_counter() - start}
    arrays = batch_of(name, model.checkpoint.config)
    batch = {key: model.tensor(array) for key, array in arrays.items()}
    job = Job(str(checkpoint), "", "", task=task, learning_rate=RATE)
    job.reference = None if subject == REFERENCE else str(reference)
    measured = measure(model, batch, job)
    tuned = model.trainable_parameters()
    for _ in range(2):  # the second is timed: the first may compile
        start = time.perf_counter()
        ops.gradients(model.train_step(**batch)["loss"], tuned)
        found["step_seconds"] = time.perf_counter() - start
    found |= {"peak_memory_mb": peak_memory_mb(), "parameters": model.count_parameters()[1]}
    if measured["logits"].ndim == 3:  # nothing reads those of padding
        measured["logits"] = measured["logits"] * arrays["attention_mask"][:, :, None].astype("float32")
    measured = {key: numpy.ascontiguousarray(array) for key, array in measured.items()}
    if subject == REFERENCE:
        save_file(measured, reference)
        return found
    worst: dict[str, list[Any]] = {}
    for one in differences(measured, load_file(reference), RATE):
        if one.quantity not in worst or one.value > worst[one.quantity][0]:
            worst[one.quantity] = [one.value, one.budget, one.name]
    return found | {"worst": worst}


# --- what the parent does ---------------------------------------------------------------------------------------------


def child(backend: str, *arguments: object) -> str | None:
    """Run this script's `--child`; why it failed, or None. The parent imports no framework: a child's peak memory is
    never less than what its parent had."""
    done = subprocesses.run(backend, [__file__, *map(str, arguments)])
    return done.reason if done.returncode else None


def check(name: str, folder: Path, frameworks: list[str]) -> dict[str, Any]:
    """Measure a family under transformers and each framework."""
    scratch = folder / f"{name}-scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    found: dict[str, Any] = {"checkpoint": SIZES[name].checkpoint, "layers": SIZES[name].layers, "subjects": {}}
    try:
        print(f"{name}: weights ...", flush=True)
        if reason := child("torch", scratch, "--child", "make", name):
            return found | {"failed": reason}
        for subject in (REFERENCE, *frameworks):
            print(f"{name}: {subject} ...", flush=True)
            backend = "torch" if subject == REFERENCE else subject
            reason = child(backend, scratch, "--child", subject, name)
            result = scratch / f"{subject}.json"
            found["subjects"][subject] = {"failed": reason} if reason else json.loads(result.read_text())
            if reason and subject == REFERENCE:
                return found | {"failed": reason}
        return found
    finally:
        shutil.rmtree(scratch)


def broken(found: dict[str, Any]) -> list[str]:
    """What failed, or lies outside its budget."""
    lines = [found["failed"]] if "failed" in found else []
    for subject, result in found["subjects"].items():
        if "failed" in result:
            lines.append(f"{subject}: {result['failed']}")
        for quantity, (value, budget, place) in result.get("worst", {}).items():
            if budget is not None and not value <= budget:
                lines.append(f"{subject}: {quantity} of {place} lies {value:.1e} away, the budget is {budget:.0e}")
    return lines


def table(results: dict[str, dict[str, Any]]) -> Table:
    quantities = ("hidden state", "logits", "gradient", "step")
    drawn = Table(
        *("family", "framework", "parameters", "load s", "step s", "peak MB", *quantities),
        title="largest differences from transformers in float32, time and memory",
    )
    for name, found in results.items():
        label = f"{name} ({found['checkpoint']}{', ' + str(found['layers']) + ' layers' if found['layers'] else ''})"
        for subject, result in found["subjects"].items():
            if "failed" in result:
                drawn.add_row(label, subject, "failed")
                continue
            cells = [f"{result[key]:.1f}" for key in ("load_seconds", "step_seconds")]
            worst = [f"{result['worst'][q][0]:.1e}" if "worst" in result else "-" for q in quantities]
            millions = f"{result['parameters'] / 1e6:.0f} M"
            drawn.add_row(label, subject, millions, *cells, f"{result['peak_memory_mb']:.0f}", *worst)
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    names = [name for name in SIZES if name in FAMILIES and FAMILIES[name].portable]
    parser.add_argument("--only", nargs="+", choices=names, metavar="FAMILY")
    parser.add_argument("--frameworks", nargs="+", choices=BACKENDS, default=list(BACKENDS), metavar="FRAMEWORK")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        subject, name = options.child
        if subject == "make":
            make(name, options.folder / "weights")
        else:
            result = measure_one(subject, name, options.folder)
            (options.folder / f"{subject}.json").write_text(json.dumps(result))
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in options.only or names:
        path = options.folder / f"{name}.json"
        if options.only or not path.exists():
            path.write_text(json.dumps(check(name, options.folder, options.frameworks)))
        results[name] = json.loads(path.read_text())
    Console(width=150).print(table(results))
    lines = [f"{name}: {line}" for name, found in results.items() for line in broken(found)]
    print("\n".join(lines) or "all lie within the budgets")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
