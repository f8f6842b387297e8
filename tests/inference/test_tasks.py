"""A task is one record, looked up once: its examples, the model that reads them, its scores, its answers."""

from fastprompt.data.examples import MultipleChoices
from fastprompt.data.tasks import TASKS
from fastprompt.errors import ConfigError
from fastprompt.inference.tasks import MODEL_TASKS, find_task
from fastprompt.models.auto import MODELS
from fastprompt.options.train import TrainOptions

import pytest

CLOZE = {"template": "[X] is [MASK]", "verbalizer": '{"negative": "bad", "positive": "good"}'}

FOUND = {
    "glue": ({"task_name": "glue", "dataset_name": "sst2"}, "sequence_classification", "accuracy"),
    "a cloze": ({"task_name": "glue", "dataset_name": "sst2", **CLOZE}, "masked_lm", "accuracy"),
    "choices": ({"task_name": "superglue", "dataset_name": "copa"}, "multiple_choice", "accuracy"),
    "several answers": ({"task_name": "superglue", "dataset_name": "multirc"}, "sequence_classification", "f1"),
    "tags": ({"task_name": "ner", "dataset_name": "conll2003"}, "token_classification", "entity_f1"),
    "predicates": ({"task_name": "srl", "data_dir": "."}, "token_classification", "entity_f1"),
    "questions": ({"task_name": "qa", "dataset_name": "squad"}, "question_answering", "f1"),
    "numbers": ({"task_name": "regression", "data_dir": "."}, "sequence_classification", "pearson"),
}


def test_every_model_has_its_record():
    assert set(MODEL_TASKS) == set(MODELS)
    assert all(task.model is MODELS[name] for name, task in MODEL_TASKS.items())


def test_every_kind_of_examples_has_a_model():
    kinds = {task.kind for task in MODEL_TASKS.values()}
    assert {source.kind for source in TASKS.values()} | {MultipleChoices} == kinds


@pytest.mark.parametrize("case", FOUND)
def test_a_task_is_found_with_its_model_and_main_score(case):
    given, model_task, score = FOUND[case]
    task = find_task(TrainOptions(model_name_or_path="M", **given))
    assert (task.model_task.name, task.scores.main) == (model_task, score)


def test_instructions_are_read_as_the_backbone_reads(tiny, causal):
    given = {"task_name": "instruction", "data_dir": "."}
    assert find_task(TrainOptions(model_name_or_path=str(causal["gpt2"]), **given)).model_task.name == "causal_lm"


def test_half_a_cloze_and_a_cloze_of_words_are_refused():
    with pytest.raises(ConfigError, match="A cloze needs both"):
        find_task(TrainOptions(model_name_or_path="M", task_name="reviews", template="[X] [MASK]"))
    with pytest.raises(ConfigError, match="make a cloze of single texts; ner has others"):
        find_task(TrainOptions(model_name_or_path="M", task_name="ner", dataset_name="conll2003", **CLOZE))
