"""Write a model of BLOOM's layout with random weights and a byte-level tokenizer, to measure with where there is none.

The defaults are a small one's; --hidden_size 2048 --layers 24 --heads 16 --vocab_size 46145 are bloom-1b4-zh's, which
has 1,303,111,680 parameters (5.2 GB). What it writes makes no sense.

Usage: make_bloom.py FOLDER [--hidden_size 64] [--layers 2] [--heads 4] [--vocab_size 512]
"""

import argparse
import json
from pathlib import Path

import numpy
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]  # as BLOOM numbers them


def shapes(hidden: int, layers: int, words: int) -> dict[str, tuple[int, ...]]:
    """The tensors' names and shapes, but for the norms'."""
    made = {"word_embeddings.weight": (words, hidden)}
    for layer in range(layers):
        for name, (out, width) in {
            "self_attention.query_key_value": (3 * hidden, hidden),
            "self_attention.dense": (hidden, hidden),
            "mlp.dense_h_to_4h": (4 * hidden, hidden),
            "mlp.dense_4h_to_h": (hidden, 4 * hidden),
        }.items():
            made |= {f"h.{layer}.{name}.weight": (out, width), f"h.{layer}.{name}.bias": (out,)}
    return made


def norms(layers: int) -> list[str]:
    """The norms' names."""
    inner = [f"h.{layer}.{name}" for layer in range(layers) for name in ("input_layernorm", "post_attention_layernorm")]
    return ["word_embeddings_layernorm", *inner, "ln_f"]


def write_tokenizer(folder: Path) -> None:
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(SPECIAL + alphabet)}, []))
    made.add_special_tokens(SPECIAL)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "eos_token": "</s>"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in {"hidden_size": 64, "layers": 2, "heads": 4, "vocab_size": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.vocab_size < 260 or options.hidden_size % options.heads:
        parser.error("--vocab_size is from 260, the bytes' and four more, and --heads divide --hidden_size")
    options.folder.mkdir(parents=True)
    write_tokenizer(options.folder)
    hidden, draw = options.hidden_size, numpy.random.default_rng(0)
    tensors = {
        name: draw.standard_normal(shape, dtype="float32") * numpy.float32(0.02)
        for name, shape in shapes(hidden, options.layers, options.vocab_size).items()
    }
    for name in norms(options.layers):
        tensors |= {f"{name}.weight": numpy.ones(hidden, "float32"), f"{name}.bias": numpy.zeros(hidden, "float32")}
    save_file({f"transformer.{name}": x for name, x in tensors.items()}, options.folder / "model.safetensors")
    config = {
        **{"model_type": "bloom", "vocab_size": options.vocab_size, "hidden_size": hidden},
        **{"n_layer": options.layers, "n_head": options.heads},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3},
    }
    (options.folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
