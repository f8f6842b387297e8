"""Write small random causal checkpoints, as transformers writes them, into the folder given."""

import sys
from pathlib import Path

import torch
import transformers

BLOOM = {"vocab_size": 99, "n_layer": 3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
KIN = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "head_dim": 8}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": transformers.LlamaConfig(**KIN, **ENDS, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "llama-tied": transformers.LlamaConfig(
        **{**KIN, **ENDS, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
    ),
    "llama-3.1": transformers.LlamaConfig(
        **{**KIN, "head_dim": 16},  # frequencies on both sides of the two bounds, and between them
        **ENDS,
        rope_parameters={
            **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 32},
            **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        },
    ),
    "qwen2": transformers.Qwen2Config(**KIN, **ENDS, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**{**KIN, "head_dim": 12}, **ENDS),
    "gpt2": transformers.GPT2Config(
        vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=64, **ENDS, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
    "bloom": transformers.BloomConfig(**BLOOM, hidden_size=32, n_head=4),
    "bloom-six": transformers.BloomConfig(
        **BLOOM, hidden_size=36, n_head=6, apply_residual_connection_post_layernorm=True
    ),
    # Windows that are smaller than the texts of tests.
    "mistral": transformers.MistralConfig(**KIN, **ENDS, sliding_window=4),
    "qwen2-window": transformers.Qwen2Config(
        **KIN, **ENDS, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "gemma": transformers.GemmaConfig(**{**KIN, "num_key_value_heads": 1, "head_dim": 12}, **ENDS),
    "gemma2": transformers.Gemma2Config(
        **{**KIN, "head_dim": 12},
        **ENDS,
        sliding_window=4,
        query_pre_attn_scalar=20,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "phi3": transformers.Phi3Config(**KIN, **ENDS, resid_pdrop=0.0),
}


def main(folder: Path) -> None:
    for number, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.randn_like(tensor) * 0.1)
        model.save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
