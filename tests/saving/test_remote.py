"""Prompts on the hub, against a stand-in of its HTTP interface: fetched by id and revision, refused in one line."""

import json

import fastprompt as fp
from fastprompt.cli import main
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import ops
from fastprompt.saving.remote import fetch_prompt, prompt_or_model

import numpy
import pytest
from huggingface_hub import constants

from support.hub import TOKEN, Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in, which HF_ENDPOINT names, and an empty cache beside it; without a token."""
    started = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", started.url)
    template = f"{started.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield started
    started.close()


@pytest.fixture
def prompt(tiny, tmp_path):
    folder = tmp_path / "prompt"
    fp.PromptForSequenceClassification.from_pretrained(
        tiny["bert"], fp.PTuningV2Config(pre_seq_len=2), label_names=["bad", "good"], seed=3
    ).save_pretrained(folder)
    return folder


def content(folder):
    return {name: (folder / name).read_bytes() for name in ("prompt_config.json", "prompt.safetensors")}


def logits(model):
    model.eval()
    ids = ops.tensor(numpy.array([[2, 5, 6, 3]]))
    return ops.to_numpy(model(input_ids=ids, attention_mask=ops.tensor(numpy.ones((1, 4), "int64"))).logits)


def test_a_prompt_is_loaded_by_its_id_with_the_same_logits(hub, prompt, tiny):
    first = hub.commit("me/prompt", content(prompt))
    local = fp.PromptForSequenceClassification.from_pretrained(prompt)
    for load in (fp.PromptForSequenceClassification.from_pretrained, fp.load_prompt_model):
        numpy.testing.assert_array_equal(logits(load("me/prompt")), logits(local))
    fp.PromptForSequenceClassification.from_pretrained(
        tiny["bert"], fp.PTuningV2Config(pre_seq_len=2), label_names=["no", "yes"], seed=4
    ).save_pretrained(prompt)
    hub.commit("me/prompt", content(prompt))
    assert fp.load_prompt_model("me/prompt").label_names == ["no", "yes"]
    hub.tags["me/prompt", "v1"] = first
    for revision in ("v1", first):
        assert fp.load_prompt_model("me/prompt", revision=revision).label_names == ["bad", "good"]


def test_predict_and_show_take_an_id(hub, prompt, tmp_path, capfd):
    first = hub.commit("me/prompt", content(prompt))
    (tmp_path / "texts").write_text("a fine film\n")
    for revision in ([], ["--revision", first]):
        asked = ["--model_name_or_path", "me/prompt", "--input", str(tmp_path / "texts"), "--format", "jsonl"]
        assert main(["predict", *asked, *revision, "--device", "cpu"]) == 0
        assert main(["show", "me/prompt", *revision]) == 0
    printed = "".join(capfd.readouterr())
    assert printed.count('"label": ') == 2
    assert printed.count("labels: bad, good") == 2


@pytest.mark.once
def test_json_and_safetensors_alone_are_downloaded(hub, prompt):
    hub.commit("me/prompt", {**content(prompt), "prompt.bin": b"pickle", "run.py": b"code", "README.md": b"text"})
    folder = fetch_prompt("me/prompt")
    assert sorted(path.name for path in folder.iterdir()) == ["prompt.safetensors", "prompt_config.json"]
    assert {name for line in hub.asked if "/resolve/" in line for name in [line.rpartition("/")[2]]} == {
        *("prompt_config.json", "prompt.safetensors"),
    }


@pytest.mark.once
def test_what_is_downloaded_is_checked_as_a_local_prompt(hub, prompt):
    files = content(prompt)
    hub.commit("me/cut", {**files, "prompt.safetensors": files["prompt.safetensors"][:-8]})
    with pytest.raises(CheckpointError, match=r"prompt\.safetensors"):
        fp.load_prompt_model("me/cut")
    config = json.loads(files["prompt_config.json"])
    config["backbone"]["fingerprint"] = "sha256:other"
    hub.commit("me/other", {**files, "prompt_config.json": json.dumps(config).encode()})
    with pytest.raises(CheckpointError, match="whose weights are not"):
        fp.load_prompt_model("me/other")
    hub.commit("me/half", {"prompt_config.json": files["prompt_config.json"]})
    with pytest.raises(CheckpointError, match=r"'me/half' has prompt_config\.json and no prompt\.safetensors"):
        fetch_prompt("me/half")


@pytest.mark.once
def test_each_mistake_gets_one_clear_line(hub, prompt, monkeypatch, capfd):
    hub.commit("me/prompt", content(prompt))
    hub.commit("me/private", content(prompt))
    hub.commit("me/model", {"config.json": b"{}"})
    hub.private.add("me/private")

    def line(*arguments):
        assert main(["show", *arguments]) == 1
        (found,) = capfd.readouterr().err.splitlines()
        return found

    assert "The hub has no model 'me/none' (or it is private: `hf auth login`)" in line("me/none")
    assert "The hub has no model 'me/private' (or it is private: `hf auth login`)" in line("me/private")
    assert "'me/prompt' has no revision 'v9'; name a branch, tag or commit" in line("me/prompt", "--revision", "v9")
    assert "'me/model' holds no prompt (prompt_config.json); is it a model?" in line("me/model")
    assert "revision goes with a prompt's hub id" in line(str(prompt), "--revision", "v9")
    assert "neither a folder nor a well-formed hub id" in line("me/a--b")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_prompt("me/private").is_dir()
    monkeypatch.delenv("HF_TOKEN")
    hub.close()
    assert "'me/far' is no folder here and the hub cannot be reached" in line("me/far")


@pytest.mark.once
def test_a_prompt_that_was_fetched_before_opens_without_the_hub(hub, prompt):
    hub.commit("me/prompt", content(prompt))
    folder = fetch_prompt("me/prompt")
    hub.close()
    assert fetch_prompt("me/prompt") == folder


@pytest.mark.once
def test_a_model_s_id_and_a_local_name_are_left_as_they_are(hub, tiny):
    hub.commit("me/model", {"config.json": b"{}"})
    assert prompt_or_model("me/model") == "me/model"
    assert prompt_or_model("me/none") == "me/none"
    asked = len(hub.asked)
    assert prompt_or_model("bert-base-uncased") == "bert-base-uncased"
    assert prompt_or_model(tiny["bert"]) == tiny["bert"]
    assert len(hub.asked) == asked
    with pytest.raises(ConfigError, match="revision goes with"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], revision="v1")
