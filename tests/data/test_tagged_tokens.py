"""Named entities and semantic roles: column files, predicates, and a word's tag at its first token."""

import json
import sys
from types import SimpleNamespace

import fastprompt as fp
from fastprompt.data.encoding import READ, encode
from fastprompt.data.examples import TaggedTokens
from fastprompt.data.readers.conll import load_ner, load_srl, read_conll, read_srl
from fastprompt.data.tasks import load_task
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.metrics.tasks import task_metrics

import numpy
import pytest

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def read(tmp_path, text, *arguments, reader=read_conll):
    path = tmp_path / "train.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return reader(path, *arguments)


def tags_of(data):
    return [[data.label_names[tag] for tag in tags] for tags in data.tags]


def test_conll_2003s_columns_are_read(tmp_path):
    found = read(tmp_path, CONLL_2003)
    assert found.tokens == [["EU", "rejects", "German", "call"], ["Peter", "Blackburn"]]
    assert tags_of(found) == [["B-ORG", "O", "B-MISC", "O"], ["B-PER", "I-PER"]]
    assert found.label_names == ["O", "B-MISC", "B-ORG", "B-PER", "I-PER"]
    assert found.pairs is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("gap", [" ", "\t", "   "])
def test_spaces_tabs_and_line_ends_of_all_kinds(tmp_path, gap, end):
    lines = ["中", "国", "", "  ", "", "北", "京"]
    text = end.join(f"{x}{gap}B-LOC" if x.strip() else x for x in lines)  # no line end after the last
    assert read(tmp_path, "\ufeff" + text).tokens == [["中", "国"], ["北", "京"]]


def test_tabs_keep_the_spaces_of_tokens(tmp_path):
    assert read(tmp_path, "New York\tB-LOC\n").tokens == [["New York"]]
    assert read(tmp_path, "10\u00a0000 O\n").tokens == [["10\u00a0000"]]


def test_spaces_after_a_tag_are_no_part_of_it(tmp_path):
    found = read(tmp_path, "a\tB-X \nb\tB-X\n")
    assert (found.label_names, found.tags) == (["O", "B-X"], [[1, 1]])


def test_another_column_holds_the_tag(tmp_path):
    assert tags_of(read(tmp_path, CONLL_2003, None, 3))[0] == ["B-NP", "B-VP", "B-NP", "I-NP"]
    with pytest.raises(DataError, match=r"line 3: no tag, for there are 4 columns"):
        read(tmp_path, CONLL_2003, None, 5)
    with pytest.raises(DataError, match="line 3: the tag 'NNP' is neither O nor"):
        read(tmp_path, CONLL_2003, None, 2)


def test_iob1_and_iobes_stay_as_they_are_written(tmp_path):
    found = read(tmp_path, "a I-X\nb B-X\nc E-X\nd S-X\n")
    assert tags_of(found) == [["I-X", "B-X", "E-X", "S-X"]]
    assert found.label_names == ["O", "B-X", "E-X", "I-X", "S-X"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a N O\nb O\n", "line 2: 2 columns where the first line has 3"),
        ("a O\n\nb N O\n", "line 3: 3 columns where the first line has 2"),
        ("a\n", "line 1: no tag, for there are 1 columns"),
        ("a B_PER\n", "line 1: the tag 'B_PER' is neither O nor B-TYPE"),
        ("a\tO\n\tO\n", "line 2: the token is empty"),
        ("a\tO\nb\t\n", "line 2: the tag is empty"),
        ("", "has no sentences"),
        ("-DOCSTART- O\n\n", "has no sentences"),
    ],
)
def test_a_file_that_is_no_conll_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_tags_that_training_does_not_know_are_refused_by_name(tmp_path):
    (tmp_path / "valid.txt").write_text("a B-PER\nb B-GPE\n")
    train = read(tmp_path, CONLL_2003)
    with pytest.raises(DataError, match=r"valid.txt, line 2: the tag 'B-GPE' does not occur in training.* O, B-MISC"):
        load_task("ner", "mine", tmp_path, "validation", label_names=train.label_names)
    (tmp_path / "valid.txt").write_text("a B-PER\nb I-PER\n")
    found = load_task("ner", None, tmp_path, "validation", label_names=train.label_names)
    assert (found.tags, found.label_names) == ([[3, 4]], train.label_names)


