"""What is cut to max_seq_length is counted and reported, for every task and from every entry."""

import json

import fastprompt as fp
from fastprompt.data.encoding import encode
from fastprompt.data.examples import ClozeTexts, LabelledTexts, MultipleChoices, SquadData, SquadQuestion, TextToText
from fastprompt.data.squad_windows import make_windows

import pytest

LONG = "a b c d e f g h i j"
CLOZE = ("--template", "[X] a [MASK]", "--verbalizer", '{"negative": "b", "positive": "c"}')
CUT = {
    "texts": (LabelledTexts(["a", LONG, LONG], [0, 1, 0]), "2 of 3 texts are cut to 8 tokens (max_seq_length)."),
    "pairs": (
        LabelledTexts(["a", "a", LONG], [0, 1, 0], pairs=["b", LONG, "b"]),
        "2 of 3 pairs of texts are cut to 8 tokens (max_seq_length).",
    ),
    "numbers": (LabelledTexts([LONG], [0.5], None), "1 of 1 texts are cut to 8 tokens (max_seq_length)."),
    "choices": (
        MultipleChoices([[("a", LONG), (LONG, "b")], [("a", "b"), ("a", "c")]], [0, 1]),
        "1 of 2 examples with choices are cut to 8 tokens (max_seq_length).",
    ),
    "cloze": (
        ClozeTexts(["a", LONG], [0, 1], "[X] a [MASK]"),
        "1 of 2 texts in the template are cut to 8 tokens (max_seq_length).",
    ),
    "text to text": (TextToText(["a", LONG], ["b", "c"]), "Of 2 texts 1 are cut at 8 tokens (max_seq_length), and 0"),
}


@pytest.fixture
def letters(tiny, monkeypatch):
    tokenizer = fp.load_tokenizer(tiny["bert-mlm"])
    monkeypatch.setattr(type(tokenizer), "eos_token_id", 3, raising=False)  # for text to text; BERT's has none
    return tokenizer


@pytest.mark.once
@pytest.mark.parametrize("kind", CUT)
def test_what_is_cut_is_counted(letters, kind):
    data, message = CUT[kind]
    notes = []
    rows = encode(data, letters, 8, notes)
    assert [note[: len(message)] for note in notes] == [message]
    assert all("cut" not in row for row in rows)
    fitting = []
    encode(data, letters, 99, fitting)
    assert fitting == []


@pytest.mark.once
def test_a_text_that_just_fits_is_not_counted(letters):
    notes = []
    encode(LabelledTexts(["a b c d e f"], [0]), letters, 8, notes)
    encode(ClozeTexts(["a b c d"], [0], "[X] a [MASK]"), letters, 8, notes)
    assert notes == []


@pytest.mark.once
def test_questions_report_what_was_cut_when_they_became_windows(letters):
    question = SquadQuestion("1", LONG, "a b c", [("a", 0)])
    windows = make_windows(SquadData([question], False), letters, 16, doc_stride=2, max_query_length=4)
    notes = []
    encode(windows, letters, 16, notes)
    assert notes == ["1 of 1 questions were cut to 4 tokens (max_query_length)."]


def test_a_script_is_warned(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    texts = LabelledTexts(["a", LONG], [0, 1])
    with pytest.warns(UserWarning, match=r"1 of 2 texts are cut to 8 tokens \(max_seq_length\)\."):
        fp.make_dataloader(texts, tokenizer, max_length=8)
    notes = []
    fp.make_dataloader(texts, tokenizer, max_length=8, notes=notes)
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("backbone", "options", "what"), [("bert", (), "texts"), ("bert-mlm", CLOZE, "texts in the template")]
)
def test_train_evaluate_and_predict_say_what_they_cut(
    tiny, train_here, command, tmp_path, capfd, backbone, options, what
):
    (tmp_path / "train.tsv").write_text(f"sentence\tlabel\n{LONG}\t0\na\t1\n{LONG}\t1\nb\t0\n")
    (tmp_path / "dev.tsv").write_text(f"sentence\tlabel\n{LONG}\t0\na\t1\n")
    task = ("--task_name", "glue", "--dataset_name", "sst2", "--data_dir", tmp_path)
    train_here(
        *("--model_name_or_path", tiny[backbone], *task, *options, "--max_seq_length", 8, "--pre_seq_len", 2),
        *("--num_train_epochs", 1, "--output_dir", tmp_path / "run"),
    )
    printed = capfd.readouterr().err
    assert f"note: 2 of 4 {what} are cut to 8 tokens (max_seq_length)." in printed
    assert f"note: 1 of 2 {what} are cut to 8 tokens (max_seq_length)." in printed
    lines = f"a\n{LONG}\nb\n".encode()
    done = command("predict", "--model_name_or_path", tmp_path / "run", "--format", "jsonl", stdin=lines)
    assert f"note: 1 of 3 {what} are cut to 8 tokens (max_seq_length)." in done.stderr.decode()
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", LONG, "b"]
