"""Frozen layers that are computed once: the same numbers, one file for many runs, and never another's."""

import errno
import inspect
import os
import subprocess
import sys
import threading
import time

import fastprompt as fp
from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    MultipleChoices,
    SquadData,
    SquadQuestion,
    TaggedTokens,
)
from fastprompt.errors import ConfigError, DataError
from fastprompt.framework import backend, ops, runtime
from fastprompt.models import frozen
from fastprompt.saving import state_file
from fastprompt.training import frozen_layers

import numpy
import pytest
from fastNLP import Trainer

WORDS = ["ab", "cde", "f gh", "i", "jkl m", "no pq rs", "tu", "v wx yz ab", "cd", "e f g h i"]
TEXTS = [" ".join(WORDS[(i * 7 + j) % 10] for j in range(1 + i % 6)) for i in range(24)]
LABELS = [i % 2 for i in range(24)]
PLAIN = {"template": "[X] [MASK]", "verbalizer": {"no": ["a"], "yes": ["b"]}}
CLOZE = ClozeTexts(TEXTS, LABELS, PLAIN["template"])
SPOKEN = Instructions(["w1 w2", "w3", "w4 w5 w6"] * 8, [""] * 24, ["w7 w8", "w9"] * 12, "alpaca")
CHOICES = MultipleChoices([[(text, WORDS[i % 10]), (text, "cde")] for i, text in enumerate(TEXTS)], LABELS)
TAGGED = TaggedTokens([t.split() for t in TEXTS], [[len(w) % 2 for w in t.split()] for t in TEXTS], ["O", "B"])
QUESTIONS = [SquadQuestion(str(i), t, f"{TEXTS[5]} {t}", [(t, len(TEXTS[5]) + 1)]) for i, t in enumerate(TEXTS)]
ASKED = SquadData(QUESTIONS, version_2=False)
# kind -> the model, its data, and what it is given of its outputs
KINDS = {
    "classes": (fp.PromptForSequenceClassification, LabelledTexts(TEXTS, LABELS, ["no", "yes"]), {}),
    "pairs": (fp.PromptForSequenceClassification, LabelledTexts(TEXTS, LABELS, ["no", "yes"], TEXTS[::-1]), {}),
    "choices": (fp.PromptForMultipleChoice, CHOICES, {}),
    "tags": (fp.PromptForTokenClassification, TAGGED, {}),
    "questions": (fp.PromptForQuestionAnswering, ASKED, {}),
    "blanks": (fp.PromptForMaskedLM, CLOZE, {"label_names": ["no", "yes"]}),
    "answers": (fp.PromptForCausalLM, SPOKEN, {}),
    "causal classes": (fp.PromptForSequenceClassification, LabelledTexts(SPOKEN.instructions, LABELS, ["n", "y"]), {}),
}
FOLDERS = {
    "blanks": ["bert-mlm", "roberta-mlm"],
    "answers": ["qwen3", "bloom", "mistral", "gemma"],
    "causal classes": ["gpt2"],
}
FOLDERS["classes"] = ["bert", "roberta", "distilbert", "electra", "modernbert", "mpnet", "deberta-v2"]
BESIDE = ("groups", "unread_tags", "window_ids")  # columns for metrics
CASES = [(kind, name) for kind in KINDS for name in FOLDERS.get(kind, ["bert"])]


@pytest.fixture
def folder_of(tiny, worded):
    return lambda name: tiny[name] if name in tiny else worded(name)


def config_of(kind, **options):
    given = {"pre_seq_len": 3, "init_std": 1.0, "prefix_layers": "last:1", **(PLAIN if kind == "blanks" else {})}
    return fp.PTuningV2Config(**{**given, **options})


def model_of(kind, folder, config=None, **options):
    task, _, outputs = KINDS[kind]
    rates = {"attention_probs_dropout_prob": 0.0, "portable": True, "seed": 3}
    return task.from_pretrained(folder, config or config_of(kind), **outputs, **{**rates, **options})


