"""What transformers itself makes of prompts on causal models: logits, gradients and greedy tokens, on torch.

A deep prefix is given to the stock model as past keys and values; the tokens' positions are counted as without it, and
"shifted" from its length on. BLOOM counts them itself, so a prefix that stands nowhere is written out by hand there.

Usage: causal_reference.py OUTPUT BATCH.npz NAME=MODEL_FOLDER ...
"""

import sys
from functools import partial
from pathlib import Path

import fastprompt as fp
from fastprompt.framework import ops

import numpy
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache

METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "p-tuning": fp.PTuningConfig(num_virtual_tokens=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "fine-tuning": fp.FineTuningConfig(),
}


def masks_of(config, mask, prefix):
    """What is given to the stock model as its attention mask: the tokens' and the prefix's (B, prefix + T); where a
    window hides tokens, what each token sees, (B, 1, T, prefix + T) by kind of layer: all see the prefix."""
    batch, length = mask.shape
    if getattr(config, "sliding_window", None) is None:
        return torch.cat([torch.ones((batch, prefix), dtype=torch.long), mask], dim=1)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    seen = {"full_attention": distance >= 0}
    seen["sliding_attention"] = seen["full_attention"] & (distance < config.sliding_window)
    before = torch.ones((batch, 1, length, prefix), dtype=torch.bool)
    given = {kind: torch.cat([before, one & mask[:, None, None].bool()], dim=-1) for kind, one in seen.items()}
    lowest = torch.finfo(torch.float64).min
    given = {kind: torch.zeros(one.shape).double().masked_fill(~one, lowest) for kind, one in given.items()}
    return given if getattr(config, "layer_types", None) else given["sliding_attention"]


def stock_logits(folder, prompt, ids, mask, shift):
    """transformers' logits of a batch after the prefix of a saved prompt, its positions `shift` further on."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    stored = load_file(prompt / "prompt.safetensors")
    key, value = (torch.from_numpy(stored[name]).double() for name in ("key", "value"))
    cache, (batch, _), length = DynamicCache(), ids.shape, key.shape[2]
    for layer in range(key.shape[0]):
        pair = [x[layer].expand(batch, *x.shape[1:]) for x in (key, value)]
        cache.update(*pair, layer)
    places = (mask.cumsum(1) - 1 + shift) * mask
    with torch.no_grad():
        whole = masks_of(model.config, mask, length)
        return model(ids, attention_mask=whole, position_ids=places, past_key_values=cache).logits.numpy()


# By number of heads, as the paper has them: where it is no power of two, the rest are those between the first.
SLOPES = {4: [2**-2, 2**-4, 2**-6, 2**-8], 6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]}


def bloom_by_hand(attention, key, value, mask):
    """The forward of one of BLOOM's attentions, a score at a time: a prefix has no distance, all others theirs."""
    places, slopes = mask.cumsum(1), torch.tensor(SLOPES[attention.num_heads])

    def forward(hidden, residual, **_):
        query, keys, values = attention._reshape(attention.query_key_value(hidden))  # (B, heads, T, head_dim)
        scale, rows = query.shape[-1] ** -0.5, []
        for i in range(query.shape[2]):
            scores = [(query[:, :, i] * key[:, p]).sum(-1) * scale for p in range(key.shape[1])]
            for j in range(i + 1):
                score = (query[:, :, i] * keys[:, :, j]).sum(-1) * scale
                score = score + slopes * (places[:, j] - places[:, i])[:, None]  # (B, heads)
                scores.append(torch.where(mask[:, j, None].bool(), score, -torch.inf))
            seen = torch.cat([value.expand(len(hidden), -1, -1, -1), values[:, :, : i + 1]], dim=2)
            rows.append((torch.stack(scores, -1).softmax(-1)[..., None] * seen).sum(2).flatten(1))
        return attention.dense(torch.stack(rows, 1)) + residual, None

    return forward


def bloom_logits(folder, prompt, ids, mask):
    """transformers' logits of BLOOM after a prefix that stands nowhere."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    stored = load_file(prompt / "prompt.safetensors")
    for layer, block in enumerate(model.transformer.h):
        pair = [torch.from_numpy(stored[name][layer]).double() for name in ("key", "value")]
        block.self_attention.forward = bloom_by_hand(block.self_attention, *pair, mask)
    with torch.no_grad():
        return model(ids, attention_mask=mask, use_cache=False).logits.numpy()


def classes(folder, output, sides):
    """Saves a classifier of transformers' and gives its logits by side."""
    torch.manual_seed(1)
    given = {"num_labels": 3, "pad_token_id": 0, "dtype": torch.float32}
    model = AutoModelForSequenceClassification.from_pretrained(folder, **given).eval()
    model.save_pretrained(output)
    found = {}
    with torch.no_grad():
        for side, (ids, mask) in sides.items():
            places = (mask.cumsum(1) - 1) * mask
            counted = {} if model.config.model_type == "bloom" else {"position_ids": places}
            found[side] = model(ids, attention_mask=mask, **counted).logits.numpy()
    return found


def main(output, batch, models):
    data = numpy.load(batch)
    sides = {
        side: (torch.from_numpy(data[f"{side}_ids"]), torch.from_numpy(data[f"{side}_mask"]))
        for side in ("left", "right")
    }
    found = {}
    for name, folder in models.items():
        stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids, mask = sides["left"]
        with torch.no_grad():
            written = stock.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
        found[f"{name} greedy"] = numpy.pad(written.numpy(), ((0, 0), (0, ids.shape[1] + 8 - written.shape[1])))
        for side, logits in classes(folder, Path(output) / f"{name}-classifier", sides).items():
            found[f"{name} {side} classes"] = logits
        for method, config in METHODS.items():
            model = fp.PromptForCausalLM.from_pretrained(folder, config, seed=3)
            prompt = Path(output) / f"{name}-{method}"
            if method != "fine-tuning":
                model.save_pretrained(prompt)
            model.train()
            ids, mask = sides["right"]
            labels = torch.where(mask.bool(), ids, -100)
            loss = model.train_step(input_ids=ids, attention_mask=mask, labels=labels)["loss"]
            tuned = model.tuned_parameters()
            for tensor, gradient in zip(tuned, ops.gradients(loss, list(tuned.values())), strict=True):
                found[f"{name} {method} gradient {tensor}"] = gradient
            if method == "p-tuning-v2":
                for side, (ids, mask) in sides.items():
                    nowhere = bloom_logits if "bloom" in name else partial(stock_logits, shift=0)
                    found[f"{name} {side} logits"] = nowhere(folder, prompt, ids, mask)
                    found[f"{name} {side} shifted logits"] = stock_logits(folder, prompt, ids, mask, 3)
    numpy.savez(Path(output) / "reference.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[3:]))
