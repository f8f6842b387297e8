"""Writes what tests/saving/test_earlier_files.py reads: make_earlier_files.py /earlier, under torch, then under each
other framework.

Small backbones, a prompt of every method and task on them with its inputs and logits, and for each framework a
checkpoint in the midst of a run with what the run came to. It ran once, with the code of the version that the folder is
named for (commit 5b02f4b), and what it wrote is in the repository: a later version must read those files, so they are
never written again. A new format of a file gets a folder of its own beside them.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import fastprompt as fp
from fastprompt.framework import nn, ops

import numpy
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "dull", "film", "warm", "cold", "and", "it", "was"]
SIZES = {"vocab_size": 24, "pad_token_id": 0}
ENCODER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
BACKBONES = {
    "bert": (
        transformers.AutoModelForMaskedLM,
        transformers.BertConfig(**SIZES, **ENCODER, max_position_embeddings=24),
    ),
    "gpt2": (
        transformers.AutoModelForCausalLM,
        transformers.GPT2Config(
            **SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=24, n_inner=20, bos_token_id=2, eos_token_id=3
        ),
    ),
    "t5": (
        transformers.AutoModelForSeq2SeqLM,
        transformers.T5Config(
            **SIZES, d_model=16, d_kv=8, d_ff=20, num_layers=2, num_heads=2, eos_token_id=3, decoder_start_token_id=0
        ),
    ),
}
PLAIN = {"template": "[X] it was [MASK]", "verbalizer": {"bad": ["dull", "cold"], "good": ["fine"]}}
PLACED = {**PLAIN, "template": "[P] a [P] [X] [MASK] [P]"}
IDS = numpy.array([[2, 5, 6, 8, 11, 7, 3], [2, 9, 8, 3, 0, 0, 0]])
TEXTS = {"input_ids": IDS, "attention_mask": (IDS > 0).astype("int64")}
CHOICES = {name: numpy.stack([array, array[::-1], array]) for name, array in TEXTS.items()}
ANSWERS = {**TEXTS, "labels": numpy.array([[5, 6, 7, 3], [8, 3, -100, -100]])}
METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3),
    "projection": fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_hidden_size=7),
    "p-tuning-lstm": fp.PTuningConfig(num_virtual_tokens=3, encoder_hidden_size=4),
    "p-tuning-mlp": fp.PTuningConfig(num_virtual_tokens=3, encoder="mlp", encoder_hidden_size=7),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "shallow-prefix": fp.ShallowPrefixConfig(pre_seq_len=3),
    "linear-probe": fp.LinearProbeConfig(),
    "bitfit": fp.BitFitConfig(),
    "fine-tuning": fp.FineTuningConfig(),
}
DEEP, BEFORE = METHODS["p-tuning-v2"], METHODS["prompt-tuning"]
CLASSES = {"label_names": ["bad", "good", "neither"]}
# name -> class, backbone, configuration, further options, inputs
PROMPTS = {
    **{
        f"classes-{name}": ("PromptForSequenceClassification", "bert", config, CLASSES, TEXTS)
        for name, config in METHODS.items()
    },
    "classes-causal": ("PromptForSequenceClassification", "gpt2", DEEP, CLASSES, TEXTS),
    "several-labels": (
        *("PromptForSequenceClassification", "bert", DEEP),
        *({"num_labels": 3, "problem_type": "multi_label_classification"}, TEXTS),
    ),
    "number": ("PromptForSequenceClassification", "bert", DEEP, {"problem_type": "regression"}, TEXTS),
    "tokens": ("PromptForTokenClassification", "bert", DEEP, {"label_names": ["O", "B-PER", "I-PER"]}, TEXTS),
    "questions": ("PromptForQuestionAnswering", "bert", DEEP, {}, TEXTS),
    "choices": ("PromptForMultipleChoice", "bert", DEEP, {}, CHOICES),
    "cloze-deep": ("PromptForMaskedLM", "bert", fp.PTuningV2Config(pre_seq_len=3, **PLAIN), {}, None),
    "cloze-p-tuning": ("PromptForMaskedLM", "bert", fp.PTuningConfig(encoder_hidden_size=4, **PLACED), {}, None),
    "cloze-fine-tuning": ("PromptForMaskedLM", "bert", fp.FineTuningConfig(**PLAIN), {}, None),
    "causal-deep": ("PromptForCausalLM", "gpt2", DEEP, {}, TEXTS),
    "causal-prompt-tuning": ("PromptForCausalLM", "gpt2", BEFORE, {}, TEXTS),
    "seq2seq-deep": ("PromptForSeq2SeqLM", "t5", DEEP, {}, ANSWERS),
    "seq2seq-prompt-tuning": ("PromptForSeq2SeqLM", "t5", BEFORE, {}, ANSWERS),
}
CLOZE = ["a fine film", "cold and dull"]  # the texts of the cloze prompts
ROWS = [("a fine film", 1), ("a dull film", 0), ("warm and fine", 1), ("cold and dull", 0)] * 4
# Four steps, a checkpoint after two; no dropout, so that every framework takes the same ones.
RUN = [
    *("--task_name", "glue", "--dataset_name", "sst2", "--pre_seq_len", "3", "--num_train_epochs", "2"),
    *("--per_device_train_batch_size", "8", "--learning_rate", "0.01", "--logging_steps", "1", "--save_steps", "2"),
    *("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--seed", "7"),
]


def make_backbone(name: str, folder: Path) -> None:
    kind, config = BACKBONES[name]
    torch.manual_seed(0)
    model = kind.from_config(config)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.2)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    named = {f"{word[1:-1].lower()}_token": word for word in WORDS[:5]}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def cloze_inputs(model) -> dict[str, numpy.ndarray]:
    from fastprompt.data.loading import PadBatch
    from fastprompt.data.tokenization import load_tokenizer

    tokenizer = load_tokenizer("backbones/bert")
    rows = fp.Template(model.method_config.template).lay_out(CLOZE, tokenizer, 20)
    return {name: numpy.array(array) for name, array in PadBatch(tokenizer.pad_token_id)(rows).items()}


def make_prompt(name: str, arrays: dict[str, numpy.ndarray]) -> dict[str, str]:
    kind, backbone, config, options, inputs = PROMPTS[name]
    model = getattr(fp, kind).from_pretrained(f"backbones/{backbone}", config, seed=1, **options)
    random = numpy.random.default_rng(0)
    for parameter in model.tuned_parameters().values():
        array = ops.to_numpy(parameter)
        nn.set_value(parameter, array + random.normal(0, 0.3, array.shape).astype("float32"))
    model.save_pretrained(f"prompts/{name}")
    model.eval()
    inputs = cloze_inputs(model) if inputs is None else inputs
    arrays |= {f"{name}/{key}": numpy.ascontiguousarray(array) for key, array in inputs.items()}
    arrays[f"{name}/logits"] = ops.to_numpy(model(**{key: ops.tensor(array) for key, array in inputs.items()}).logits)
    return {"class": kind, "backbone": backbone}


def make_run(folder: Path) -> None:
    """A run as one that ended after step 2 left it, and what it came to: its prompt and its losses."""
    from fastprompt.cli import make_parser
    from fastprompt.options import gather
    from fastprompt.running import train

    folders = ["--model_name_or_path", "backbones/bert", "--data_dir", "data", "--output_dir", str(folder)]
    given = vars(make_parser().parse_args(["train", *folders, *RUN]))
    del given["command"]
    train(gather(given))
    history = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    losses = numpy.array([json.loads(line)["loss"] for line in history])
    arrays = {**load_file(folder / "prompt.safetensors"), "losses": losses}
    for path in folder.iterdir():
        if path.name != "checkpoint-2":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "history.jsonl").write_text("".join(history[:2]))
    save_file(arrays, folder.with_suffix(".safetensors"))


def make_data(folder: Path) -> None:
    folder.mkdir()
    lines = [f"{text}\t{label}\n" for text, label in ROWS]
    for file, few in (("train.tsv", lines), ("dev.tsv", lines[:4])):
        (folder / file).write_text("sentence\tlabel\n" + "".join(few))


def main() -> None:
    if fp.backend() == "torch":
        for name in BACKBONES:
            make_backbone(name, Path("backbones") / name)
        arrays = {}
        prompts = {name: make_prompt(name, arrays) for name in PROMPTS}
        Path("contents.json").write_text(json.dumps({"prompts": prompts, "run": RUN}, indent=1) + "\n")
        save_file(arrays, "arrays.safetensors")
        make_data(Path("data"))
        Path("checkpoints").mkdir()
    make_run(Path("checkpoints") / fp.backend())


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(exist_ok=True)
    os.chdir(sys.argv[1])
    main()
