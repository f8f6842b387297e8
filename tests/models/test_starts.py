"""Where a new prompt starts: at zero, or with a saved prompt of another task."""

import json

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import ops, optim

import numpy
import pytest

IDS = numpy.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])
CONFIGS = {
    "deep": lambda **more: fp.PTuningV2Config(pre_seq_len=3, **more),
    "layers": lambda **more: fp.PTuningV2Config(pre_seq_len=3, prefix_layers="last:1", **more),
    "projection": lambda **more: fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, **more),
    "p-tuning": lambda **more: fp.PTuningConfig(num_virtual_tokens=3, **more),
    "prompt-tuning": lambda **more: fp.PromptTuningConfig(num_virtual_tokens=3, **more),
    "shallow-prefix": lambda **more: fp.ShallowPrefixConfig(pre_seq_len=3, **more),
}


def made(folder, config, **options):
    return fp.PromptForSequenceClassification.from_pretrained(folder, config, **options)


def values(model):
    return {name: ops.to_numpy(p) for name, p in model.named_tensors().items()}


@pytest.fixture
def saved(tiny, tmp_path):
    """saved(config, folder=tiny["bert"], ...): the folder of a prompt that another seed made."""

    def save(config, folder=tiny["bert"], **options):
        made(folder, config, seed=5, **options).save_pretrained(tmp_path / "start")
        return tmp_path / "start"

    return save


# --- zero -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [fp.PTuningV2Config(pre_seq_len=3, init="zero"), fp.PromptTuningConfig(num_virtual_tokens=3, init="zero")]
)
def test_a_zero_start_is_zero_and_learns(tiny, config):
    model = made(tiny["bert"], config)
    assert not ops.to_numpy(model.tuned_parameters()["prompt.embedding.weight"]).any()
    model.train()
    ids = ops.tensor(IDS)
    loss = model.train_step(ids, ops.tensor((IDS > 0).astype("int64")), ops.tensor(numpy.array([0, 1])))["loss"]
    (gradient,) = ops.gradients(loss, [model.tuned_parameters()["prompt.embedding.weight"]])
    assert gradient.any()


def test_positions_of_a_zero_prefix_stay_the_same_as_the_note_says(tiny):
    config = fp.PTuningV2Config(pre_seq_len=3, init="zero")
    assert "they learn as one position" in config.notes[0]
    assert not fp.PTuningV2Config(pre_seq_len=3, init="zero", prefix_dropout=0.1).notes
    assert not fp.PTuningV2Config(pre_seq_len=3).notes
    model = made(tiny["bert"], config, attention_probs_dropout_prob=0.0)
    model.train()
    parameters, ids = model.trainable_parameters(), ops.tensor(IDS)
    optimizer = optim.AdamW(parameters, lr=1e-2)
    for _ in range(3):
        loss = model.train_step(ids, ops.tensor((IDS > 0).astype("int64")), ops.tensor(numpy.array([0, 1])))["loss"]
        optim.step_with(optimizer, parameters, ops.gradients(loss, parameters))
    rows = ops.to_numpy(model.tuned_parameters()["prompt.embedding.weight"])
    assert numpy.abs(rows).max() > 1e-2
    numpy.testing.assert_allclose(rows, numpy.repeat(rows[:1], 3, axis=0), atol=1e-3)


def test_a_network_takes_no_zero_start():
    with pytest.raises(ConfigError, match="init='zero' gives the keys and values themselves; leave prefix_projection"):
        fp.PTuningV2Config(init="zero", prefix_projection=True)


# --- a saved prompt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prompt_starts_with_the_values_of_another_and_with_its_head(tiny, saved, name):
    start = saved(CONFIGS[name]())
    found, wanted, fresh = (
        values(model)
        for model in (
            made(tiny["bert"], CONFIGS[name](), init_prompt=start),
            fp.load_prompt_model(start),
            made(tiny["bert"], CONFIGS[name]()),
        )
    )
    for tensor, value in wanted.items():
        assert (found[tensor] == value).all()
    assert any((found[tensor] != value).any() for tensor, value in fresh.items() if tensor.startswith("prompt."))


@pytest.mark.parametrize("other", [{"num_labels": 3}, {"label_names": ["a", "b"]}, {"num_labels": 1}])
def test_the_head_of_other_labels_is_left(tiny, saved, other):
    start = saved(CONFIGS["deep"]())
    found, fresh = (
        values(made(tiny["bert"], CONFIGS["deep"](), **other, **more)) for more in ({"init_prompt": start}, {})
    )
    assert (found["classifier.weight"] == fresh["classifier.weight"]).all()
    assert (found["prompt.embedding.weight"] == values(fp.load_prompt_model(start))["prompt.embedding.weight"]).all()


def test_the_prompt_of_another_task_is_a_start(tiny, saved):
    start = saved(CONFIGS["deep"]())
    model = fp.PromptForQuestionAnswering.from_pretrained(tiny["bert"], CONFIGS["deep"](), init_prompt=start)
    wanted = values(fp.load_prompt_model(start))["prompt.embedding.weight"]
    assert (values(model)["prompt.embedding.weight"] == wanted).all()


