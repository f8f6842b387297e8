"""Every kind of task from its own files to its official scores, by the command line."""

import json

import fastprompt as fp
from fastprompt.commands.predict import predict
from fastprompt.errors import ConfigError, DataError
from fastprompt.options.train import TrainOptions

import pytest

SQUAD_CONTEXT = "the museum opened in may . its garden is free on sundays ."
FILES = {
    "pairs": {
        "train.tsv": "index\tsentence1\tsentence2\tlabel\n"
        "0\ta cat\tan animal\tentailment\n1\ta dog\ta cat\tnot_entailment\n",
    },
    "choices": {
        "train.jsonl": json.dumps(
            {"premise": "it rained .", "choice1": "wet .", "choice2": "dry .", "question": "effect", "label": 0}
        )
        + "\n",
    },
    "questions": {
        "train.json": json.dumps(
            {
                "version": "1.1",
                "data": [
                    {
                        "title": "museum",
                        "paragraphs": [
                            {
                                "context": SQUAD_CONTEXT,
                                "qas": [
                                    {
                                        "id": "q1",
                                        "question": "when did it open ?",
                                        "answers": [{"text": "may", "answer_start": SQUAD_CONTEXT.index("may")}],
                                    }
                                ],
                            }
                        ],
                    }
                ],
            }
        ),
    },
    "names": {"train.txt": "anna B-PER\nlives O\nin O\nrome B-LOC\n\nbob B-PER\nsaw O\nparis B-LOC\n"},
    "numbers": {"train.csv": "first,second,score\ngood,day,0.5\nbad,night,0.1\nso,so,0.3\n"},
}
CASES = {
    "pairs": (["glue", "--dataset_name", "rte"], ["accuracy"], "dev.tsv"),
    "choices": (["superglue", "--dataset_name", "copa"], ["accuracy"], "val.jsonl"),
    "questions": (["qa", "--dataset_name", "squad", "--max_query_length", "10"], ["exact_match", "f1"], "dev.json"),
    "names": (["ner"], ["entity_f1"], "dev.txt"),
    "numbers": (
        ["regression", "--text_columns", "first,second", "--label_column", "score"],
        ["pearson", "spearman"],
        "validation.csv",
    ),
}


# A question of each kind for `predict`, and what the answer to it holds.
ASKED = {
    "pairs": ({"text": "a cat", "text_pair": "an animal"}, {"text", "text_pair", "label", "probabilities"}),
    "choices": (
        {"text": "it rained . so", "choices": ["wet .", "dry ."]},
        {"text", "choices", "label", "probabilities"},
    ),
    "questions": ({"question": "when ?", "context": SQUAD_CONTEXT}, {"id", "question", "answer", "probability"}),
    "names": ({"tokens": ["anna", "saw", "rome"]}, {"tokens", "tags"}),
    "numbers": ({"text": "good", "text_pair": "day"}, {"text", "text_pair", "value"}),
}


@pytest.fixture
def folder(tmp_path):
    def make(case):
        ((name, text),) = FILES[case].items()
        for file in (name, CASES[case][2]):
            (tmp_path / file).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize("case", CASES)
def test_a_task_trains_evaluates_predicts_and_is_evaluated_again(tiny, folder, train_here, case):
    data = folder(case)
    task, scores, _ = CASES[case]
    arguments = ["--task_name", *task, "--data_dir", data, "--max_seq_length", "40"]
    metrics = train_here(
        *("--model_name_or_path", tiny["bert"], *arguments, "--output_dir", data / "out"),
        *("--pre_seq_len", "3", "--num_train_epochs", "2"),
    )
    assert json.loads((data / "out/metrics.json").read_text()) == metrics
    for name in (*scores, "loss"):
        assert isinstance(metrics[name], float)
    again = train_here("--do_eval", "--model_name_or_path", data / "out", *arguments, "--output_dir", data / "again")
    assert {name: again[name] for name in scores} == {name: metrics[name] for name in scores}
    if case == "questions":
        assert set(json.loads((data / "out/predictions.json").read_text())) == {"q1"}
    asked, keys = ASKED[case]
    lines = [(f"line {number}", json.dumps(asked)) for number in (1, 2)]
    options = TrainOptions(model_name_or_path=str(data / "out"), max_seq_length=40, max_query_length=10)
    answers = list(predict(options, lines, structured=True))
    assert len(answers) == 2
    for answer in answers:
        assert set(answer) == keys
        assert answer | {name: asked[name] for name in asked if name in keys} == answer
        check_answer(case, answer)


