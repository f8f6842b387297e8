"""Writes small random checkpoints with transformers, most with one WordPiece tokenizer: make_checkpoints.py DIR"""

import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
COMMON = {"vocab_size": 200, "max_position_embeddings": 160, "pad_token_id": 0}
# As microsoft/deberta-base, deberta-v2-xlarge and deberta-v3-base have it, with distances that reach the far buckets.
DEBERTA = {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_biased_input": False, "type_vocab_size": 0}
DEBERTA |= {"pooler_dropout": 0.1, "cls_dropout": 0.2}
DEBERTA_V2 = {**DEBERTA, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True}
MODERNBERT = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES, **COMMON),
    "roberta": transformers.RobertaConfig(**SIZES, **{**COMMON, "pad_token_id": 1}),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES, **{**COMMON, "pad_token_id": 1}),
    "distilbert": transformers.DistilBertConfig(dim=32, n_layers=3, n_heads=4, hidden_dim=48, **COMMON),
    "electra": transformers.ElectraConfig(**SIZES, **COMMON, embedding_size=16),
    "electra-one-width": transformers.ElectraConfig(**SIZES, **COMMON, embedding_size=32),
    "ernie": transformers.ErnieConfig(**SIZES, **COMMON, use_task_id=True, type_vocab_size=4),
    "ernie-no-task": transformers.ErnieConfig(**SIZES, **COMMON),
    "albert": transformers.AlbertConfig(**SIZES, **COMMON, embedding_size=16),
    "albert-groups": transformers.AlbertConfig(
        **SIZES, **COMMON, embedding_size=16, num_hidden_groups=2, inner_group_num=2
    ),
    "modernbert": transformers.ModernBertConfig(**SIZES, **COMMON, **MODERNBERT, local_attention=8),
    "modernbert-biases": transformers.ModernBertConfig(
        **{**SIZES, **COMMON, **MODERNBERT, "local_attention": 4, "global_attn_every_n_layers": 2},
        **{f"{part}_bias": True for part in ("norm", "attention", "mlp", "classifier", "decoder")},
        **{"classifier_activation": "silu", "hidden_activation": "gelu_pytorch_tanh", "norm_eps": 1e-3},
    ),
    "mpnet": transformers.MPNetConfig(**SIZES, **{**COMMON, "pad_token_id": 1}),
    "deberta": transformers.DebertaConfig(**SIZES, **COMMON, **DEBERTA),
    "deberta-v2": transformers.DebertaV2Config(**SIZES, **COMMON, **DEBERTA_V2, conv_kernel_size=3, conv_act="gelu"),
    "deberta-v3": transformers.DebertaV2Config(**SIZES, **COMMON, **DEBERTA_V2, legacy=False),
    "roformer": transformers.RoFormerConfig(**SIZES, **COMMON),  # stands for all that have an attention of their own
}

# also as masked language models
WITH_HEAD = ("bert", "roberta", "distilbert", "electra", "ernie", "albert", "modernbert", "modernbert-biases", "mpnet")
WITH_HEAD += ("deberta", "deberta-v2", "deberta-v3")


def shaken(model):
    """`model` with biases and norms off their zeros and ones, or mistakes in them hide."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


def tokenizer(pad):
    words = ["[PAD]", "[UNK]"] if pad == 0 else ["[UNK]", "[PAD]"]
    words += ["[CLS]", "[SEP]", "[MASK]"]
    words += [chr(c) for c in range(ord("a"), ord("z") + 1)] + [f"##{chr(c)}" for c in range(ord("a"), ord("z") + 1)]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def sentencepiece_tokenizer():
    """DeBERTa-v3's: pieces with scores instead of a word list."""
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁", "▁it", "▁isn", "bad", "部电影", "ö", "[MASK]"]
    scored = [(piece, 0.0 if piece.startswith("[") else -2.0) for piece in pieces]
    scored += [(chr(c), -5.0) for c in range(ord("a"), ord("z") + 1)]
    return transformers.DebertaV2Tokenizer(vocab=scored)


def main(folder):
    for number, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        shaken(transformers.AutoModel.from_config(config)).save_pretrained(folder / name)
        made = sentencepiece_tokenizer() if name == "deberta-v3" else tokenizer(config.pad_token_id)
        made.save_pretrained(folder / name)
        if name in WITH_HEAD:
            model = shaken(transformers.AutoModelForMaskedLM.from_config(config))
            model.save_pretrained(folder / f"{name}-mlm")
            tokenizer(config.pad_token_id).save_pretrained(folder / f"{name}-mlm")
    model = transformers.AutoModel.from_pretrained(folder / "bert")
    model.save_pretrained(folder / "bert-sharded", max_shard_size="20KB")
    tokenizer(0).save_pretrained(folder / "bert-sharded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