def test_the_hubs_conll_2003_keeps_its_order_of_tags(monkeypatch):
    names = ["O", "B-PER", "I-PER"]

    class Rows(dict):
        features = {"ner_tags": SimpleNamespace(feature=SimpleNamespace(names=names))}  # noqa: RUF012

    asked = []

    def load_dataset(*arguments, **options):
        asked.append((*arguments, options))
        return Rows(tokens=[["Ann", "left"]], ner_tags=[[1, 0]])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert load_ner("train") == TaggedTokens([["Ann", "left"]], [[1, 0]], names)
    assert asked == [("eriktks/conll2003", None, {"split": "train", "revision": "refs/convert/parquet"})]


# -- semantic roles --------------------------------------------------------------------------------------------------

SRL = """2 A date has n't been set . ||| B-ARG1 I-ARG1 O B-ARGM-NEG O B-V O

0 Go there ||| B-V B-ARGM-DIR
"""


def test_predicates_are_the_second_segment(tmp_path):
    found = read(tmp_path, SRL, reader=read_srl)
    assert found.tokens == [["A", "date", "has", "n't", "been", "set", "."], ["Go", "there"]]
    assert found.pairs == [["has"], ["Go"]]
    assert tags_of(found)[1] == ["B-V", "B-ARGM-DIR"]
    assert found.label_names[0] == "O"
    assert len(found.head(1).pairs) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a b ||| O\n", "line 1: 2 tokens and 1 tags"),
        ("2 a b ||| O O\n", "line 1: the predicate's position is 2, counted from 0, of 2 tokens"),
        ("-1 a ||| O\n", "line 1: the predicate's position, the tokens"),
        ("x a ||| O\n", "line 1: the predicate's position, the tokens"),
        ("0 a O\n", "line 1: the predicate's position, the tokens"),
        ("0 ||| \n", "line 1: the predicate's position, the tokens"),
        ("||| O\n", "line 1: the predicate's position, the tokens"),
        ("0 a ||| V\n", "line 1: the tag 'V' is neither O nor"),
        ("\n", "has no sentences"),
    ],
)
def test_a_line_without_its_predicate_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, reader=read_srl)


def test_p_tuning_v2s_file_names_are_found(tmp_path):
    (tmp_path / "conll05.train.txt").write_text(SRL)
    (tmp_path / "conll05.devel.txt").write_text("0 Go ||| B-V\n")
    (tmp_path / "conll05.test.wsj.txt").write_text("")
    train = load_srl("train", tmp_path)
    assert len(load_task("srl", "conll2005", tmp_path, "validation", label_names=train.label_names)) == 1


# -- tokens ----------------------------------------------------------------------------------------------------------


def tagged(*sentences, names=("O", "B-X", "I-X"), pairs=None):
    return TaggedTokens([list(words) for words, _ in sentences], [list(t) for _, t in sentences], list(names), pairs)


def test_a_words_tag_stands_at_its_first_token(tiny):
    """The tiny tokenizer's tokens are letters."""
    (row,) = encode(tagged((["ab", "c", "de"], [1, 2, 0])), fp.load_tokenizer(tiny["bert"]), 20)
    assert row["labels"] == [-100, 1, -100, 2, 0, -100, -100]
    assert row["input_ids"] == fp.load_tokenizer(tiny["bert"])(["ab c de"])[0]["input_ids"]


