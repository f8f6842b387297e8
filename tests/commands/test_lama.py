"""LAMA: facts in the forms they are published in, scores per relation, runs that go on, and what is refused."""

import json

import fastprompt as fp
from fastprompt.commands import lama
from fastprompt.data.readers.lama import candidate_words, read_facts, read_relations
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import ops
from fastprompt.metrics.ranks import WordRanks
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.tokenizer import load_tokenizer

import numpy
import pytest

RELATIONS = [
    {"relation": "P1", "template": "[X] a [Y] .", "label": "letter", "type": "N-1"},
    {"relation": "P2", "template": "b [Y] c [X]", "label": "other letter"},
    {"relation": "P3", "template": "[X] [Y]", "label": "without facts"},
]


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def facts(draw, count, obj):
    """Subjects of three letters; two objects in three are `obj`, the others several tokens."""
    subjects = [" ".join(draw.choice(list("defg"), 3)) for _ in range(count)]
    rows = [{"sub_label": s, "obj_label": "abc" if i % 3 == 2 else obj} for i, s in enumerate(subjects)]
    return [{"sub_uri": "Q1", "obj_uri": "Q2", **row} for row in rows]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    draw = numpy.random.default_rng(0)
    write_lines(folder / "relations.jsonl", RELATIONS)
    for name, obj in {"P1": "q", "P2": "Z"}.items():
        for split, count in {"train": 48, "dev": 12, "test": 24}.items():
            write_lines(folder / name / f"{split}.jsonl", facts(draw, count, obj))
    return folder


def options(tiny, data, output, **given):
    settings = {
        "model_name_or_path": str(tiny["bert-mlm"]),
        "task_name": "lama",
        "data_dir": str(data),
        "output_dir": str(output),
        "method": "p-tuning",
        "learning_rate": 3e-2,
        "num_train_epochs": 6,
        "per_device_train_batch_size": 8,
        "encoder_hidden_size": 8,
        "template": "(1, 1, 1)",
        "device": "cpu",
    }
    return TrainOptions(**{**settings, **given})


# --- running ----------------------------------------------------------------------------------------------------------


def test_every_relation_gets_a_prompt_of_its_own_and_the_scores_are_means(tiny, data, tmp_path):
    _, before = lama.run(options(tiny, data, tmp_path / "manual", method="manual", template=None))
    assert (before["trainable_parameters"], before["train_seconds"]) == (0, 0)
    rows, metrics = lama.run(options(tiny, data, tmp_path / "out"))
    assert [row["relation"] for row in rows] == ["P1", "P2"]
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    for name in ("p_at_1", "p_at_10", "mrr"):
        assert metrics[name] == pytest.approx(sum(row[name] for row in rows) / 2)
    assert metrics["mrr"] > before["mrr"] + 0.3
    for row in rows:
        assert (row["train_facts"], row["dev_facts"], row["test_facts"]) == (32, 8, 16)
        assert row["test_several_tokens"] == 8
        assert row["template"] == "[P] [MASK] [P] [X] [P]"
        prompt = fp.load_prompt_model(tmp_path / "out" / row["relation"])
        assert prompt.method_config.template == row["template"]


def test_the_best_of_the_development_facts_is_saved_and_the_training_ends(tiny, data, tmp_path):
    (row,), _ = lama.run(options(tiny, data, tmp_path, relations=("P1",), num_train_epochs=40, early_stop=2))
    lines = [json.loads(line) for line in (tmp_path / "P1" / "evaluations.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: (line["p_at_1"], line["mrr"]))
    assert (row["best_step"], row["dev_mrr"]) == (best["step"], best["mrr"])
    assert lines.index(best) == len(lines) - 3 < 37
    assert not (tmp_path / "P1" / "best").exists()


def test_a_deep_prefix_asks_in_the_relations_own_words(tiny, data, tmp_path):
    given = {"method": "p-tuning-v2", "template": None, "pre_seq_len": 3, "num_train_epochs": 2}
    rows, _ = lama.run(options(tiny, data, tmp_path, **given))
    assert [row["template"] for row in rows] == ["[X] a [MASK] .", "b [MASK] c [X]"]


def test_a_run_resumes_after_the_relations_that_are_finished(tiny, data, tmp_path, capfd):
    first, _ = lama.run(options(tiny, data, tmp_path, relations=("P2",)))
    (tmp_path / "P2.json").write_text(json.dumps({**first[0], "p_at_1": 0.625}))
    rows, metrics = lama.run(options(tiny, data, tmp_path))
    assert rows[1]["p_at_1"] == 0.625
    assert metrics["p_at_1"] == pytest.approx((rows[0]["p_at_1"] + 0.625) / 2)
    assert "P2 is finished" in capfd.readouterr().err
    again, _ = lama.run(options(tiny, data, tmp_path, overwrite_output_dir=True, relations=("P2",)))
    assert again == [{**first[0], **{k: again[0][k] for k in ("train_seconds", "peak_memory_mb")}}]
    assert not (tmp_path / "P1.json").exists()


def test_a_folder_of_other_options_is_refused_by_their_name(tiny, data, tmp_path):
    lama.run(options(tiny, data, tmp_path, method="manual", template=None))
    with pytest.raises(ConfigError, match=r"were run with method manual, not p-tuning;"):
        lama.run(options(tiny, data, tmp_path, template=None))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "prompt_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds prompt_config\.json already"):
        lama.run(options(tiny, data, tmp_path / "other"))


def test_the_command_prints_a_row_for_each_relation_and_reports_what_is_left_out(tiny, data, tmp_path, command):
    words = ["train", "--task_name", "lama", "--method", "manual", "--data_dir", data, "--relations", "P2", "P1"]
    done = command(*words, "--model_name_or_path", tiny["bert-mlm"], "--output_dir", tmp_path / "out")
    printed = done.stdout.decode()
    assert [line.split()[1] for line in printed.splitlines() if "letter" in line or "mean" in line] == [
        "P2",
        "P1",
        "mean",
    ]
    assert "P2, test: 16 facts, 8 objects of several tokens left out." in done.stderr.decode()
    with pytest.raises(DataError, match="has no relation 'P9'; it has P1, P2"):
        read_relations(data, ["P2", "P9"], ("test",))


@pytest.mark.once
def test_manual_templates_score_on_real_weights_what_is_published_of_them(minilm_mlm, shared_data, tmp_path):
    given = {
        "method": "manual",
        "relations": ("P1001",),
        "output_dir": str(tmp_path),
        "data_dir": str(shared_data("lama")),
    }
    rows, _ = lama.run(TrainOptions(model_name_or_path=str(minilm_mlm), task_name="lama", device="cpu", **given))
    assert rows[0]["p_at_1"] == pytest.approx(0.428, abs=5e-4)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_ranks_count_candidates_alone_and_ties_against():
    metric = WordRanks([0, 2, 3, *range(5, 20)])
    scores = numpy.tile(numpy.arange(20, 0, -1).astype("float32"), (4, 1))  # the smaller the id, the better
    scores[3] = 1
    metric.update(ops.tensor(scores), ops.tensor(numpy.array([0, 3, 15, 2])))
    found = metric.get_metric()  # ranks 1, 3, 14 and, of 18 alike, 18
    assert found["p_at_1"] == 1 / 4
    assert found["p_at_10"] == 2 / 4
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 14 + 1 / 18) / 4)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def letters(tiny):
    return load_tokenizer(tiny["bert-mlm"])


