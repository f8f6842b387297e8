"""What people pass first: NumPy's numbers, one string, None and NaN, names as a dict. It works or is refused."""

import fastprompt as fp
from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    MultipleChoices,
    TaggedTokens,
    TextToText,
)
from fastprompt.errors import ConfigError, DataError
from fastprompt.methods.checks import label_names

import numpy
import pytest

TWO = numpy.array([0, 1])
NAN = float("nan")


@pytest.mark.once
def test_numpys_numbers_are_labels():
    assert LabelledTexts(["a", "b"], TWO).labels == [0, 1]
    assert LabelledTexts(numpy.array(["a", "b"]), list(TWO)).texts == ["a", "b"]
    assert LabelledTexts(["a", "b"], numpy.array([0.5, 1]), None).labels == [0.5, 1.0]
    assert ClozeTexts(["a", "b"], TWO, "[X] [MASK]").labels == [0, 1]
    assert MultipleChoices([[("a", "b"), ("a", "c")]], TWO[1:]).labels == [1]
    tagged = TaggedTokens([numpy.array(["a", "b"])], [TWO], numpy.array(["O", "X"]))
    assert (tagged.tokens, tagged.tags, tagged.label_names) == ([["a", "b"]], [[0, 1]], ["O", "X"])
    assert all(type(label) is int for label in LabelledTexts(["a", "b"], TWO).labels)
    assert all(type(text) is str for text in LabelledTexts(numpy.array(["a", "b"]), TWO).texts)
    assert LabelledTexts(["a", "b"], [numpy.array(1), numpy.int8(0)]).labels == [1, 0]
    assert LabelledTexts(["a", "b"], [numpy.float32(0.5), numpy.int64(2)], None).labels == [0.5, 2]


def test_numpys_numbers_are_sizes_and_names_and_are_saved(tiny, tmp_path):
    config = fp.PTuningV2Config(
        pre_seq_len=numpy.int64(3), prefix_dropout=numpy.float32(0.5), prefix_projection=numpy.bool_(False)
    )
    model = fp.PromptForSequenceClassification.from_pretrained(
        tiny["bert"], config, num_labels=numpy.int64(2), label_names=numpy.array([5, 7]), seed=numpy.int64(3)
    )
    tokenizer, texts = fp.load_tokenizer(tiny["bert"]), LabelledTexts(["a", "b"], TWO, numpy.array([5, 7]))
    loader = fp.make_dataloader(texts, tokenizer, batch_size=numpy.int64(2), max_length=numpy.int64(9))
    model.text_settings = loader.text_settings
    model.save_pretrained(tmp_path)
    again = fp.PromptForSequenceClassification.from_pretrained(tmp_path, label_names=[5, 7])
    assert (again.label_names, again.num_labels) == (["5", "7"], 2)
    assert (again.method_config.pre_seq_len, again.method_config.prefix_dropout) == (3, 0.5)
    assert again.text_settings == {"max_seq_length": 9}


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelledTexts(["a", None], [0, 1]), "texts: row 1 is None, not a text; leave it out"),
        (lambda: LabelledTexts(["a", NAN], [0, 1]), "texts: row 1 is nan"),
        (lambda: LabelledTexts(["a", 3], [0, 1]), "texts: row 1 is 3"),
        (lambda: LabelledTexts(["a"], [0], pairs=[None]), "pairs: row 0 is None"),
        (lambda: LabelledTexts("ab", [0, 1]), "texts is one string, 'ab'; a list is expected"),
        (lambda: LabelledTexts({"a", "b"}, [0, 1]), "texts is of the type set"),
        (lambda: LabelledTexts(["a", "b"], [0, None]), "Row 1: the label is None"),
        (lambda: LabelledTexts(["a", "b"], [0, NAN], None), "Row 1: the label is nan"),
        (lambda: LabelledTexts(["a", "b"], numpy.array([0, 2])), "Row 1: the label is 2; classes are whole numbers"),
        (lambda: LabelledTexts(["a", "b"], [True, False]), "Row 0: the label is True; classes are whole numbers"),
        (lambda: LabelledTexts(["a"], [True], None), "Row 0: the label is True; a regression takes numbers"),
        (lambda: ClozeTexts([None], [0], "[X] [MASK]"), "texts: row 0 is None"),
        (lambda: MultipleChoices([[("a", None), ("a", "b")]], [0]), "choices of row 0: text 1 is None"),
        (lambda: MultipleChoices([[("a", "b"), ("a", "c")]], [2]), "Row 0: the label is 2; .* from 0 to 1"),
        (lambda: TaggedTokens([["a"]], [[0]], ["O"], pairs=[[None]]), "pairs of row 0: word 0 is None"),
        (lambda: TextToText([None], ["a"]), "texts: row 0 is None"),
        (lambda: TaggedTokens([["a", None]], [[0, 0]], ["O"]), "tokens of row 0: word 1 is None"),
        (lambda: TaggedTokens(["ab"], [[0, 0]], ["O"]), "tokens of row 0 is one string"),
        (lambda: Instructions(["a"], [None], ["b"], "alpaca"), "contexts: row 0 is None"),
        (lambda: TextToText(["a"], [NAN]), "outputs: row 0 is nan"),
    ],
)
def test_what_is_no_text_and_no_label_is_named_with_its_row(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_a_tokenizer_takes_lists_and_names_what_is_no_text(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    for call in (
        tokenizer,
        tokenizer.plain,
        lambda text: tokenizer.words(text, None, 9),
        lambda t: tokenizer.cut(t, 3),
    ):
        with pytest.raises(DataError, match="is one string, 'hello'; a list is expected"):
            call("hello")
    for wrong in (None, NAN, ("a", "b")):
        with pytest.raises(DataError, match=r"texts: row 1 is .*, not a text"):
            tokenizer(["a", wrong])
    for call in (
        lambda: tokenizer(["a", "b"], ["c", None]),
        lambda: tokenizer.windows(["a", "b"], ["c", None], 9, 2),
    ):
        with pytest.raises(DataError, match="pairs: row 1 is None, not a text"):
            call()
    with pytest.raises(DataError, match="texts is one string, 'ab'"):
        tokenizer.windows("ab", ["c", "d"], 9, 2)
    with pytest.raises(DataError, match="pairs of row 1: word 0 is None"):
        tokenizer.words([["a"], ["b"]], [["c"], [None]], 9)
    with pytest.raises(DataError, match="There are 2 texts and 1 pairs"):
        tokenizer(["a", "b"], ["c"])
    assert tokenizer(numpy.array(["a", "b"])) == tokenizer(("a", "b")) == tokenizer(["a", "b"])


@pytest.mark.once
def test_names_stand_in_order_whatever_way_they_are_given():
    for given in (["x", "y"], ("x", "y"), {1: "y", 0: "x"}, {"0": "x", "1": "y"}, {"y": 1, "x": numpy.int64(0)}):
        assert label_names(given) == ["x", "y"]
    assert label_names([numpy.int64(4), 5, numpy.str_("b")]) == ["4", "5", "b"]
    for wrong in (
        "xy",
        {"x", "y"},
        {"x": 1, "y": 2},
        {0: 1, 1: 2, 2: 0},
        ["x", None],
        ["x", NAN],
        ["x", "x"],
        ["1", 1],
        3,
    ):
        with pytest.raises(ConfigError, match="label_names"):
            label_names(wrong)


def test_label_names_are_a_dict_too(tiny, tmp_path):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], label_names={1: "good", 0: "bad"})
    model.save_pretrained(tmp_path)
    for again in ({"good": 1, "bad": 0}, {0: "bad", 1: "good"}, ("bad", "good")):
        again = fp.PromptForSequenceClassification.from_pretrained(tmp_path, label_names=again)
        assert again.label_names == ["bad", "good"]
    assert LabelledTexts(["a"], [1], {0: "bad", 1: "good"}).label_names == ["bad", "good"]
    with pytest.raises(ConfigError, match="label_names is 'ab'"):
        fp.PromptForTokenClassification.from_pretrained(tiny["bert"], label_names="ab")