def test_a_predicate_has_no_tags(tiny):
    (row,) = encode(tagged((["ab", "c"], [1, 2]), pairs=[["c"]]), fp.load_tokenizer(tiny["bert"]), 20)
    assert row["labels"] == [-100, 1, -100, 2, -100, -100, -100]
    assert row["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1]


def test_words_that_are_cut_off_are_counted(tiny):
    notes = []
    sentences = (["ab", "cd", "ef"], [1, 2, 0]), (["a"], [1]), (["a", "\u200b"], [1, 0])  # the last word has no token
    rows = encode(tagged(*sentences), fp.load_tokenizer(tiny["bert"]), 5, notes)
    assert [row["labels"] for row in rows] == [[-100, 1, -100, 2, -100], [-100, 1, -100], [-100, 1, -100]]
    assert [row["unread_tags"] for row in rows] == [[READ, READ, 0], [READ], [READ, 0]]
    assert notes == [
        "2 words of 2 in 3 sentences are not read (1 are cut off after 5 tokens (max_seq_length), 1 have no token of "
        "this vocabulary); they are not learnt and get no tag, and entity_f1 takes O as their prediction."
    ]
    notes = []
    rows = encode(tagged(*sentences[:2]), fp.load_tokenizer(tiny["bert"]), 20, notes)
    assert notes == []
    assert all(set(row) == {"input_ids", "token_type_ids", "labels"} for row in rows)


def test_a_predicate_is_not_cut(tiny):
    data = tagged((["abcdef"], [1]), pairs=[["xyz"]])
    tokenizer = fp.load_tokenizer(tiny["bert"])
    (row,) = encode(data, tokenizer, 8)
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1]
    with pytest.raises(ConfigError, match="cannot be cut to max_seq_length 5"):
        encode(data, tokenizer, 5)


def test_one_cut_does_not_outlive_its_call(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    for cut in (lambda: tokenizer(["aa"], max_length=3), lambda: tokenizer.windows(["a"], ["aaaa"], 6, 1)):
        cut()
        assert len(tokenizer(["a" * 30])[0]["input_ids"]) == 32


STOCK = """
import json, sys
from transformers import AutoTokenizer
words, predicates = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    options = {"add_prefix_space": True} if "bytes" in folder else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    for pair in ([words], [words, predicates]):
        found = tokenizer(*pair, is_split_into_words=True, truncation="only_first", max_length=24)
        print(json.dumps([[ids, [w if s == 0 else None for w, s in zip(found.word_ids(i), found.sequence_ids(i))]]
            for i, ids in enumerate(found["input_ids"])]))
"""
BPE = """
import sys
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast
made = ByteLevelBPETokenizer()
made.train_from_iterator(["the quick brown foxes were jumping over lazy dogs"] * 9, vocab_size=300,
    special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
made.save_model(sys.argv[1])
RobertaTokenizerFast(vocab=sys.argv[1] + "/vocab.json", merges=sys.argv[1] + "/merges.txt").save_pretrained(sys.argv[1])
"""


@pytest.mark.once
def test_words_are_tokenised_as_transformers_does(run_python, minilm, tiny, tmp_path):
    folder = tmp_path / "bytes"
    folder.mkdir()
    run_python("torch", "-c", BPE, folder)
    words = [["The", "quick", "foxes", "weren't", "naïve", "🙂"], ["北", "京", "dogs"], ["x"] * 40]
    predicates = [["weren't"], ["dogs"], ["x"]]
    folders = [minilm, tiny["roberta"], folder]
    done = run_python("torch", "-c", STOCK, json.dumps([words, predicates]), *folders)
    lines = iter(done.stdout.splitlines()[-6:])
    for place in folders:
        for pairs in (None, predicates):
            rows = fp.load_tokenizer(place).words(words, pairs, 24)
            assert [[row["input_ids"], row["word_ids"]] for row in rows] == json.loads(next(lines))


def test_batches_of_tags_are_scored(tiny):
    data = tagged((["ab", "c", "de"], [1, 2, 0]), (["a"], [1]))
    (batch,) = fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]))
    labels = ops.to_numpy(batch["labels"])
    assert labels.shape == tuple(batch["input_ids"].shape) == (2, 7)
    assert labels[0].tolist() == [-100, 1, -100, -100, -100, -100, -100]
    metric = task_metrics("ner", None, data)["entity_f1"]
    metric.update(ops.tensor(numpy.maximum(labels, 0)), batch["labels"])
    assert metric.get_metric()["entity_f1"] == 1.0