def loader_of(kind, folder, shuffle=False, seed=0, **options):
    data, tokenizer = KINDS[kind][1], fp.load_tokenizer(folder)
    if kind == "questions":
        data = fp.make_windows(data, tokenizer, 60, max_query_length=16)
    return fp.make_dataloader(data, tokenizer, batch_size=5, shuffle=shuffle, seed=seed, notes=[], **options)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_logits_and_losses_are_those_without(folder_of, tmp_path, kind, name):
    folder = folder_of(name)
    model, stock = model_of(kind, folder), model_of(kind, folder, portable=False)
    batches = list(loader_of(kind, folder))
    cached = list(fp.cache_frozen_layers(model, loader_of(kind, folder), tmp_path))
    for one in (model, stock):
        one.eval()
    assert len(cached) == len(batches)
    for batch, again in zip(batches, cached, strict=True):
        inputs = {name: x for name, x in batch.items() if name not in BESIDE}
        wanted = ops.to_numpy(stock(**inputs).logits)
        found = ops.to_numpy(model(**inputs, frozen_states=again["frozen_states"]).logits)
        mask = ops.to_numpy(batch["attention_mask"]).astype(bool)
        real = mask if found.shape[:2] == mask.shape else slice(None)  # at padding the states are 0
        numpy.testing.assert_allclose(found[real], wanted[real], atol=5e-6, rtol=0)
        losses = []
        for one, given in ((stock, batch), (model, again)):
            named = {name: x for name, x in given.items() if name not in BESIDE}
            losses.append(ops.to_numpy(one.evaluate_step(**named)["loss"]).item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def train(model, loader, epochs=1):
    """The losses of a training in fastNLP's Trainer."""
    losses = []
    step = model.train_step

    def noted(*inputs, **named):
        found = step(*inputs, **named)
        losses.append(ops.to_numpy(found["loss"]).item())
        return found

    noted.__signature__ = inspect.signature(step)  # fastNLP matches a batch with it
    model.train_step = noted
    runtime.seed(0)
    Trainer(
        model=model,
        driver=fp.get_driver(model),
        device=None,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-2),
        train_dataloader=loader,
        n_epochs=epochs,
        progress_bar=None,
    ).run()
    del model.train_step
    return losses


def test_two_hundred_steps_have_the_losses_without_and_two_runs_the_same_bits(tiny, tmp_path):
    folder, losses = tiny["bert"], []
    for cached in (False, True, True):
        model = model_of("classes", folder, portable=cached)
        loader = loader_of("classes", folder, shuffle=True)
        if cached:
            loader = fp.cache_frozen_layers(model, loader, tmp_path)
        losses.append(train(model, loader, epochs=40))
    assert len(losses[0]) == 200
    numpy.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[1] == losses[2]
    assert max(losses[0]) - min(losses[0]) > 0.1


@pytest.fixture
def computed(monkeypatch):
    """A list of the batches whose frozen layers were computed."""
    batches = []
    compute = frozen_layers.compute_states

    def noted(model, batch):
        batches.append(batch)
        return compute(model, batch)

    monkeypatch.setattr(frozen_layers, "compute_states", noted)
    return batches


def test_later_runs_of_other_seeds_lengths_and_methods_read_the_same_file(tiny, tmp_path, computed):
    folder = tiny["bert"]
    fp.cache_frozen_layers(model_of("classes", folder), loader_of("classes", folder), tmp_path)
    made = len(computed)
    assert made
    others = [config_of("classes", pre_seq_len=7), config_of("classes", prefix_layers=[2], prefix_projection=True)]
    for config in others:
        model = model_of("classes", folder, config, seed=8)
        fp.cache_frozen_layers(model, loader_of("classes", folder, shuffle=True, seed=9), tmp_path)
    assert len(computed) == made
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("other", ["backbone", "texts", "layer", "bf16"])
def test_what_the_numbers_depend_on_has_a_file_of_its_own(tiny, tmp_path, other):
    if other == "bf16" and not runtime.supports_bf16("cpu"):
        pytest.skip("no bfloat16 here")
    first = model_of("classes", tiny["bert"])
    fp.cache_frozen_layers(first, loader_of("classes", tiny["bert"]), tmp_path)
    folder = tiny["ernie-no-task" if other == "backbone" else "bert"]
    config = config_of("classes", prefix_layers="last:2") if other == "layer" else None
    model = model_of("classes", folder, config, bf16=other == "bf16")
    loader = fp.cache_frozen_layers(model, loader_of("pairs" if other == "texts" else "classes", folder), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    if other != "texts":
        with pytest.raises(DataError, match="of another backbone, layer, precision or framework"):
            first.train_step(**next(iter(loader)))


def test_the_file_is_safetensors_that_others_can_read(tiny, tmp_path):
    from safetensors.numpy import load_file

    model = model_of("classes", tiny["bert"])
    loader = fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    found = load_file(path)
    assert found["states"].shape == (sum(map(int, loader_of("classes", tiny["bert"]).parts.rows.lengths)), 32)
    batch = next(iter(loader))
    row = ops.to_numpy(batch["frozen_states"].states)[0]
    count = int(ops.to_numpy(batch["attention_mask"])[0].sum())
    start = found["offsets"][next(iter(loader.batch_sampler))[0]]
    numpy.testing.assert_array_equal(row[:count], found["states"][start : start + count])


@pytest.mark.parametrize("damage", ["cut", "changed", "no header"])
def test_a_damaged_file_is_named_and_made_anew(tiny, tmp_path, capfd, computed, damage):
    model = model_of("classes", tiny["bert"])
    fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    made = len(computed)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    path.write_bytes({"cut": whole[:-9], "changed": bytes(changed), "no header": b"\xff" * 40}[damage])
    fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    assert len(computed) == 2 * made
    assert f"{path}" in capfd.readouterr().err
    assert path.read_bytes() == whole


@pytest.mark.parametrize("trouble", ["limit", "full disk", "no folder"])
def test_without_room_every_step_computes_them_and_nothing_is_left(tiny, tmp_path, monkeypatch, capfd, trouble):
    folder, options = tmp_path / "cached", {}
    if trouble == "limit":
        options["limit_gb"] = 1e-6
    elif trouble == "no folder":
        folder.write_text("a file")
    else:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(state_file.os, "posix_fallocate", full)
    loader = loader_of("classes", tiny["bert"])
    assert fp.cache_frozen_layers(model_of("classes", tiny["bert"]), loader, folder, **options) is loader
    assert "every step computes" in capfd.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".part")]


