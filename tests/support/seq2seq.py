"""Batches and models of small encoder-decoders (tests/checkpoints/make_seq2seq_checkpoints.py), for tests."""

import fastprompt as fp
from fastprompt.framework import ops, optim

import numpy

LENGTH = 3
NAMES = ["t5", "flan-t5", "mt5", "bart"]
PORTABLE = ["t5", "flan-t5", "mt5", "bart"]
# Of torch alone: the stock model, and the portable definition where there is one.
KINDS = [*((name, False) for name in NAMES), *((name, True) for name in PORTABLE)]
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
TEXT = numpy.array(
    [
        [8, 35, 25, 20, 47, 55, 31, 35, 29],
        [23, 41, 46, 40, 51, 34, 36, 36, 48],
        [22, 13, 10, 27, 43, 34, 36, 29, 33],
    ]
)
MASK = numpy.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])
ANSWER = numpy.array([[25, 7, 8, 28, 35, 45], [39, 9, 11, 28, 36, 45], [16, 51, 41, 16, 10, 21]])
LABELS = numpy.where(numpy.arange(6) < numpy.array([[6], [3], [5]]), ANSWER, -100)


def batch():
    """A batch of three texts and answers as tensors."""
    arrays = {"input_ids": TEXT, "attention_mask": MASK, "labels": LABELS}
    return {name: ops.tensor(array) for name, array in arrays.items()}


def model_of(folder, config=METHODS["p-tuning-v2"], **options):
    return fp.PromptForSeq2SeqLM.from_pretrained(folder, config, **options)


def losses_of(model, steps=20, rate=1e-1):
    model.train()
    tuned = model.trainable_parameters()
    optimizer, losses = fp.AdamW(tuned, lr=rate, weight_decay=0.0), []
    for _ in range(steps):
        loss = model.train_step(**batch())["loss"]
        losses.append(ops.to_numpy(loss).item())
        optim.step_with(optimizer, tuned, ops.gradients(loss, tuned))
    return losses