@pytest.mark.parametrize("wrong", [{"num_labels": 2.0}, {"num_labels": 0}, {"num_labels": True}, {"seed": -1}])
def test_a_size_that_is_none_is_refused(tiny, wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name} is .*; it is a whole number from"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 2.0}, "batch_size is 2.0; it is a whole number from 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_length": 9.5}, "max_length is 9.5"),
        ({"max_length": 2}, "no room between the special tokens"),
        ({"seed": -1}, "seed is -1; it is a whole number from 0"),
    ],
)
def test_a_loaders_sizes_are_whole_numbers(tiny, wrong, message):
    with pytest.raises(ConfigError, match=message):
        fp.make_dataloader(LabelledTexts(["a"], [0]), fp.load_tokenizer(tiny["bert"]), **wrong)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pre_seq_len": 3}, "config is of the type dict; it is one of fp.PTuningV2Config, "),
        ("p-tuning", r"config is 'p-tuning'; give the method's configuration: fp.PTuningConfig\(\)"),
        (fp.PTuningV2Config, r"config is the class PTuningV2Config; give one of it: fp.PTuningV2Config\(\)"),
    ],
)
def test_what_is_no_configuration_is_refused(tiny, config, message):
    with pytest.raises(ConfigError, match=message):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config)


@pytest.mark.once
def test_pefts_configurations_are_refused_with_ours_spelled_out(tiny):
    peft = pytest.importorskip("peft")
    for theirs, ours in (
        (peft.PrefixTuningConfig(num_virtual_tokens=5), r"give ours, fp.PTuningV2Config\(pre_seq_len=5\)"),
        (peft.PromptEncoderConfig(num_virtual_tokens=6), r"give ours, fp.PTuningConfig\(num_virtual_tokens=6\)"),
        (peft.PromptTuningConfig(num_virtual_tokens=7), r"give ours, fp.PromptTuningConfig\(num_virtual_tokens=7\)"),
        (peft.LoraConfig(), "of the type LoraConfig; it is one of fp.PTuningV2Config"),
    ):
        with pytest.raises(ConfigError, match=ours):
            fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], theirs)
