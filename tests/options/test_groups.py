"""Options are listed once: in their group, or as a field of a method's configuration."""

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import ClassVar

from fastprompt.errors import ConfigError
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.registry import METHODS
from fastprompt.options.groups import OPTIONS, ModelOptions
from fastprompt.options.option import fields_of, method_options
from fastprompt.options.train import TrainOptions

import pytest

pytestmark = pytest.mark.once


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_its_own_options_and_no_other(method):
    given = {"encoder_hidden_size": 8, "init_text": "so", "init": "text", "pooling": "mean"}
    config = TrainOptions(model_name_or_path="M", method=method, **given).config
    assert config.method == method
    for name, asked in fields_of(method).items():
        if name in given:
            assert getattr(config, asked.name) == given[name]


def test_the_length_has_one_name_for_every_method():
    for method in ("p-tuning-v2", "p-tuning", "shallow-prefix", "prompt-tuning"):
        config = TrainOptions(model_name_or_path="M", method=method, pre_seq_len=7).config
        assert 7 in (getattr(config, "pre_seq_len", None), getattr(config, "num_virtual_tokens", None))


def test_a_new_field_of_a_configuration_is_an_option(monkeypatch):
    @dataclass(kw_only=True)
    class ResidualConfig(MethodConfig):
        method: ClassVar[str] = "residual"
        learning_rate: ClassVar[float] = 1e-3
        bottleneck: int = field(default=4, metadata={"help": "inner width"})

    monkeypatch.setitem(METHODS, "residual", ResidualConfig)
    (made,) = [item for item in method_options("method") if item.name == "bottleneck"]
    assert (made.kind, made.help) == (int, "inner width (residual)")


def test_a_verbalizer_is_read_from_text_or_file(tmp_path):
    (tmp_path / "words.json").write_text('{"a": "x", "b": ["y", "z"]}')
    for given in ('{"a": "x", "b": ["y", "z"]}', str(tmp_path / "words.json")):
        config = TrainOptions(model_name_or_path="M", template="[X] [MASK]", verbalizer=given).config
        assert config.verbalizer == {"a": ["x"], "b": ["y", "z"]}


def test_every_option_belongs_to_one_group_and_is_flat_again():
    flat = TrainOptions(model_name_or_path="M", seed=5, device="cpu").flat()
    assert (flat["seed"], flat["device"], flat["pre_seq_len"]) == (5, "cpu", 20)
    assert set(flat) <= set(OPTIONS)


def test_model_options_are_what_from_pretrained_takes():
    import inspect

    from fastprompt.models.base import PromptModel

    parameters = inspect.signature(PromptModel.from_pretrained).parameters
    assert set(ModelOptions().loading()) <= set(parameters)
    assert {item.name for item in dataclasses.fields(ModelOptions)} - set(ModelOptions().loading()) == {
        "model_name_or_path"
    }


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="there is no option 'learn_rate'"):
        TrainOptions(model_name_or_path="M", learn_rate=1)
    with pytest.raises(ConfigError, match="model_name_or_path is missing"):
        TrainOptions()


HEAVY = "{'torch', 'paddle', 'jittor', 'fastNLP', 'transformers'}"
REFUSED = {
    "help": (["train", "--help"], 0),
    "an unknown option": (["train", "--no_such_option"], 2),
    "a learning rate of 0": (["train", "--model_name_or_path", "M", "--learning_rate", "0"], 1),
    "an option without effect": (["train", "--model_name_or_path", "M", "--task_name", "glue", "--eval_steps", "3"], 1),
    "two methods": (["train", "--model_name_or_path", "M", "--prompt", "--method", "p-tuning"], 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_help_and_bad_options_load_no_framework(run_python, case):
    arguments, status = REFUSED[case]
    code = (
        "import sys; from fastprompt.cli import main\n"
        f"try: status = main({arguments!r})\n"
        "except SystemExit as end: status = end.code\n"
        f"print(status or 0, sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    done = run_python("torch", "-c", code)
    assert done.stderr.splitlines()[-1] == f"{status} []"


def test_the_options_package_imports_no_framework():
    heavy = {"torch", "paddle", "jittor", "fastNLP", "transformers"}
    before = heavy & set(sys.modules)
    import fastprompt.options.parsing  # noqa: F401

    assert heavy & set(sys.modules) == before
