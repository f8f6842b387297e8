"""The files of a checkpoint's folder that say how its texts become tokens, read as transformers' AutoTokenizer does."""

from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError
from fastprompt.pretrained.checkpoint import read_json

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

_FIX = "AutoTokenizer.from_pretrained(...).save_pretrained(folder) writes"
_SPECIAL = {name: f"[{name.removesuffix('_token').upper()}]" for name in ("unk_token", "sep_token", "pad_token")}
_SPECIAL |= {"cls_token": "[CLS]", "mask_token": "[MASK]"}  # BERT's, in the order in which transformers adds them
# Classes of transformers that take their settings over what tokenizer.json says: BERT's by all its names, and those of
# bytes. A model type has one of them by default.
_BERT_CLASSES = {f"{name}Tokenizer" for name in ("Bert", "DistilBert", "Electra", "ConvBert", "MobileBert", "Ernie")}
_BYTE_CLASSES = {f"{name}Tokenizer" for name in ("Roberta", "GPT2", "Bart")}
_BERT_TYPES = ("bert", "distilbert", "electra", "ernie", "convbert", "mobilebert", "megatron-bert", "nezha", "layoutlm")
_DEFAULT_CLASSES = {
    **dict.fromkeys(_BERT_TYPES, "BertTokenizer"),
    **dict.fromkeys(("roberta", "bart"), "RobertaTokenizer"),
    **dict.fromkeys(("gpt2", "opt"), "GPT2Tokenizer"),
    "mpnet": "MPNetTokenizer",
}
# Settings that are kept for lists of tokens: the name before transformers 5, and the one since.
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def read_settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, and what special_tokens_map.json says beside one that lists no added tokens itself."""
    config, special = directory / "tokenizer_config.json", directory / "special_tokens_map.json"
    settings = read_json(config) if config.exists() else {}
    if special.exists() and "added_tokens_decoder" not in settings:
        settings |= read_json(special)
    return settings


def content(token: str | dict[str, Any] | None) -> str | None:
    """What a special token is written as; settings name it, or describe it."""
    return token["content"] if isinstance(token, dict) else token


def load_fast(directory: Path, settings: dict[str, Any]) -> FastTokenizer:
    """The tokenizer of tokenizer.json or vocab.txt with the folder's further tokens and its class's settings.

    Raises:
        CheckpointError: there is neither file, one cannot be read, its tokenizer is of a class that takes more than
            these files, or a token would get another id than the folder says.
    """
    whole, words = directory / "tokenizer.json", directory / "vocab.txt"
    kind = _tokenizer_class(directory, settings)
    bert = kind in _BERT_CLASSES
    if whole.exists():
        try:
            fast = FastTokenizer.from_file(str(whole))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{whole} cannot be read ({error}); fetch it again.") from error
        if (bert or kind == "MPNetTokenizer") and type(fast.normalizer) is normalizers.BertNormalizer:
            fast.normalizer = _normalizer(settings)
        if kind in _BYTE_CLASSES and type(fast.pre_tokenizer) is pre_tokenizers.ByteLevel:
            fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    elif words.exists():  # BERT checkpoints of the first years
        if not bert:
            raise CheckpointError(
                f"{words} is read as a BERT vocabulary, and the folder's tokenizer is {kind}; {_FIX} tokenizer.json."
            )
        fast = _of_vocabulary(words, settings)
    else:
        raise CheckpointError(f"{directory} has neither tokenizer.json nor vocab.txt; {_FIX} the first.")
    _add_tokens(fast, directory, settings, bert)
    return fast


def _tokenizer_class(directory: Path, settings: dict[str, Any]) -> str:
    """The class that transformers takes, without "Fast"; a description where none is named."""
    path = directory / "config.json"
    config = read_json(path) if path.exists() else {}
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if named:
        return named.removesuffix("Fast")
    # Without a config.json a tokenizer.json is taken as it is; a vocab.txt alone is of BERT's first years.
    model_type = config.get("model_type", "unnamed" if (directory / "tokenizer.json").exists() else "bert")
    return _DEFAULT_CLASSES.get(model_type, f"that of {model_type}")


def _normalizer(settings: dict[str, Any]) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )


def _of_vocabulary(words: Path, settings: dict[str, Any]) -> FastTokenizer:
    try:
        vocabulary = {word.rstrip("\n"): number for number, word in enumerate(words.open(encoding="utf-8"))}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{words} cannot be read ({error}); fetch it again.") from error
    names = {name: content(settings.get(name, default)) for name, default in _SPECIAL.items()}
    start, end = names["cls_token"], names["sep_token"]
    if missing := [name for name in (start, end, names["unk_token"]) if name not in vocabulary]:
        raise CheckpointError(f"{words} is no BERT vocabulary (it lacks {missing[0]}); {_FIX} tokenizer.json.")
    fast = FastTokenizer(models.WordPiece(vocabulary, unk_token=names["unk_token"]))
    fast.normalizer = _normalizer(settings)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece(prefix="##")
    fast.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return fast


def _add_tokens(fast: FastTokenizer, directory: Path, settings: dict[str, Any], bert: bool) -> None:
    """Tokens of the folder's settings that the tokenizer lacks, in the order in which transformers gives them ids."""
    special = [settings.get(name, default if bert else None) for name, default in _SPECIAL.items()]
    special += [token for name, token in settings.items() if name.endswith("_token") and name not in _SPECIAL]
    for name in _LISTS:
        listed = settings.get(name) or []
        special += listed.values() if isinstance(listed, dict) else listed
    special = [token for token in special if isinstance(token, str | dict) and content(token)]
    names = {content(token) for token in special}
    numbered: dict[int, AddedToken] = {}
    source = directory / "tokenizer_config.json"
    if "added_tokens_decoder" in settings:
        for number, token in settings["added_tokens_decoder"].items():
            numbered[int(number)] = _added({"special": token["content"] in names, **token})
    elif (source := directory / "added_tokens.json").exists():
        for token, number in read_json(source).items():
            numbered[number] = AddedToken(token, normalized=token not in names, special=token in names)
    fast.add_tokens([token for _, token in sorted(numbered.items(), key=lambda entry: entry[0])])
    for number, token in numbered.items():
        if fast.token_to_id(token.content) != number:
            raise CheckpointError(
                f"{source} gives {token.content!r} the id {number}, and its place in the vocabulary is "
                f"{fast.token_to_id(token.content)}; {_FIX} files that agree."
            )
    fast.add_tokens([_added(token if isinstance(token, dict) else {"content": token}) for token in special])


def _added(token: dict[str, Any]) -> AddedToken:
    """A token as settings describe it; special where they do not say."""
    options = {name: token[name] for name in ("single_word", "lstrip", "rstrip", "normalized") if name in token}
    return AddedToken(token["content"], special=token.get("special", True), **options)
