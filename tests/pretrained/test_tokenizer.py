"""Token ids of every form a checkpoint's tokenizer is published in are AutoTokenizer's, or the file is named."""

import json

import fastprompt as fp
from fastprompt.errors import CheckpointError

import pytest
from tokenizers import BertWordPieceTokenizer, Tokenizer, decoders, models, pre_tokenizers, processors

pytestmark = pytest.mark.once

LETTERS = [*"abcdefgh", *("##" + letter for letter in "abcdefgh"), "A", "B", "é", "##é", "中", "文", "##文"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
NEXT = len(WORDS)
TEXTS = [
    "ab cd",
    "AB éa",
    "中文 a",
    "[E1] a",
    "new a newc a",
    "NEW [MASK] a",
    "[M] a",
    "<mask>a b",
    "[IMG] a [E2]",
    "c.d",
]
PAIRS = list(reversed(TEXTS))


def token(content, special):
    options = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": not special}
    return {"content": content, "special": special, **options}


DECODER = {str(NEXT): token("[E1]", True), str(NEXT + 1): token("newc", False)}
BYTES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
BYTES |= {"cls_token": "<s>", "sep_token": "</s>"}
GPT2 = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"}

# name -> the kind of vocabulary, model_type, tokenizer_config.json (None: there is none), and further files
FORMS = {
    "vocabulary": ("words", "bert", None, {}),
    "cased": ("words", "bert", {"do_lower_case": False}, {}),
    "accents": ("words", "electra", {"strip_accents": False}, {}),
    "chinese": ("words", "ernie", {"tokenize_chinese_chars": False}, {}),
    "added_tokens.json": ("words", "bert", None, {"added_tokens.json": {"[E1]": NEXT, "new": NEXT + 1}}),
    "added_tokens_decoder": ("words", "bert", {"added_tokens_decoder": DECODER}, {}),
    "additional_special_tokens": ("words", "bert", {"additional_special_tokens": ["[E1]", "[E2]"]}, {}),
    "additional and added": (
        *("words", "bert", {"additional_special_tokens": ["[E1]"]}),
        {"added_tokens.json": {"new": NEXT + 1, "[E1]": NEXT}},
    ),
    "extra_special_tokens": ("words", "bert", {"extra_special_tokens": {"image_token": "[IMG]"}}, {}),
    "special_tokens_map.json": (
        *("words", "bert", {"mask_token": "[MASK]"}),
        {"special_tokens_map.json": {"mask_token": "[M]", "additional_special_tokens": ["[E1]"]}},
    ),
    "without a mask": ("maskless", "bert", None, {}),
    "json": ("whole", "bert", None, {}),
    "json cased by its settings": ("whole", "distilbert", {"do_lower_case": False}, {}),
    "json cased by itself": ("cased", "bert", {"tokenizer_class": "BertTokenizer"}, {}),
    "json of a fast class": ("cased", "bert", {"tokenizer_class": "PreTrainedTokenizerFast"}, {}),
    "json with accents": ("whole", "bert", {"strip_accents": False, "tokenize_chinese_chars": False}, {}),
    "json and added_tokens.json": ("whole", "bert", None, {"added_tokens.json": {"[E1]": NEXT, "newc": NEXT + 1}}),
    "json and added_tokens_decoder": ("whole", "bert", {"added_tokens_decoder": DECODER}, {}),
    "json and additional": ("whole", "bert", {"additional_special_tokens": ["[E1]"]}, {}),
    "bytes": ("bytes", "roberta", BYTES, {}),
    "bytes after a space": ("bytes", "roberta", {**BYTES, "add_prefix_space": True}, {}),
    "bytes and additional": ("bytes", "roberta", {**BYTES, "additional_special_tokens": ["[E1]"]}, {}),
    "gpt2 with a pad token": ("plain bytes", "gpt2", {**GPT2, "pad_token": "[PAD]"}, {}),
    "gpt2 after a space": ("plain bytes", "gpt2", {**GPT2, "add_prefix_space": True}, {}),
    "llama's additional": (
        *("plain bytes", "llama"),
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "additional_special_tokens": ["[E1]"]},
        {},
    ),
}


def byte_level(whole):
    listed = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa"]
    made = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(listed)}, merges=[("Ġ", "a")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if whole:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def make(folder, form):
    kind, model_type, config, files = FORMS[form]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    words = [word for word in WORDS if kind != "maskless" or word != "[MASK]"]
    if kind in ("words", "maskless"):
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    elif kind in ("whole", "cased"):
        vocabulary = {word: number for number, word in enumerate(words)}
        BertWordPieceTokenizer(vocabulary, lowercase=kind == "whole").save(str(folder / "tokenizer.json"))
    else:
        byte_level(kind == "bytes").save(str(folder / "tokenizer.json"))
    if config is not None:
        files = {**files, "tokenizer_config.json": config}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


STOCK = """
import json, sys
from transformers import AutoTokenizer
texts, pairs = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = tokenizer(texts)["input_ids"] + tokenizer(texts, pairs)["input_ids"]
    print(json.dumps([rows, tokenizer.pad_token_id, tokenizer.mask_token_id]))
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory, run_python):
    """name -> the folder of a form, and what AutoTokenizer makes of it."""
    root = tmp_path_factory.mktemp("forms")
    folders = {form: make(root / form, form) for form in FORMS}
    done = run_python("torch", "-c", STOCK, json.dumps([TEXTS, PAIRS]), *folders.values())
    lines = done.stdout.splitlines()[-len(folders) :]
    return {form: (folder, json.loads(line)) for (form, folder), line in zip(folders.items(), lines, strict=True)}


@pytest.mark.parametrize("form", FORMS)
def test_token_ids_are_autotokenizers(expected, form):
    folder, (rows, pad, mask) = expected[form]
    tokenizer = fp.load_tokenizer(folder)
    found = tokenizer(TEXTS) + tokenizer(TEXTS, PAIRS)
    for text, ours, theirs in zip(TEXTS * 2, found, rows, strict=True):
        assert ours["input_ids"] == theirs, text
    if pad is not None:
        assert tokenizer.pad_token_id == pad
    if mask is not None:
        assert tokenizer.mask_token_id == mask


def refused(tmp_path, config, files=(), model_type="bert"):
    FORMS["refused"] = ("words", model_type, config, dict(files))
    try:
        folder = make(tmp_path / "refused", "refused")
    finally:
        del FORMS["refused"]
    with pytest.raises(CheckpointError) as error:
        fp.load_tokenizer(folder)
    return str(error.value)


def test_ids_that_no_tokenizer_would_give_are_refused_by_their_file(tmp_path):
    decoder = {str(NEXT + 9): token("[E1]", True)}
    message = refused(tmp_path / "a", {"added_tokens_decoder": decoder})
    assert f"tokenizer_config.json gives '[E1]' the id {NEXT + 9}, and its place in the vocabulary is {NEXT}" in message
    message = refused(tmp_path / "b", None, {"added_tokens.json": {"[MASK]": 3}})
    assert "added_tokens.json gives '[MASK]' the id 3, and its place in the vocabulary is 4" in message


@pytest.mark.parametrize(
    ("config", "model_type", "named"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "bert", "BertJapaneseTokenizer"),
        (None, "mpnet", "MPNetTokenizer"),
        (None, "roformer", "that of roformer"),
    ],
)
def test_vocabularies_that_take_more_than_their_file_are_refused(tmp_path, config, model_type, named):
    message = refused(tmp_path, config, model_type=model_type)
    assert f"vocab.txt is read as a BERT vocabulary, and the folder's tokenizer is {named}" in message