@pytest.mark.parametrize(("source", "target"), [("projection", "deep"), ("p-tuning", "prompt-tuning")])
def test_what_a_network_made_starts_a_prompt_that_is_stored_itself(tiny, saved, source, target):
    start = saved(CONFIGS[source]())
    model = made(tiny["bert"], CONFIGS[target](), init_prompt=start)
    for name, array in fp.load_prompt_model(start).prompt.collapse().items():
        assert (model.prompt.collapse()[name] == array).all()


def test_a_backbone_that_was_tuned_too_comes_along_where_it_is_trained(tiny, saved):
    config = CONFIGS["deep"](use_lm_finetune=True)
    model = made(tiny["bert"], config, seed=5)
    from fastprompt.framework import nn

    name = "bert.encoder.layer.0.attention.self.query.weight"
    nn.set_value(model.named_tensors()[name], values(model)[name] + 1)
    start = saved(config)
    model.save_pretrained(start)
    assert (values(made(tiny["bert"], config, init_prompt=start))[name] == values(model)[name]).all()
    with pytest.raises(ConfigError, match="was tuned together with its backbone; start with it under use_lm_finetune"):
        made(tiny["bert"], CONFIGS["deep"](), init_prompt=start)


REFUSED = {
    "another length": ("deep", fp.PTuningV2Config(pre_seq_len=4), "has 3 positions, this prompt 4"),
    "another form": ("deep", CONFIGS["prompt-tuning"](), "holds key and value, and prompt-tuning has embedding"),
    "other layers": ("layers", CONFIGS["deep"](), r"has prefix_layers \(2,\), this prompt None"),
    "other positions": ("deep", CONFIGS["deep"](shift_positions=True), "has shift_positions False, this prompt True"),
    "no encoder": ("deep", CONFIGS["projection"](), "has no encoder, and a network makes this prompt"),
    "another encoder": (
        "p-tuning",
        fp.PTuningConfig(num_virtual_tokens=3, encoder="mlp"),
        "has another encoder than the one that makes this prompt",
    ),
    "two starts": ("deep", CONFIGS["deep"](init="text", init_text="a"), "init='text' are two starts"),
    "no prompt": ("deep", fp.LinearProbeConfig(), "linear-probe has no prompt that could start with init_prompt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(tiny, saved, case):
    name, config, message = REFUSED[case]
    start = saved(CONFIGS[name]())
    with pytest.raises(ConfigError, match=message):
        made(tiny["bert"], config, init_prompt=start)


def test_a_baseline_another_backbone_and_a_saved_prompt_are_refused(tiny, saved, tmp_path):
    made(tiny["bert"], fp.BitFitConfig()).save_pretrained(tmp_path / "bitfit")
    with pytest.raises(ConfigError, match="is bitfit and holds no prompt to start with"):
        made(tiny["bert"], CONFIGS["deep"](), init_prompt=tmp_path / "bitfit")
    start = saved(CONFIGS["deep"]())
    with pytest.raises(CheckpointError, match=r"whose weights are not .*electra"):
        made(tiny["electra"], CONFIGS["deep"](), init_prompt=start)
    with pytest.raises(ConfigError, match="is a saved prompt and starts as it is; leave init_prompt off"):
        fp.load_prompt_model(start, init_prompt=start)
    with pytest.raises(CheckpointError, match="holds no prompt"):
        made(tiny["bert"], CONFIGS["deep"](), init_prompt=tmp_path / "none")


def test_the_command_starts_with_a_prompt_says_so_and_knows_the_run_by_it(tiny, train_here, tmp_path, capfd):
    task = ["--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", "8"]
    task += ["--max_eval_samples", "8", "--pre_seq_len", "3"]
    train_here(*task, "--output_dir", tmp_path / "first")
    rest = [*task, "--learning_rate", "1e-12", "--init_prompt", tmp_path / "first"]
    found = train_here(*rest, "--output_dir", tmp_path / "second")
    assert "first, with its head." in capfd.readouterr().err
    first, second = (values(fp.load_prompt_model(tmp_path / name)) for name in ("first", "second"))
    for name, value in first.items():
        numpy.testing.assert_allclose(second[name], value, atol=1e-6)
    assert "init_prompt" not in json.loads((tmp_path / "second" / "prompt_config.json").read_text())
    assert found["initial_prompt"]
    train_here(*task, "--seed", "3", "--output_dir", tmp_path / "third")
    resumed = [*task, "--learning_rate", "1e-12", "--init_prompt", tmp_path / "third"]
    with pytest.raises(ConfigError, match="initial_prompt"):
        train_here(*resumed, "--resume_from_checkpoint", "last", "--output_dir", tmp_path / "second")
    for bad, message in ((tmp_path, "holds no prompt"), (tmp_path / "none", "holds no prompt")):
        with pytest.raises(ConfigError, match=message):
            train_here(*task, "--init_prompt", bad, "--output_dir", tmp_path / "fourth")
