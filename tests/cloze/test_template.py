"""Templates and verbalizers: where the text, the blank and the pseudo tokens of a cloze stand, and what is refused."""

import json

import fastprompt as fp
from fastprompt.cloze.template import Template, written
from fastprompt.cloze.verbalizer import check_verbalizer, read_verbalizer
from fastprompt.data.cloze import word_ids
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.tokenizer import load_tokenizer

import numpy
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

pytestmark = pytest.mark.once

PAD, UNK, CLS, SEP, MASK = range(5)


def letter(word):
    """Its id in the small checkpoints' vocabulary, whose words are letters."""
    return 5 + ord(word) - ord("a")


@pytest.fixture(scope="module")
def letters(tiny):
    return load_tokenizer(tiny["bert-mlm"])


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """(RoBERTa's kind of tokenizer, whose words begin with their space; the folder it is read from)"""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(["Dante was born in Florence .", "It was great , a great film ."] * 9, trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder = tmp_path_factory.mktemp("byte-level")
    made.save(str(folder / "tokenizer.json"))
    settings = {"pad_token": "<pad>", "mask_token": "<mask>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return made, folder


# --- layout -----------------------------------------------------------------------------------------------------------


def test_pseudo_tokens_and_the_blank_stand_where_they_are_written(letters):
    (row,) = Template("[P] a [P][P] [X] b [MASK] . [P]").lay_out(["c d"], letters, 99)
    a, b, c, d = map(letter, "abcd")
    assert row["input_ids"] == [CLS, MASK, a, MASK, MASK, c, d, b, MASK, UNK, MASK, SEP]
    assert row["pseudo_tokens"] == [0, 1, 0, 2, 3, 0, 0, 0, 0, 0, 4, 0]
    assert row["mask_positions"] == 8
    assert row["token_type_ids"] == [0] * 12


def test_p_tunings_numbers_mean_what_its_own_code_makes_of_them(letters):
    """[CLS], the first pseudo tokens, the blank, the second, the subject, the third, [SEP]."""
    (row,) = Template("(3, 2, 1)").lay_out(["c"], letters, 99)
    assert row["pseudo_tokens"] == [0, 1, 2, 3, 0, 4, 5, 0, 6, 0]
    assert row["mask_positions"] == 4
    assert row["input_ids"][7] == letter("c")
    assert written("(2,1,0)") == "[P][P] [MASK] [P] [X] ."
    assert Template("(0, 0, 0)").text == "[MASK] [X] ."


def test_a_template_without_pseudo_tokens_names_none(letters):
    (row,) = Template("[X] [MASK]").lay_out(["c"], letters, 99)
    assert "pseudo_tokens" not in row


def test_a_filled_template_has_the_ids_of_its_text(minilm):
    tokenizer = load_tokenizer(minilm)
    names = ["Dante", "A. Rather-Long Name, Jr.", "Brassaï", "北京"]
    rows = Template("The native language of [X] is [MASK].").lay_out(names, tokenizer, 99)
    whole = tokenizer([f"The native language of {name} is [MASK]." for name in names])
    assert [row["input_ids"] for row in rows] == [row["input_ids"] for row in whole]
    assert all(row["input_ids"][row["mask_positions"]] == tokenizer.mask_token_id for row in rows)


@pytest.mark.parametrize("text", ["[X] was born in [MASK] .", "It was [MASK] , a great [X]", "[MASK] was [X]!"])
def test_words_of_a_byte_level_vocabulary_keep_their_spaces(byte_level, text):
    fast, folder = byte_level
    (row,) = Template(text).lay_out(["Florence"], load_tokenizer(folder), 99)
    assert row["input_ids"] == fast.encode(text.replace("[X]", "Florence").replace("[MASK]", "<mask>")).ids


def test_a_subject_after_a_pseudo_token_is_a_word_of_its_own(byte_level):
    fast, folder = byte_level
    (row,) = Template("[P] [X] [MASK]").lay_out(["Florence"], load_tokenizer(folder), 99)
    assert row["input_ids"][2:-2] == fast.encode(" Florence", add_special_tokens=False).ids


def test_the_blank_is_the_templates_where_the_text_has_one_of_its_own(letters):
    (row,) = Template("[X] a [MASK]").lay_out(["c [MASK] d"], letters, 99)
    assert row["input_ids"].count(MASK) == 2
    assert row["mask_positions"] == len(row["input_ids"]) - 2


@pytest.mark.parametrize("length", [7, 8, 12])
def test_a_long_text_is_cut_and_the_template_never(letters, length):
    template = Template("[P] a [X] b [MASK]")
    short, long = template.lay_out(["c", "c d e f g h i j k l m"], letters, length)
    assert len(long["input_ids"]) == length
    assert long["input_ids"][:4] == [CLS, MASK, letter("a"), letter("c")]
    assert long["input_ids"][-3:] == [letter("b"), MASK, SEP] == short["input_ids"][-3:]
    assert long["mask_positions"] == length - 2


def test_a_text_is_cut_though_its_words_join_the_templates(letters):
    """ "[X]d": what is cut off changes the word that is left."""
    (row,) = Template("[X]d [MASK]").lay_out(["abc abc"], letters, 6)
    assert len(row["input_ids"]) <= 6
    assert row["input_ids"][-2:] == [MASK, SEP]


def test_a_template_that_leaves_no_room_for_a_text_is_refused(letters):
    with pytest.raises(ConfigError, match="alone takes all the tokens"):
        Template("[P][P][P] a [X] b [MASK]").lay_out(["c"], letters, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("It was [X] .", r"has no blank \(\[MASK\]\)"),
        ("[X] is [MASK] or [MASK]", r"has 2 blank \(\[MASK\]\)"),
        ("It was [MASK] .", r"has no place for the text \(\[X\]\)"),
        ("[X] [X] [MASK]", r"has 2 place for the text"),
        ("(3, 3)", "has no blank"),
    ],
)
def test_a_template_needs_one_blank_and_one_text(text, message):
    with pytest.raises(ConfigError, match=message):
        fp.PTuningConfig(template=text)


def test_a_tokenizer_without_a_mask_token_is_refused_by_name(byte_level, tmp_path):
    _, folder = byte_level
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    with pytest.raises(CheckpointError, match="has no mask token"):
        Template("[X] [MASK]").lay_out(["a"], load_tokenizer(tmp_path), 9)


# --- the number of pseudo tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (fp.PTuningConfig, "num_virtual_tokens"),
        (fp.PromptTuningConfig, "num_virtual_tokens"),
        (fp.ShallowPrefixConfig, "pre_seq_len"),
    ],
)
def test_the_templates_pseudo_tokens_are_the_prompts_length(kind, name):
    assert kind(template="(3, 3, 3)").length == 9
    assert kind(template="(3, 3, 3)", **{name: 9}).length == 9
    assert kind(template="[X] [MASK]").length == 20 == kind().length
    assert kind(template="[X] [MASK]", **{name: 4}).length == 4
    with pytest.raises(ConfigError, match=f"{name} is 8, and the template has 9 pseudo tokens"):
        kind(template="(3, 3, 3)", **{name: 8})