@pytest.mark.parametrize("inner", ["", "fact-retrieval/original", "original"])
def test_facts_are_found_where_autoprompt_and_p_tuning_put_them(tmp_path, letters, inner):
    write_lines(tmp_path / "relations.jsonl", RELATIONS)
    rows = [{"sub_label": "D e", "obj_label": "Q"}, {"sub_label": "f", "obj_label": "abc"}]
    for split in ("train", "dev", "test"):
        write_lines(tmp_path / inner / "P2" / f"{split}.jsonl", rows)
    (relation,) = read_relations(tmp_path, None, ("train", "dev", "test"))
    assert (relation.name, relation.template, relation.label) == ("P2", "b [MASK] c [X]", "other letter")
    found = read_facts(relation, "dev", letters, set(letters.whole_words))
    assert (found.subjects, found.words, found.several) == (["D e"], [letters.id_of_word("q")], 1)


@pytest.mark.parametrize("inner", ["TREx", ""])
def test_lamas_own_form_has_facts_to_test_on(tmp_path, inner):
    write_lines(tmp_path / "relations.jsonl", RELATIONS)
    row = {"uuid": "1", "predicate_id": "P1", "sub_label": "d", "obj_label": "q", "evidences": [{"obj_surface": "q"}]}
    write_lines(tmp_path / inner / "P1.jsonl", [row])
    assert [relation.name for relation in read_relations(tmp_path, None, ("test",))] == ["P1"]
    with pytest.raises(DataError, match=r"The relation P1 has no train file: .*P1/train.jsonl"):
        read_relations(tmp_path, None, ("train", "dev", "test"))
    with pytest.raises(DataError, match=r"The relation P3 has no test file"):
        read_relations(tmp_path, ["P1", "P3"], ("test",))


def test_candidates_may_be_those_of_a_file(data, tmp_path, letters):
    (tmp_path / "words.txt").write_text("q\nAbc\n\nr\n")
    ids, notes = candidate_words(letters, str(tmp_path / "words.txt"))
    assert ids == [letters.id_of_word("q"), letters.id_of_word("r")]
    assert notes == [f"{tmp_path}/words.txt: 1 of 3 words are not one token and left out."]
    (first, second) = read_relations(data, None, ("test",))
    assert read_facts(first, "test", letters, set(ids)).outside == 0
    with pytest.raises(DataError, match=r"8 take several tokens of this vocabulary, 16 are no candidates"):
        read_facts(second, "test", letters, set(ids))
    (tmp_path / "words.txt").write_text("abc\n")
    with pytest.raises(DataError, match="has no word that is one token"):
        candidate_words(letters, str(tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sub_label": "d"}', r"test.jsonl, line 1: the key 'obj_label' is missing"),
        ('{"sub_label": 3, "obj_label": "q"}', r"line 1: 'sub_label' is int, not str"),
        ("{", r"line 1: no valid JSON"),
    ],
)
def test_a_broken_fact_is_named_with_its_line(data, letters, line, message):
    (data / "P1" / "test.jsonl").write_text(line + "\n")
    relation = read_relations(data, ["P1"], ("test",))[0]
    with pytest.raises(DataError, match=message):
        read_facts(relation, "test", letters, set(letters.whole_words))


def test_a_relation_needs_a_template_with_both_places(data):
    write_lines(data / "relations.jsonl", [{"relation": "P1", "template": "[X] is it ."}])
    with pytest.raises(DataError, match=r"relations.jsonl, line 1: the template '\[X\] is it .' has no \[Y\]"):
        read_relations(data, None, ("test",))


def test_options_that_lama_has_no_use_for_are_refused(tiny, data, tmp_path):
    with pytest.raises(ConfigError, match="lama needs --data_dir"):
        lama.run(options(tiny, data, tmp_path, data_dir=None))
    with pytest.raises(ConfigError, match="takes neither --verbalizer nor"):
        lama.run(options(tiny, data, tmp_path, dataset_name="trex"))
