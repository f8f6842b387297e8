"""Files that earlier versions wrote are read by this one: the same logits, and a run that ends as it ended then.

tests/fixtures/<version> is what tests/checkpoints/make_earlier_files.py wrote with that version's code.
"""

import json
import shutil
from pathlib import Path

import fastprompt as fp
from fastprompt.framework import ops

import numpy
import pytest
from safetensors.numpy import load_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CONTENTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*/contents.json"))}
PROMPTS = [(version, name) for version, contents in CONTENTS.items() for name in contents["prompts"]]


def stored(version, name):
    """The arrays of one entry: name -> array."""
    arrays = load_file(FIXTURES / version / "arrays.safetensors")
    return {key.partition("/")[2]: array for key, array in arrays.items() if key.partition("/")[0] == name}


def assert_logits(model, arrays):
    inputs = {key: ops.tensor(array) for key, array in arrays.items() if key != "logits"}
    model.eval()
    found = ops.to_numpy(model(**inputs).logits)
    numpy.testing.assert_allclose(found, arrays["logits"], rtol=0, atol=1e-5 * max(1, abs(arrays["logits"]).max()))


@pytest.mark.parametrize(("version", "name"), PROMPTS)
def test_an_earlier_prompt_gives_the_same_logits(version, name, tmp_path):
    """By its class and without naming one, and again after this version has saved it."""
    about, arrays = CONTENTS[version]["prompts"][name], stored(version, name)
    folder, backbone = FIXTURES / version / "prompts" / name, FIXTURES / version / "backbones" / about["backbone"]
    model = getattr(fp, about["class"]).from_pretrained(folder, backbone=backbone)
    assert_logits(model, arrays)
    model.save_pretrained(tmp_path)
    again = fp.load_prompt_model(tmp_path)
    assert type(again) is type(model)
    assert_logits(again, arrays)
    before, now = (load_file(place / "prompt.safetensors") for place in (folder, tmp_path))
    assert before.keys() == now.keys()
    assert all((now[key] == array).all() for key, array in before.items())


@pytest.mark.parametrize("version", CONTENTS)
def test_a_run_goes_on_from_an_earlier_checkpoint(train_here, version, tmp_path):
    """With the optimizer's state, data position and schedule: losses and prompt are what they were then."""
    here = FIXTURES / version
    expected = load_file(here / "checkpoints" / f"{fp.backend()}.safetensors")
    shutil.copytree(here / "checkpoints" / fp.backend(), tmp_path / "run")
    train_here(
        *("--model_name_or_path", here / "backbones" / "bert", "--data_dir", here / "data"),
        *("--output_dir", tmp_path / "run", "--resume_from_checkpoint", "last", *CONTENTS[version]["run"]),
    )
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [1, 2, 3, 4]
    numpy.testing.assert_allclose([line["loss"] for line in history], expected.pop("losses"), atol=2e-6)
    found = load_file(tmp_path / "run" / "prompt.safetensors")
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        numpy.testing.assert_allclose(found[key], array, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("version", CONTENTS)
def test_an_earlier_checkpoint_is_a_prompt_too(version, tmp_path):
    folder = FIXTURES / version / "checkpoints" / fp.backend() / "checkpoint-2"
    fp.load_prompt_model(folder, backbone=FIXTURES / version / "backbones" / "bert").save_pretrained(tmp_path)
    before, now = (load_file(place / "prompt.safetensors") for place in (folder, tmp_path))
    assert before.keys() == now.keys()
    assert all((now[key] == array).all() for key, array in before.items())
