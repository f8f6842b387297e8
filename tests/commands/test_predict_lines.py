"""`predict` reads lines as `train` reads data, and a line that it cannot read leaves the others their answers."""

import io
import json

import fastprompt as fp
from fastprompt.commands.predict import main, predict
from fastprompt.data.readers.conll import read_srl
from fastprompt.data.readers.instruction import load_instructions
from fastprompt.errors import BackendError, DataError
from fastprompt.framework import runtime
from fastprompt.inference.lines import open_input
from fastprompt.options.train import TrainOptions

import pytest

TEXTS = ["a b", "c", "d e f", "g"]
GOOD = [json.dumps({"text": text}) for text in TEXTS]
BAD = {  # what each is refused with
    '{"text": "a"': "a JSON object is expected",
    "5": "an object is expected, not int",
    '{"texts": "a"}': "the key 'text' is missing",
    '{"text": null}': "'text' is NoneType, not str",
    '{"text": "a", "text_pair": "b"}': "it has the key 'text_pair', the lines before it have not",
    '{"text": "\\ud83d"}': "half a character",
    b"\xff": "is not UTF-8",
}


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """saved(kind): the folder of a fresh prompt."""
    made = {}

    def save(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("prompt")
            kind.from_pretrained(tiny["bert"]).save_pretrained(made[kind])
        return made[kind]

    return save


@pytest.fixture
def asked(saved, tmp_path):
    """asked(kind, name, lines): the answers to a file, and the error that they end with."""

    def ask(kind, name, lines, **options):
        raw = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        (tmp_path / name).write_bytes(raw)
        found, structured = open_input(str(tmp_path / name))
        answers = predict(TrainOptions(model_name_or_path=str(saved(kind)), **options), found, structured=structured)
        got = []
        try:
            for answer in answers:
                got.append(answer)
        except DataError as error:
            return got, str(error)
        return got, None

    return ask


@pytest.mark.parametrize("size", [1, 3, 32])
def test_a_bad_line_leaves_the_others_their_answers_and_is_named(asked, size):
    kind = fp.PromptForSequenceClassification
    expected, error = asked(kind, "good.jsonl", GOOD)
    assert (len(expected), error) == (len(GOOD), None)
    for place, (line, message) in enumerate(BAD.items()):
        if "text_pair" in message and size == 1:
            continue  # by itself it is a pair like any other
        at = max(1, place % len(GOOD))
        lines = [*GOOD[:at], line, *GOOD[at:]]
        found, error = asked(kind, "some.jsonl", lines, per_device_eval_batch_size=size)
        wrong = found.pop(at)
        assert wrong.keys() == {"error"}
        assert f"some.jsonl, line {at + 1}" in wrong["error"] and message in wrong["error"]
        assert error == f"1 of {len(lines)} lines have no answer: {wrong['error']}"
        assert [answer["text"] for answer in found] == TEXTS
        for answer, other in zip(found, expected, strict=True):
            assert answer["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.once
def test_a_text_file_with_a_line_that_is_not_utf8_is_answered_but_for_it(asked):
    found, error = asked(fp.PromptForSequenceClassification, "some.txt", ["a", b"\xb5\xe7\xd3\xb0", "", "b"])
    assert [answer.get("text") for answer in found] == ["a", None, "", "b"]
    assert "some.txt, line 2 is not UTF-8" in error


@pytest.mark.once
def test_lines_that_are_all_bad_have_no_answer(asked):
    found, error = asked(fp.PromptForSequenceClassification, "some.jsonl", ["5", "{", '{"texts": 1}'])
    assert [answer.keys() for answer in found] == [{"error"}] * 3
    assert error.startswith("3 of 3 lines have no answer: ")


@pytest.mark.once
def test_the_table_shows_the_answers_and_names_the_lines_without_one(saved, tmp_path, capsys):
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join([GOOD[0], "{", GOOD[2]]))
    options = TrainOptions(model_name_or_path=str(saved(fp.PromptForSequenceClassification)))
    shown = io.StringIO()
    with pytest.raises(DataError, match="1 of 3 lines have no answer"):
        main(options, shown, input=str(path), format="table", version_2_with_negative=False)
    assert all(text in shown.getvalue() for text in (TEXTS[0], TEXTS[2], "probability"))
    assert "some.jsonl, line 2: a JSON object is expected" in capsys.readouterr().err


@pytest.mark.once
def test_the_command_ends_with_1_where_a_line_has_no_answer(saved, command):
    arguments = ("predict", "--model_name_or_path", saved(fp.PromptForSequenceClassification), "--format", "jsonl")
    done = command(*arguments, stdin="\n".join(["", GOOD[0], "", "{", GOOD[1]]).encode(), check=False)
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [answer.get("text") for answer in answers] == [TEXTS[0], None, TEXTS[1]]
    assert done.returncode == 1
    assert "fastprompt: 1 of 3 lines have no answer: standard input, line 4" in done.stderr.decode().splitlines()[-1]


@pytest.mark.once
def test_a_tagger_reads_lines_as_the_files_it_was_trained_on(asked, tmp_path):
    """Blank lines stand between sentences, and words between spaces; a no-break space is part of a word."""
    lines = ["a b\u00a0c  d", "", " \t ", "e\tf "]
    found, error = asked(fp.PromptForTokenClassification, "some.txt", lines)
    path = tmp_path / "train.txt"
    path.write_text(f"0 {lines[0]} ||| O O O\n\n0 e f ||| O O\n", encoding="utf-8")
    assert error is None
    assert [answer["tokens"] for answer in found] == read_srl(path).tokens == [["a", "b\u00a0c", "d"], ["e", "f"]]
    assert [len(answer["tags"]) for answer in found] == [3, 2]


@pytest.mark.once
def test_instructions_are_read_as_in_training(causal, worded, tmp_path):
    model = fp.PromptForCausalLM.from_pretrained(worded("gpt2"), fp.PTuningV2Config(pre_seq_len=2))
    model.save_pretrained(tmp_path / "prompt")
    rows = [{"instruction": "w3", "input": None}, {"instruction": " "}, {"instruction": "w4", "input": "w5"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    options = TrainOptions(model_name_or_path=str(tmp_path / "prompt"), max_new_tokens=2)
    answers = predict(options, *open_input(str(path))[:1], structured=True)
    found = [next(answers) for _ in rows]
    assert [(answer.get("instruction"), answer.get("input")) for answer in found] == [
        ("w3", ""),
        (None, None),
        ("w4", "w5"),
    ]
    with pytest.raises(DataError, match="line 2: 'instruction' is empty"):
        next(answers)
    path.write_text("\n".join(json.dumps({**row, "output": "w6"}) for row in rows))
    with pytest.raises(DataError, match="line 2: 'instruction' is empty"):
        load_instructions(path, "train")


@pytest.mark.skipif(runtime.has_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_that_is_not_there_is_named(saved, device):
    options = TrainOptions(model_name_or_path=str(saved(fp.PromptForSequenceClassification)), device=device)
    with pytest.raises(BackendError, match=f"{fp.backend()} finds no device '{device}' here; use 'cpu'"):
        list(predict(options, [("line 1", "a b")]))
