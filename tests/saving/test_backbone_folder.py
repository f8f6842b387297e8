"""A prompt and its backbone's folder: one that has moved is looked for by name, and none is written over."""

import shutil

import fastprompt as fp
from fastprompt.compare.parity import ParityRequest
from fastprompt.errors import CheckpointError, ConfigError

import pytest


@pytest.fixture
def moved(tiny, tmp_path):
    """(the prompt, where its backbone is now)"""
    shutil.copytree(tiny["bert"], tmp_path / "old")
    config = fp.PTuningV2Config(pre_seq_len=3, shift_positions=True)  # as PEFT has it
    fp.PromptForSequenceClassification.from_pretrained(tmp_path / "old", config).save_pretrained(tmp_path / "prompt")
    return tmp_path / "prompt", (tmp_path / "old").rename(tmp_path / "new")


def test_a_backbone_that_has_moved_is_asked_for_by_name(moved, tmp_path):
    prompt, now = moved
    opens = [
        lambda **where: fp.load_prompt_model(prompt, **where),
        lambda **where: fp.PromptBank.from_pretrained({"one": prompt}, **where),
        lambda **where: fp.export_prompt("peft", prompt, tmp_path / "peft", **where),
    ]
    for open_prompt in opens:
        with pytest.raises(CheckpointError, match=rf"The prompt {prompt} was tuned on .*old, .*--backbone DIR"):
            open_prompt()
        open_prompt(backbone=now)
    with pytest.raises(CheckpointError, match=f"The prompt {prompt} was tuned on"):
        ParityRequest(str(prompt))


def test_a_prompt_is_not_written_into_its_backbones_folder(tiny, tmp_path):
    folder = shutil.copytree(tiny["bert"], tmp_path / "model")
    model = fp.PromptForSequenceClassification.from_pretrained(folder)
    with pytest.raises(ConfigError, match="is the backbone's own folder; choose another folder"):
        model.save_pretrained(folder)
    assert not (folder / "prompt_config.json").exists()
    model.save_pretrained(folder / "prompt")