def test_pseudo_tokens_are_refused_where_nothing_would_stand_in_them():
    for kind in (fp.PTuningV2Config, fp.FineTuningConfig, fp.ManualConfig):
        with pytest.raises(ConfigError, match="has 9 pseudo tokens"):
            kind(template="(3, 3, 3)")


# --- verbalizers ------------------------------------------------------------------------------------------------------


def test_a_verbalizer_is_read_from_text_and_from_a_file(tmp_path):
    (tmp_path / "words.json").write_text('{"negative": "bad", "positive": ["good", "great"]}')
    read = {"negative": ["bad"], "positive": ["good", "great"]}
    assert read_verbalizer(str(tmp_path / "words.json")) == read
    assert read_verbalizer('{"negative": ["bad"], "positive": ["good", "great"]}') == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.json", "nowhere.json is neither JSON"),
        ('{"negative": ["bad"]', "is no valid JSON"),
        ('{"negative": ["bad"]}', "two labels or more"),
        ('{"negative": [], "positive": ["good"]}', r"the label 'negative' has \[\]"),
        ('{"negative": ["bad", ""], "positive": ["good"]}', "the label 'negative' has"),
    ],
)
def test_what_is_no_verbalizer_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_verbalizer(text)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ab", r"'ab' of the label 'positive' is 2 tokens \(a ##b\) to this model's vocabulary; choose"),
        ("!", r"'!' of the label 'positive' is unknown to this model's vocabulary"),
    ],
)
def test_a_word_that_is_no_token_is_refused_by_name(letters, word, message):
    with pytest.raises(ConfigError, match=message):
        word_ids(check_verbalizer({"negative": ["b"], "positive": ["c", word]}), letters)


def test_words_are_those_inside_a_text(byte_level):
    fast, folder = byte_level
    ids = word_ids({"bad": ["was"], "good": ["great", "born"]}, load_tokenizer(folder))
    assert ids == [[fast.token_to_id("Ġwas")], [fast.token_to_id("Ġgreat"), fast.token_to_id("Ġborn")]]


def test_whole_words_are_neither_parts_nor_special_tokens(letters, byte_level, minilm):
    assert letters.whole_words == [letter(chr(c)) for c in range(ord("a"), ord("z") + 1)]
    fast, folder = byte_level
    words = {fast.id_to_token(i) for i in load_tokenizer(folder).whole_words}
    assert {"Ġwas", "Ġgreat"} <= words
    assert not words & {"great", "<s>", "<mask>", "<unk>"}
    tokenizer = load_tokenizer(minilm)
    assert len(tokenizer.whole_words) == len(numpy.unique(tokenizer.whole_words)) == 23_694
