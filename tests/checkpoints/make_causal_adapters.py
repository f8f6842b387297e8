"""Writes PEFT adapters for causal language models with their own logits and greedy tokens, and reads them back.

make_causal_adapters.py make DIR CHECKPOINTS   DIR/<family>-<kind>/: adapter, found.npz
make_causal_adapters.py read ADAPTER BACKBONE OUT   what PEFT gives a stored adapter
"""

import sys
from pathlib import Path

import numpy
import peft
import torch
from transformers import AutoModelForCausalLM

FAMILIES = ("gpt2", "llama", "bloom")
CONFIGS = {
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "ptuning": lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_hidden_size=16),
}


def batch():
    """Four texts of unequal lengths, padded at the end."""
    mask = (torch.arange(12) < torch.tensor([12, 7, 3, 9])[:, None]).long()
    ids = torch.randint(5, 90, (4, 12), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * mask, "attention_mask": mask}


def measure(model, out):
    model.eval()
    inputs = batch()
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()
        first = {name: x[:1] for name, x in inputs.items()}
        tokens = model.generate(**first, max_new_tokens=12, do_sample=False, eos_token_id=98, pad_token_id=0).numpy()
    numpy.savez(out, logits=logits, tokens=tokens, **{name: x.numpy() for name, x in inputs.items()})


def make(out, checkpoints):
    for family in FAMILIES:
        for kind, config in CONFIGS.items():
            model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(checkpoints / family), config())
            torch.manual_seed(1)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.copy_(torch.randn_like(parameter) * 0.5)
            model.save_pretrained(out / f"{family}-{kind}")
            measure(model, out / f"{family}-{kind}" / "found.npz")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*map(Path, sys.argv[2:]))
    else:
        adapter, backbone, out = sys.argv[2:]
        measure(peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), adapter), out)
