"""Prompts on the hub, against a stand-in of its HTTP interface: fetched by id and revision, refused in one line."""

import json

import fastprompt as fp
from fastprompt.cli import main
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import ops
from fastprompt.models.card import is_ours
from fastprompt.pretrained.hub import fetch_files
from fastprompt.saving.remote import fetch_prompt, prompt_or_model

import numpy
import pytest
import yaml
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
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between two tries of a server that is down
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

    capfd.readouterr()

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
    fetch_files("me/model", ("config.json",))
    asked = len(hub.asked)
    assert prompt_or_model("me/model") == "me/model"  # which the cache has
    assert len(hub.asked) == asked
    asked = len(hub.asked)
    assert prompt_or_model("bert-base-uncased") == "bert-base-uncased"
    assert prompt_or_model(tiny["bert"]) == tiny["bert"]
    assert len(hub.asked) == asked
    with pytest.raises(ConfigError, match="revision goes with"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], revision="v1")


@pytest.fixture
def pushable(prompt, monkeypatch):
    """A run's folder, and a token in the environment."""
    metrics = {
        "accuracy": 0.75,
        "loss": 0.5,
        "eval_samples": 40,
        "task_name": "glue",
        "dataset_name": "sst2",
        "seed": 11,
    }
    metrics |= {"backend": "paddle", "backend_version": "3.3.1", "data_dir": "/somebody/data"}
    (prompt / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return prompt


def test_a_pushed_model_gives_the_same_logits_by_its_id(hub, prompt, tiny, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    model = fp.load_prompt_model(prompt)
    assert model.push_to_hub("me/new", base_model="someone/bert").startswith(hub.url)
    assert set(hub.files("me/new")) == {"README.md", "prompt_config.json", "prompt.safetensors"}
    again = fp.load_prompt_model("me/new", backbone=tiny["bert"])
    numpy.testing.assert_array_equal(logits(again), logits(model))


@pytest.mark.once
def test_a_card_says_what_the_hub_and_a_reader_need(hub, pushable):
    fp.push_to_hub(pushable, "me/new", base_model="someone/bert", private=True)
    assert hub.private == {"me/new"}
    card = hub.files("me/new")["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head == {
        "library_name": "fastprompt",
        "base_model": "someone/bert",
        "pipeline_tag": "text-classification",
        "tags": ["fastprompt", "prompt-tuning", "p-tuning-v2", "paddle"],
    }
    assert "| data set | glue sst2 |" in card
    assert "| trained under | paddle 3.3.1 |" in card
    assert "Scores on 40 evaluation examples (seed 11; one run):" in card
    assert "| accuracy | 0.7500 |" in card
    assert 'model = fp.load_prompt_model("me/new")' in card


@pytest.mark.once
def test_no_path_of_this_machine_is_pushed(hub, pushable, tiny):
    with pytest.raises(ConfigError, match=r"local folder .*; name the backbone's hub id: base_model="):
        fp.push_to_hub(pushable, "me/new")
    with pytest.raises(ConfigError, match="it is the backbone's hub id, and no local folder"):
        fp.push_to_hub(pushable, "me/new", base_model=str(tiny["bert"]))
    assert hub.commits == {}
    fp.push_to_hub(pushable, "me/new", base_model="someone/bert")
    pushed = hub.files("me/new")
    for path in (str(tiny["bert"].parent), str(pushable), "/somebody"):
        assert not [name for name, content in pushed.items() if path.encode() in content]
    config = json.loads((pushable / "prompt_config.json").read_text())
    (pushable / "prompt_config.json").write_text(json.dumps({**config, "labels": ["/home/somebody/x", "good"]}))
    with pytest.raises(ConfigError, match="holds the path '/home/somebody/x' under 'labels'; it is not uploaded"):
        fp.push_to_hub(pushable, "me/new", base_model="someone/bert")


@pytest.mark.once
def test_a_remote_prompt_of_another_method_or_backbone_is_replaced_when_asked(hub, pushable, tmp_path):
    base = {"base_model": "someone/bert"}
    fp.push_to_hub(pushable, "me/new", **base)
    fp.push_to_hub(pushable, "me/new", **base)  # the same method and backbone
    config = json.loads((pushable / "prompt_config.json").read_text())
    for changed, what in (({"method": "bitfit"}, "method"), ({"backbone": {"fingerprint": "sha256:x"}}, "backbone")):
        hub.commit("me/new", {"prompt_config.json": json.dumps({**config, **changed}).encode()})
        with pytest.raises(ConfigError, match=f"me/new holds a prompt of another {what}"):
            fp.push_to_hub(pushable, "me/new", **base)
    fp.push_to_hub(pushable, "me/new", overwrite=True, **base)
    assert json.loads(hub.files("me/new")["prompt_config.json"])["method"] == "p-tuning-v2"
    hub.commit("me/model", {".gitattributes": b"", "config.json": b"{}"})
    with pytest.raises(ConfigError, match=r"me/model holds config\.json and no prompt"):
        fp.push_to_hub(pushable, "me/model", **base)


@pytest.mark.once
def test_pushing_without_a_token_or_network_is_one_clear_line(hub, pushable, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match=r"The hub refuses 'me/new' \(status 401\): `hf auth login`"):
        fp.push_to_hub(pushable, "me/new", base_model="someone/bert")
    hub.close()
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        fp.push_to_hub(pushable, "me/new", base_model="someone/bert")


@pytest.mark.once
def test_a_card_of_somebody_else_is_left_as_it_is(hub, pushable):
    base = {"base_model": "someone/bert"}
    model = fp.load_prompt_model(pushable)
    assert is_ours((pushable / "README.md").read_bytes())
    fp.push_to_hub(pushable, "me/new", **base)
    hub.commit("me/new", {"README.md": b"mine"})
    fp.push_to_hub(pushable, "me/new", **base)
    assert hub.files("me/new")["README.md"] == b"mine"
    (pushable / "README.md").write_text("my own")
    model.save_pretrained(pushable)
    assert (pushable / "README.md").read_text() == "my own"
    fp.push_to_hub(pushable, "me/other", **base)
    assert hub.files("me/other")["README.md"] == b"my own"
