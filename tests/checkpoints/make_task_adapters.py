"""Writes PEFT adapters for every task that fastprompt converts, with their own logits, and reads them back.

make_task_adapters.py make DIR TINY CAUSAL   DIR/<family>-<kind>-<task>/: adapter, found.npz; DIR/backbones/<family>/
make_task_adapters.py read ADAPTER...   logits.npy in each folder: what PEFT gives on the batch of its found.npz
"""

import json
import sys
from pathlib import Path

import numpy
import peft
import torch
import transformers

TASKS = {
    "classes": ("SEQ_CLS", transformers.AutoModelForSequenceClassification, {"num_labels": 3}),
    "tokens": ("TOKEN_CLS", transformers.AutoModelForTokenClassification, {"num_labels": 3}),
    "questions": ("QUESTION_ANS", transformers.AutoModelForQuestionAnswering, {}),
    "text": ("CAUSAL_LM", transformers.AutoModelForCausalLM, {}),
    "answers": ("SEQ_2_SEQ_LM", transformers.AutoModelForSeq2SeqLM, {}),
}
KINDS = {
    "prefix": (peft.PrefixTuningConfig, {}),
    "cartridge": (peft.CartridgeConfig, {"num_frozen_tokens": 2}),
    "prompt": (peft.PromptTuningConfig, {}),
    "ptuning": (peft.PromptEncoderConfig, {"encoder_hidden_size": 16}),
}
CASES = [
    ("bert", "cartridge", "classes"),
    *(("bert", "prefix", "tokens"), ("electra", "prefix", "tokens"), ("roberta", "ptuning", "tokens")),
    *(("bert", "prefix", "questions"), ("roberta", "cartridge", "questions"), ("ernie", "ptuning", "questions")),
    ("xlm-roberta", "prompt", "tokens"),
    *(("llama", "cartridge", "text"), ("gemma", "prompt", "text"), ("phi3", "prefix", "text")),
    *(("t5", "prompt", "answers"), ("bart", "ptuning", "answers")),
    *(("t5", "prefix", "answers"), ("bart", "prefix", "answers"), ("bart", "cartridge", "answers")),
]
SIZES = {"vocab_size": 60, "d_model": 32, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 0}
SEQ2SEQ = {
    "t5": transformers.T5Config(**SIZES, d_kv=8, d_ff=48, num_layers=3, num_heads=4, pad_token_id=0),
    "bart": transformers.BartConfig(
        **{**SIZES, "pad_token_id": 3, "max_position_embeddings": 40, "scale_embedding": True},
        **{"encoder_layers": 4, "encoder_attention_heads": 4, "encoder_ffn_dim": 48},
        **{"decoder_layers": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 48},
    ),
}


def batch(task, padding):
    """Four texts of unequal lengths, padded at the end."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(9) < torch.tensor([9, 7, 3, 8])[:, None]).long()
    ids = torch.where(mask.bool(), torch.randint(5, 60, (4, 9), generator=generator), padding or 0)
    answers = {"decoder_input_ids": torch.randint(5, 60, (4, 6), generator=generator)} if task == "answers" else {}
    return {"input_ids": ids, "attention_mask": mask, **answers}


def stock(folder, task):
    torch.manual_seed(0)
    return TASKS[task][1].from_pretrained(folder, **TASKS[task][2])


def logits(model, inputs, task):
    """The logits of the tokens themselves: PEFT's of a shallow prompt are of its positions too."""
    with torch.no_grad():
        output = model.eval()(**inputs)
    if task == "questions":
        found = torch.stack([output.start_logits, output.end_logits], dim=-1)[:, -9:]
    else:
        found = output.logits[:, -9:] if task in ("tokens", "text") else output.logits
    return found.numpy()


def make(out, tiny, causal):
    for name, config in SEQ2SEQ.items():
        torch.manual_seed(1)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.randn_like(tensor) * 0.2)
        model.save_pretrained(out / "backbones" / name)
    for family, kind, task in CASES:
        folder = {"text": causal, "answers": out / "backbones"}.get(task, tiny) / family
        made, options = KINDS[kind]
        config = made(task_type=TASKS[task][0], num_virtual_tokens=5, **options)
        model = peft.get_peft_model(stock(folder, task), config)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad or "prompt_encoder" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.4)
        adapter = out / f"{family}-{kind}-{task}"
        model.save_pretrained(adapter)
        inputs = batch(task, model.config.pad_token_id)
        arrays = {name: x.numpy() for name, x in inputs.items()}
        tokens = {}
        if task == "answers":
            read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            tokens["tokens"] = model.generate(**read, max_new_tokens=6, do_sample=False, num_beams=1).numpy()
        numpy.savez(adapter / "found.npz", logits=logits(model, inputs, task), **arrays, **tokens)


def read(adapters):
    for adapter in map(Path, adapters):
        task = adapter.name.split("-")[-1]
        settings = json.loads((adapter / "adapter_config.json").read_text())
        model = peft.PeftModel.from_pretrained(stock(settings["base_model_name_or_path"], task), adapter)
        stored = numpy.load(adapter / "found.npz")
        inputs = {name: torch.tensor(stored[name]) for name in stored.files if name not in ("logits", "tokens")}
        numpy.save(adapter / "logits.npy", logits(model, inputs, task))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*map(Path, sys.argv[2:]))
    else:
        read(sys.argv[2:])