def check_answer(case, answer):
    if "probabilities" in answer:
        found = answer["probabilities"]
        assert sum(found.values() if case == "pairs" else found) == pytest.approx(1)
        assert answer["label"] in (("entailment", "not_entailment") if case == "pairs" else (0, 1))
    elif case == "questions":
        assert answer["answer"] in SQUAD_CONTEXT
        assert 0 < answer["probability"] <= 1
    elif case == "names":
        assert len(answer["tags"]) == 3
        assert set(answer["tags"]) <= {"O", "B-PER", "B-LOC"}
    else:
        assert isinstance(answer["value"], float)


@pytest.mark.once
def test_a_prompt_of_another_task_is_refused(tiny, tmp_path, train_here):
    fp.PromptForTokenClassification.from_pretrained(tiny["bert"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="was tuned for token_classification; reviews is sequence_classification"):
        train_here(
            "--do_eval", "--model_name_or_path", tmp_path, "--task_name", "reviews", "--output_dir", tmp_path / "o"
        )


@pytest.mark.once
def test_the_command_answers_questions_from_a_file(tiny, tmp_path, command):
    fp.PromptForQuestionAnswering.from_pretrained(tiny["bert"]).save_pretrained(tmp_path / "out")
    (tmp_path / "asked.jsonl").write_text(json.dumps(ASKED["questions"][0]) + "\n")
    arguments = ["predict", "--model_name_or_path", tmp_path / "out", "--input", tmp_path / "asked.jsonl"]
    arguments += ["--max_query_length", "10", "--max_seq_length", "40"]
    found = json.loads(command(*arguments, "--format", "jsonl").stdout)
    table = command(*arguments).stdout.decode()
    assert found["answer"] in SQUAD_CONTEXT
    assert "probability" in table
    assert "when ?" in table


@pytest.mark.once
@pytest.mark.parametrize(
    ("case", "line", "message"),
    [
        ("pairs", '{"text": "a"}\n{"text": "a", "text_pair": "b"}', "line 2: it has the key 'text_pair', the lines"),
        ("pairs", '{"texts": "a"}', "line 1: the key 'text' is missing"),
        ("pairs", "a cat", "line 1: a JSON object is expected"),
        ("choices", '{"text": "a", "choices": ["b"]}', "line 1: 'choices' is a list of two texts or more"),
        ("questions", '{"question": "a"}', "line 1: the key 'context' is missing"),
        ("names", '{"tokens": []}', "line 1: it has no words"),
    ],
)
def test_a_line_that_cannot_be_answered_is_named(asked_of, tmp_path, case, line, message):
    (tmp_path / "asked.jsonl").write_text(line + "\n")
    with pytest.raises(DataError) as caught:
        asked_of(case, tmp_path / "asked.jsonl")
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def asked_of(tiny, tmp_path_factory):
    """asked_of(case, file): what a fresh prompt of that kind answers to the file."""
    kinds = {
        "pairs": fp.PromptForSequenceClassification,
        "choices": fp.PromptForMultipleChoice,
        "questions": fp.PromptForQuestionAnswering,
        "names": fp.PromptForTokenClassification,
    }

    def ask(case, path):
        folder = tmp_path_factory.mktemp("asked")
        kinds[case].from_pretrained(tiny["bert"]).save_pretrained(folder)
        lines = ((f"line {number}", line) for number, line in enumerate(path.read_text().splitlines(), 1))
        options = TrainOptions(model_name_or_path=str(folder))
        return list(predict(options, lines, structured=path.suffix == ".jsonl"))

    return ask


@pytest.mark.once
def test_words_after_the_longest_input_have_no_tag(tiny, tmp_path):
    fp.PromptForTokenClassification.from_pretrained(tiny["bert"]).save_pretrained(tmp_path)
    options = TrainOptions(model_name_or_path=str(tmp_path), max_seq_length=5)
    (found,) = predict(options, [("line 1", "a b c d e")])
    assert [tag is None for tag in found["tags"]] == [False, False, False, True, True]
