"""Values that cannot work are refused by the option's name, before anything is read."""

from fastprompt.errors import ConfigError
from fastprompt.options.train import TrainOptions

import numpy
import pytest

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed is -1; it is a whole number from 0 on"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be 0 or above"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5; it lies between 0 and 1"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be above 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; it must be above 0"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob is -0.1"),
        ({"device": "cpu:0"}, "--device is 'cpu:0'; it is cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "--device is 'cuda:x'"),
        ({"doc_stride": -1}, "doc_stride is -1"),
        ({"max_query_length": 0}, "max_query_length is 0"),
        ({"tag_column": 0}, "tag_column is 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
        ({"num_train_epochs": 1.5}, "num_train_epochs is 1.5; it is a whole number"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(given, message):
    with pytest.raises(ConfigError, match=message):
        TrainOptions(model_name_or_path="M", **given)


@pytest.mark.parametrize(
    "given", [{"seed": 0}, {"weight_decay": 0.0}, {"warmup_ratio": 1.0}, {"doc_stride": 0}, {"device": "cuda:1"}]
)
def test_a_value_at_its_bound_is_taken(given):
    TrainOptions(model_name_or_path="M", **given)


def test_numpys_numbers_are_values():
    options = TrainOptions(model_name_or_path="M", seed=numpy.int64(3), learning_rate=numpy.float64(0.5))
    assert type(options.model.seed) is int
    assert type(options.training.learning_rate) is float


@pytest.mark.parametrize("name", ["model_name_or_path", "backbone"])
def test_a_models_own_folder_is_no_output_folder(tmp_path, name):
    (tmp_path / "inner").mkdir()
    given = {"model_name_or_path": "M", name: str(tmp_path)}
    with pytest.raises(ConfigError, match=f"--output_dir is .*, the folder of --{name}; choose another folder"):
        TrainOptions(**given, output_dir=str(tmp_path / "inner" / ".."))
    TrainOptions(**given, output_dir=str(tmp_path / "inner"))
    TrainOptions(**given, output_dir=str(tmp_path), do_eval=True)