def test_an_interrupted_computation_leaves_nothing_to_read(tiny, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    model = model_of("classes", tiny["bert"])
    with monkeypatch.context() as patched:
        patched.setattr(frozen_layers, "compute_states", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.glob(".*.part"))
    assert model.training


KILLED = """
import os, signal, sys
import fastprompt as fp
from fastprompt.training import frozen_layers
frozen_layers.compute_states = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
model = fp.PromptForSequenceClassification.from_pretrained(
    sys.argv[1], fp.PTuningV2Config(pre_seq_len=3, prefix_layers="last:1"), portable=True)
loader = fp.make_dataloader(fp.load_reviews("validation"), fp.load_tokenizer(sys.argv[1]))
fp.cache_frozen_layers(model, loader, sys.argv[2])
"""


def test_what_a_killed_process_left_is_cleared_away(tiny, tmp_path):
    environment = {**os.environ, "FASTNLP_BACKEND": backend()}
    done = subprocess.run([sys.executable, "-c", KILLED, tiny["bert"], tmp_path], env=environment, check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.glob(".*.part"))) == 1
    assert not list(tmp_path.glob("*.safetensors"))
    data, tokenizer = fp.load_reviews("validation"), fp.load_tokenizer(tiny["bert"])
    model = model_of("classes", tiny["bert"])
    cached = fp.cache_frozen_layers(model, fp.make_dataloader(data, tokenizer), tmp_path)
    assert not list(tmp_path.glob(".*.part"))
    assert next(iter(cached))["frozen_states"]


def test_of_two_runs_at_once_one_computes_and_the_other_waits(tiny, tmp_path, monkeypatch, capfd):
    reached, go_on, calls = threading.Event(), threading.Event(), []
    compute = frozen_layers.compute_states

    def slow(model, batch):
        calls.append(threading.current_thread())
        reached.set()
        assert go_on.wait(60)
        return compute(model, batch)

    monkeypatch.setattr(frozen_layers, "compute_states", slow)
    models = {number: model_of("classes", tiny["bert"], seed=number) for number in (1, 2)}
    loaders = {number: loader_of("classes", tiny["bert"]) for number in models}

    def run(number):
        loaders[number] = fp.cache_frozen_layers(models[number], loaders[number], tmp_path)

    threads = [threading.Thread(target=run, args=(number,)) for number in models]
    threads[0].start()
    assert reached.wait(60)
    threads[1].start()
    said, end = "", time.monotonic() + 60
    while "waiting for another process" not in said and time.monotonic() < end:
        said += capfd.readouterr().err
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    assert "waiting for another process" in said
    assert set(calls) == {threads[0]}
    batches = [next(iter(loaders[number]))["frozen_states"] for number in models]
    numpy.testing.assert_array_equal(*(ops.to_numpy(batch.states) for batch in batches))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (fp.PTuningV2Config(pre_seq_len=3), "p-tuning-v2 has a prefix in layer 0"),
        (fp.PTuningV2Config(pre_seq_len=3, prefix_layers=[0, 2]), "has a prefix in layer 0.*such as last:2"),
        (fp.PromptTuningConfig(num_virtual_tokens=3), "prompt of prompt-tuning stands in the input of the first layer"),
        (
            fp.PTuningV2Config(pre_seq_len=3, prefix_layers=[2], use_lm_finetune=True),
            "p-tuning-v2 with use_lm_finetune trains the backbone",
        ),
        (fp.FineTuningConfig(), "fine-tuning trains the backbone"),
        (fp.BitFitConfig(), "bitfit trains the backbone"),
    ],
)
def test_methods_that_leave_no_layer_as_it_is_say_so(tiny, tmp_path, config, message):
    model = model_of("classes", tiny["bert"], config)
    with pytest.raises(ConfigError, match=message):
        fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    states = frozen.FrozenStates(numpy.zeros((1, 2, 32), "float32"), "another")
    with pytest.raises(ConfigError, match=message):
        model(**next(iter(loader_of("classes", tiny["bert"]))), frozen_states=states)


