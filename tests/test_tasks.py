"""Every kind of task from its own files to its official scores, by the command line."""

import json

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


@pytest.fixture
def folder(tmp_path):
    def make(case):
        ((name, text),) = FILES[case].items()
        for file in (name, CASES[case][2]):
            (tmp_path / file).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize("case", CASES)
def test_a_task_trains_evaluates_and_is_evaluated_again(tiny, folder, command, case):
    data = folder(case)
    task, scores, _ = CASES[case]
    arguments = ["--task_name", *task, "--data_dir", data]
    command(
        *("train", "--model_name_or_path", tiny["bert"], *arguments, "--output_dir", data / "out"),
        *("--pre_seq_len", "3", "--num_train_epochs", "2", "--max_seq_length", "40"),
    )
    metrics = json.loads((data / "out/metrics.json").read_text())
    for name in (*scores, "loss"):
        assert isinstance(metrics[name], float)
    done = command("evaluate", "--model_name_or_path", data / "out", *arguments, "--max_seq_length", "40")
    told = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines())
    assert {name: float(told[name]) for name in scores} == {name: metrics[name] for name in scores}
    if case == "questions":
        assert set(json.loads((data / "out/predictions.json").read_text())) == {"q1"}


@pytest.mark.once
def test_a_prompt_of_another_task_is_refused(tiny, folder, command):
    data = folder("names")
    ner = ["--task_name", "ner", "--data_dir", data]
    output = ["--output_dir", data / "out"]
    command("train", "--model_name_or_path", tiny["bert"], *ner, *output, "--pre_seq_len", "3")
    done = command("evaluate", "--model_name_or_path", data / "out", "--task_name", "reviews", check=False)
    assert b"was tuned for token_classification; reviews is sequence_classification" in done.stderr
    done = command("predict", "--model_name_or_path", data / "out", stdin=b"x\n", check=False)
    assert b"predict names one class a text so far" in done.stderr
