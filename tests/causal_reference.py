"""What transformers itself makes of prompts on causal models: logits, gradients and greedy tokens, on torch.

A deep prefix is given to the stock model as past keys and values, the tokens' positions counted as without it.

Usage: causal_reference.py OUTPUT BATCH.npz NAME=MODEL_FOLDER ...
"""

import sys
from pathlib import Path

import fastprompt as fp
from fastprompt.framework import ops

import numpy
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, DynamicCache

METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "p-tuning": fp.PTuningConfig(num_virtual_tokens=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "fine-tuning": fp.FineTuningConfig(),
}


def stock_logits(folder, prompt, ids, mask):
    """transformers' logits of a batch behind the prefix of a saved prompt."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    stored = load_file(prompt / "prompt.safetensors")
    key, value = (torch.from_numpy(stored[name]).double() for name in ("key", "value"))
    cache, (batch, _), length = DynamicCache(), ids.shape, key.shape[2]
    for layer in range(key.shape[0]):
        pair = [x[layer].expand(batch, *x.shape[1:]) for x in (key, value)]
        cache.update(*pair, layer)
    whole = torch.cat([torch.ones((batch, length), dtype=torch.long), mask], dim=1)
    places = (mask.cumsum(1) - 1) * mask
    with torch.no_grad():
        return model(ids, attention_mask=whole, position_ids=places, past_key_values=cache).logits.numpy()


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
                    found[f"{name} {side} logits"] = stock_logits(folder, prompt, ids, mask)
    numpy.savez(Path(output) / "reference.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[3:]))