@pytest.mark.skipif(backend() != "torch", reason="stock transformers models run on torch")
def test_a_stock_backbone_and_a_family_without_a_portable_one_say_so(tiny, tmp_path):
    for name, message in (
        ("bert", "load it with portable=True"),
        ("roformer", "roformer model, whose frozen layers cannot"),
    ):
        model = model_of("classes", tiny[name], fp.LinearProbeConfig(), portable=False)
        with pytest.raises(ConfigError, match=message):
            fp.cache_frozen_layers(model, loader_of("classes", tiny[name]), tmp_path)


def test_another_dataloader_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"for a dataloader of fp\.make_dataloader"):
        fp.cache_frozen_layers(model_of("classes", tiny["bert"]), [{}], tmp_path)


def test_a_linear_probe_caches_every_layer(tiny, tmp_path):
    model = model_of("classes", tiny["bert"], fp.LinearProbeConfig())
    model.eval()
    cached = fp.cache_frozen_layers(model, loader_of("classes", tiny["bert"]), tmp_path)
    for batch, again in zip(loader_of("classes", tiny["bert"]), cached, strict=True):
        found = [ops.to_numpy(model(**one).logits) for one in (batch, again)]
        numpy.testing.assert_allclose(*found, atol=5e-6)


@pytest.fixture
def glue(tmp_path):
    """The folder of a small data set, and the options of a run on it."""
    rows = [f"{text}\t{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    for name, part in (("train", rows), ("dev", rows[:7]), ("test", rows[7:12])):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *part]) + "\n")
    return tmp_path


def test_the_command_caches_them_for_all_its_splits_and_resumes_to_the_same_bits(tiny, glue, train_here, capfd):
    task = [
        *("--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir", glue),
        *("--pre_seq_len", "3", "--prefix_layers", "last:2", "--per_device_train_batch_size", "8"),
        *("--num_train_epochs", "2", "--logging_steps", "1", "--save_steps", "2"),
        *("--hidden_dropout_prob", "0.1", "--evaluation_strategy", "epoch"),
    ]
    plain = train_here(*task, "--output_dir", glue / "plain")
    assert "acts from layer 1 on, the first with a prefix" in capfd.readouterr().err
    cached = ("--cache_frozen_layers", glue / "cached")
    whole = train_here(*task, *cached, "--output_dir", glue / "whole")
    said = capfd.readouterr().err
    assert "24 texts before layer 1 are computed once" in said
    assert "7 texts before layer 1 are computed once" in said
    assert whole["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    again = glue / "whole" / "checkpoint-2"
    (glue / "resumed").mkdir()
    again.rename(glue / "resumed" / "checkpoint-2")
    train_here(*task, *cached, "--output_dir", glue / "resumed", "--resume_from_checkpoint", "last")
    said = capfd.readouterr().err
    assert "24 texts before layer 1 are read from" in said
    assert "computed once" not in said
    names = ("prompt.safetensors", "history.jsonl")
    assert (glue / "resumed" / names[0]).read_bytes() == (glue / "whole" / names[0]).read_bytes()
    with pytest.raises(ConfigError, match="with cache_frozen_layers True, now it is False"):
        train_here(*task, "--output_dir", glue / "whole", "--resume_from_checkpoint", "last")


def test_options_that_do_not_go_with_it_are_refused_before_a_model_is_read(tiny, glue, train_here):
    task = ["--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir", glue]
    task += ["--output_dir", glue / "out"]
    for options, message in (
        (("--cache_limit", "1"), "--cache_limit would change nothing: it goes with --cache_frozen_layers"),
        (("--cache_frozen_layers", "auto", "--load_in_8bit"), "--cache_frozen_layers takes layers as they are"),
        (("--cache_frozen_layers", "auto"), "p-tuning-v2 has a prefix in layer 0"),
        (("--cache_frozen_layers", "auto", "--prefix_layers", "last:1", "--cache_limit", "0"), "cache_limit is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            train_here(*task, *options)


def test_auto_is_the_users_cache_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fp.cache_frozen_layers(model_of("classes", tiny["bert"]), loader_of("classes", tiny["bert"]))
    assert len(list((tmp_path / "fastprompt" / "frozen_layers").glob("*.safetensors"))) == 1
