"""Writes small random checkpoints in the layouts of published Chinese encoders: make_chinese_checkpoints.py DIR

Configurations, tensor names and tokenizer files are as published, except that layers are few and narrow and that the
vocabularies are made up; beside each lies what transformers makes of it (expected.json, expected.safetensors).
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GOOGLE = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "pad_token_id": 0,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}
BAIDU = {
    "architectures": ["ErnieForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "model_type": "ernie",
}
SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
LAYOUTS = {  # config.json; whether its norms have the old names; tokenizer files beside vocab.txt
    "bert-base-chinese": (GOOGLE, True, {"tokenizer_config.json": {"do_lower_case": False, "model_max_length": 512}}),
    "vocabulary-alone": (GOOGLE, True, {}),
    "chinese-roberta-wwm-ext": (
        {**GOOGLE, "bos_token_id": 0, "eos_token_id": 2, "output_past": True},
        False,
        {"tokenizer_config.json": {"init_inputs": []}, "special_tokens_map.json": SPECIAL, "added_tokens.json": {}},
    ),
    "ernie-1.0-base-zh": (
        {**BAIDU, "hidden_act": "relu", "max_position_embeddings": 513, "type_vocab_size": 2, "vocab_size": 18000},
        True,
        {},
    ),
    "ernie-3.0-base-zh": (
        {
            **BAIDU,
            "hidden_act": "gelu",
            "max_position_embeddings": 2048,
            "task_type_vocab_size": 3,
            "type_vocab_size": 4,
            "use_task_id": True,
            "vocab_size": 40000,
        },
        True,
        {
            "tokenizer_config.json": {"do_lower_case": True, **SPECIAL, "tokenizer_class": "BertTokenizer"},
            "special_tokens_map.json": SPECIAL,
        },
    ),
}
TEXTS = [
    "我很喜欢这部电影。",
    "這部電影很差,浪費時間!",
    "BERT模型在NLP任务上达到SOTA,accuracy=92.5%",
    "iPhone 15 Pro Max售价\uffe59,999起",  # ￥
    "\uff26\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff54\uff48\uff11\uff12\uff13",  # full width
    "Ünïcödé résumé, cafe\u0301, İstanbul, \ufb01",
    "\u200b零宽\u200d字符\ufeff和\u00ad软连字符",
    "😀👍🏽表情和𠮷野家",  # beyond 16 bits
    "한국어와 日本語テスト、かな",
    "a\tb\nc\r\nd\u2028e\u00a0f",
    "\x00控\x07制\ufffd字符",
    "[MASK]好[SEP]吗[UNK] [unused1] [mask]",
    "①②Ⅳ㎡℃——破折号……“引号”",
    "",
    " \u3000 ",
    "中" * 600,
    "x" * 300,
]
PAIRS = list(reversed(TEXTS))


def vocabulary(size, ernie):
    """Characters from U+4E00 on, each also as a continuation, after what the published ones begin with."""
    signs = [chr(c) for c in (*range(33, 127), *range(0x3001, 0x3012), *range(0xFF01, 0xFF60), 0x2014, 0x2026, 0x201C)]
    words = ["bert", "nlp", "pro", "max", "##one", "cafe", "café", "Ünï", "uni", "##code", "テスト", "##スト", "<S>"]
    start = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"] if ernie else ["[PAD]", *(f"[unused{i}]" for i in range(1, 100))]
    start += [] if ernie else ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*(chr(c) for c in range(ord("a"), ord("z") + 1)), *"0123456789"]
    listed = list(dict.fromkeys([*start, *signs, *words, *(f"##{letter}" for letter in letters)]))
    for code in range(0x4E00, 0x9FA6):
        listed += [chr(code), f"##{chr(code)}"]
    if ernie:
        listed.insert(17963, "[UNK]")
    assert len(listed) >= size
    return listed[:size]


def make(folder, config, old_names, files):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**config, **SMALL}, indent=2))
    words = vocabulary(config["vocab_size"], config["model_type"] == "ernie")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    model = transformers.AutoModelForPreTraining.from_config(transformers.AutoConfig.from_pretrained(folder)).eval()
    with torch.no_grad():
        for tensor in model.parameters():  # biases and norms off their zeros and ones, or mistakes in them hide
            tensor.add_(torch.randn_like(tensor) * 0.1)
    tensors = {}
    for name, tensor in model.state_dict().items():
        for today, then in OLD_NAMES.items():
            name = name.replace(today, then) if old_names else name
        if name != "cls.predictions.decoder.bias":  # a second name that is younger than these files
            tensors[name] = tensor.clone().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for encoded in (
        tokenizer(TEXTS, max_length=32, truncation=True),
        tokenizer(TEXTS, PAIRS, max_length=32, truncation=True),
    ):
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        rows += [{"input_ids": i, "token_type_ids": t} for i, t in zip(ids, types, strict=True)]
    expected = {"texts": TEXTS, "pairs": PAIRS, "rows": rows, "pad_token_id": tokenizer.pad_token_id}
    (folder / "expected.json").write_text(json.dumps(expected))
    batch = tokenizer(TEXTS[:4], PAIRS[:4], padding=True, truncation=True, max_length=32, return_tensors="pt")
    states = model.double().base_model(**batch).last_hidden_state.float()
    save_file({**batch, "states": states.detach().contiguous()}, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, layout in LAYOUTS.items():
        make(Path(sys.argv[1]) / name, *layout)
