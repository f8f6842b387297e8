"""Small encoder-decoders, for tests."""

import fastprompt as fp
from fastprompt.framework import ops, optim

import torch
import transformers

LENGTH, HEADS = 3, 4


SIZES = {"vocab_size": 60, "d_model": 32, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 0}


T5 = {**SIZES, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": HEADS, "pad_token_id": 0}


CONFIGS = {
    "t5": transformers.T5Config(**T5),
    "flan-t5": transformers.T5Config(**T5, num_decoder_layers=3, feed_forward_proj="gated-gelu"),
    "mt5": transformers.MT5Config(**T5, num_decoder_layers=3),
    "bart": transformers.BartConfig(
        **{**SIZES, "pad_token_id": 3, "max_position_embeddings": 40, "scale_embedding": True},
        **{"encoder_layers": 2, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 48},
        **{"decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 48},
    ),
}


SEEDS = {"t5": 1, "flan-t5": 5, "mt5": 4, "bart": 0}  # their models repeat fewer words than others


SHAPES = {  # (layers, heads, head_dim) of encoder, decoder and cross-attention
    "t5": [(2, 4, 12), (2, 4, 12), (2, 4, 12)],
    "flan-t5": [(2, 4, 12), (3, 4, 12), (3, 4, 12)],
    "mt5": [(2, 4, 12), (3, 4, 12), (3, 4, 12)],
    "bart": [(2, 4, 8), (3, 2, 16), (3, 2, 16)],
}


METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=LENGTH),
    "p-tuning": fp.PTuningConfig(num_virtual_tokens=LENGTH),
}


TEXT = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(0))


MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])


ANSWER = torch.randint(4, 60, (3, 6), generator=torch.Generator().manual_seed(1))


LABELS = torch.where(torch.arange(6) < torch.tensor([[6], [3], [5]]), ANSWER, -100)


BATCH = {"input_ids": TEXT, "attention_mask": MASK, "labels": LABELS}


def model_of(folder, config=METHODS["p-tuning-v2"], **options):
    return fp.PromptForSeq2SeqLM.from_pretrained(folder, config, **options)


def losses_of(model, steps=20, rate=1e-1):
    model.train()
    tuned = model.trainable_parameters()
    optimizer, losses = fp.AdamW(tuned, lr=rate, weight_decay=0.0), []
    for _ in range(steps):
        loss = model.train_step(**BATCH)["loss"]
        losses.append(loss.item())
        optim.step_with(optimizer, tuned, ops.gradients(loss, tuned))
    return losses
