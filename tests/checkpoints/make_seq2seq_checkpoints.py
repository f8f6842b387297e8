"""Writes small random encoder-decoders with a word-level tokenizer, by transformers: make_seq2seq_checkpoints.py DIR"""

import json
import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

HEADS = 4
SIZES = {"vocab_size": 60, "d_model": 32, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 0}
T5 = {**SIZES, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": HEADS, "pad_token_id": 0}
BART = {
    **{**SIZES, "pad_token_id": 3, "max_position_embeddings": 40, "scale_embedding": True},
    **{"encoder_layers": 2, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 48},
    **{"decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 48},
}
# The seeds' models repeat fewer words than others.
CONFIGS = {
    "t5": (1, transformers.T5Config(**T5)),
    "flan-t5": (5, transformers.T5Config(**T5, num_decoder_layers=3, feed_forward_proj="gated-gelu")),
    "mt5": (4, transformers.MT5Config(**T5, num_decoder_layers=3)),
    "bart": (0, transformers.BartConfig(**BART)),
}
STD = {"shared": 0.3, "embed_positions": 1.0, "relative_attention_bias": 1.0}  # of a layer's numbers; others: 0.5


def write_mild(config, folder):
    """A model of the numbers that transformers begins with, nearly: rounding stays small on its way through."""
    model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.03)
        if config.model_type == "mt5":  # its logits were 15 and more, and their rounding with them
            model.decoder.final_layer_norm.weight.mul_(0.3)
    model.save_pretrained(folder)


def main(folder):
    words = ["<pad>", "</s>", "<s>", "<unk>", *(f"word{number}" for number in range(4, 60))]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
    for name, (seed, config) in CONFIGS.items():
        torch.manual_seed(seed)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        if name in ("flan-t5", "mt5"):  # as published: a vocabulary head of its own
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(60, 32))
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                if tensor.ndim == 1:
                    tensor.add_(torch.randn_like(tensor) * 0.1)
                else:
                    tensor.copy_(torch.randn_like(tensor) * STD.get(key.split(".")[-2], 0.5))
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.normal_(std=0.1)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        write_mild(config, folder / f"{name}-mild")
    settings = json.loads((folder / "flan-t5" / "config.json").read_text())
    del settings["scale_decoder_outputs"]  # as published: this goes by the other, which transformers 5 would change
    (folder / "flan-t5" / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
