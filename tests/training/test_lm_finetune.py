"""A prompt whose backbone is trained too: its groups and rates, its file, going on, and what is refused."""

import json
import shutil

import fastprompt as fp
from fastprompt.errors import ConfigError
from fastprompt.framework import ops, optim
from fastprompt.methods.baselines import FineTuningConfig
from fastprompt.options.train import TrainOptions
from fastprompt.training.trainer import make_schedule

import numpy
import pytest
from safetensors.numpy import load_file

RATE = 1e-3


def load(folder, config):
    return fp.PromptForSequenceClassification.from_pretrained(folder, config)


@pytest.fixture
def task(tiny):
    return [
        *("--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", "32"),
        *("--max_eval_samples", "8", "--per_device_train_batch_size", "8", "--pre_seq_len", "3"),
        *("--use_lm_finetune", "--backbone_learning_rate", str(RATE), "--logging_steps", "1"),
    ]


@pytest.mark.parametrize(
    "config",
    [
        fp.PTuningV2Config(pre_seq_len=3, use_lm_finetune=True),
        fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_layers="last:1", use_lm_finetune=True),
        fp.PTuningConfig(num_virtual_tokens=3, use_lm_finetune=True),
        fp.PromptTuningConfig(num_virtual_tokens=3, use_lm_finetune=True),
        fp.ShallowPrefixConfig(pre_seq_len=3, use_lm_finetune=True),
    ],
)
def test_the_prompt_and_all_that_fine_tuning_trains_are_trained(tiny, config):
    model = load(tiny["bert"], config)
    prompt = {name for name in model.tuned_parameters() if name.startswith("prompt.")}
    fine_tuned = set(load(tiny["bert"], fp.FineTuningConfig()).tuned_parameters())
    assert prompt
    assert set(model.tuned_parameters()) == prompt | fine_tuned
    own, backbone = (group["params"] for group in model.parameter_groups())
    names = {id(p): name for name, p in model.tuned_parameters().items()}
    assert {names[id(p)] for p in own} == prompt | {"classifier.weight", "classifier.bias"}
    assert len(own) + len(backbone) == len(names)


def test_groups_have_their_own_rates(tiny):
    model = load(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3, use_lm_finetune=True))
    for given, rates in (((), (3e-2, FineTuningConfig.learning_rate)), ((1e-3, 2e-3), (1e-3, 2e-3))):
        optimizer = fp.AdamW(model.parameter_groups(*given))
        numpy.testing.assert_allclose(optim.learning_rates(optimizer), rates, rtol=1e-6)


def test_a_frozen_backbone_makes_one_group_and_takes_no_rate(tiny):
    for config in (fp.PTuningV2Config(pre_seq_len=3), fp.FineTuningConfig()):
        model = load(tiny["bert"], config)
        (group,) = model.parameter_groups(1e-3)
        assert {id(p) for p in group["params"]} == {id(p) for p in model.trainable_parameters()}
        with pytest.raises(ConfigError, match="backbone_learning_rate goes with a prompt's use_lm_finetune"):
            model.parameter_groups(1e-3, backbone_learning_rate=1e-5)


def test_the_backbone_keeps_the_checkpoints_dropout_and_a_frozen_one_has_none(tiny):
    def first_states(**options):
        model = load(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3, prefix_layers="last:1", **options))
        model.train()
        ids = ops.tensor(numpy.array([[2, 7, 9, 11, 3]]))
        return {ops.to_numpy(model.encode(ids, output_hidden_states=True)[1][1]).tobytes() for _ in range(3)}

    assert len(first_states()) == 1
    assert len(first_states(use_lm_finetune=True)) == 3


