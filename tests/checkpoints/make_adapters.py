"""Writes PEFT adapters with their own logits on one padded batch, and reads them back: make_adapters.py DIR TINY...

make_adapters.py make DIR CHECKPOINTS   DIR/<family>-<kind>/: adapter, logits.npy, batch.npz
make_adapters.py logits ADAPTER BACKBONE NUM_LABELS BATCH OUT   the logits that PEFT gives a stored adapter
"""

import sys
from pathlib import Path

import numpy
import peft
import torch
from transformers import AutoModelForSequenceClassification

LABELS = 3
CASES = [
    *(("bert", "prefix", 0.3), ("roberta", "prefix", 0.3), ("electra", "prefix", 0.3)),
    *(("bert", "prompt", 0.3), ("bert", "ptuning", 0.3), ("roberta", "prompt", 0.3)),
    *(("bert", "prefix", 1.5),),  # large entries
]
CONFIGS = {
    "prefix": lambda: peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5),
    "prompt": lambda: peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5),
    "ptuning": lambda: peft.PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=5, encoder_hidden_size=16),
    "lora": lambda: peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]),
}


def batch(pad):
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(12) < torch.tensor([12, 7, 3, 9])[:, None]).long()
    ids = torch.randint(5, 60, (4, 12), generator=generator)
    return {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}


def stock(folder, num_labels):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels)


def make(out, checkpoints):
    for family, kind, size in [*CASES, ("bert", "lora", 1.0)]:
        model = peft.get_peft_model(stock(checkpoints / family, LABELS), CONFIGS[kind]())
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter) * size)
        folder = out / f"{family}-{kind}-{size}"
        model.save_pretrained(folder)
        inputs = batch(model.config.pad_token_id)
        numpy.savez(folder / "batch.npz", **{name: x.numpy() for name, x in inputs.items()})
        with torch.no_grad():
            numpy.save(folder / "logits.npy", model.eval()(**inputs).logits.numpy())


def logits(adapter, backbone, num_labels, inputs, out):
    model = peft.PeftModel.from_pretrained(stock(backbone, int(num_labels)), adapter).eval()
    with torch.no_grad():
        numpy.save(out, model(**{name: torch.tensor(x) for name, x in numpy.load(inputs).items()}).logits.numpy())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*map(Path, sys.argv[2:]))
    else:
        logits(*sys.argv[2:])