@pytest.mark.parametrize("rate", [RATE, 0.1])
def test_the_first_step_moves_each_group_by_its_own_rate(tiny, task, train_here, tmp_path, rate):
    # Adam's first step is the rate itself wherever there is a gradient; a schedule that is constant sets it.
    words = [*task, "--max_train_samples", "8", "--learning_rate", "0.02", "--lr_scheduler_type", "constant"]
    words += ["--warmup_ratio", "0", "--backbone_learning_rate", str(rate)]
    train_here(*words, "--output_dir", tmp_path)
    before, after = (
        {name: ops.to_numpy(p) for name, p in model.named_tensors().items()}
        for model in (
            fp.PromptForSequenceClassification.from_pretrained(
                tiny["bert"], fp.PTuningV2Config(pre_seq_len=3, use_lm_finetune=True), seed=11
            ),
            fp.load_prompt_model(tmp_path),
        )
    )
    moved = {name: float(numpy.abs(after[name] - before[name]).max()) for name in before}
    assert moved["prompt.embedding.weight"] == pytest.approx(0.02, rel=1e-2)
    assert moved["classifier.weight"] == pytest.approx(0.02, rel=1e-2)
    assert moved["bert.encoder.layer.0.attention.self.query.weight"] == pytest.approx(rate, rel=1e-2)
    assert moved["bert.embeddings.LayerNorm.bias"] == pytest.approx(rate, rel=1e-2)


def test_the_run_writes_the_backbone_and_the_prompt_goes_on_with_it(tiny, task, train_here, tmp_path):
    metrics = train_here(*task, "--save_steps", "2", "--output_dir", tmp_path / "whole")
    assert metrics["use_lm_finetune"] is True
    assert metrics["backbone_learning_rate"] == RATE
    stored = load_file(tmp_path / "whole" / "prompt.safetensors")
    stock = load_file(tiny["bert"] / "model.safetensors")
    assert stored.keys() >= {"key", "value", "classifier.weight"} | {
        f"bert.{name.removeprefix('bert.')}" for name in stock if "pooler" not in name and "cls." not in name
    }
    # from a checkpoint the run ends as if nothing had been
    (tmp_path / "half").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "half" / "checkpoint-2")
    shutil.copy(tmp_path / "whole" / "history.jsonl", tmp_path / "half")
    train_here(*task, "--save_steps", "2", "--resume_from_checkpoint", "last", "--output_dir", tmp_path / "half")
    resumed = load_file(tmp_path / "half" / "prompt.safetensors")
    assert all((resumed[name] == array).all() for name, array in stored.items())
    # a saved prompt brings use_lm_finetune along, and takes a rate for its backbone
    on = ["--model_name_or_path", tmp_path / "whole", *task[2:8], "--backbone_learning_rate", "1e-4"]
    train_here(*on, "--output_dir", tmp_path / "on")
    moved = load_file(tmp_path / "on" / "prompt.safetensors")
    assert all((moved[name] != array).any() for name, array in stored.items() if "query.weight" in name)
    history = [json.loads(line) for line in (tmp_path / "on" / "history.jsonl").read_text().splitlines()]
    assert history


def test_a_rate_of_the_backbone_beside_a_frozen_one_is_refused_by_name(tiny):
    given = {"model_name_or_path": str(tiny["bert"]), "task_name": "reviews", "backbone_learning_rate": 1e-5}
    for more in ({}, {"method": "fine-tuning"}):
        with pytest.raises(ConfigError, match="--backbone_learning_rate goes with --use_lm_finetune"):
            TrainOptions(**given, **more)


def test_the_schedule_reaches_the_larger_rate(tiny):
    given = {"model_name_or_path": str(tiny["bert"]), "task_name": "reviews", "use_lm_finetune": True}
    assert make_schedule(TrainOptions(**given).training).learning_rate == 3e-2
    assert TrainOptions(**given).training.backbone_learning_rate == FineTuningConfig.learning_rate
    larger = TrainOptions(**given, learning_rate=1e-5, backbone_learning_rate=1e-4)
    assert make_schedule(larger.training).learning_rate == 1e-4


@pytest.mark.parametrize("option", ["bf16", "load_in_8bit", "load_in_4bit"])
def test_a_precision_that_keeps_the_backbone_frozen_is_refused(tiny, option):
    config = fp.PromptTuningConfig(num_virtual_tokens=3, use_lm_finetune=True)
    with pytest.raises(ConfigError, match=f"prompt-tuning with use_lm_finetune trains .* which {option} keeps frozen"):
        fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config, **{option: True})


def test_cached_layers_are_refused_by_name(task, train_here, tmp_path):
    with pytest.raises(ConfigError, match="p-tuning-v2 with use_lm_finetune trains the backbone, so that none of its"):
        train_here(*task, "--prefix_layers", "last:1", "--cache_frozen_layers", tmp_path, "--output_dir", tmp_path)
