"""A frozen backbone sharded among processes (FSDP): the same numbers, part of the memory, and what is refused."""

import json
import subprocess
from pathlib import Path

import fastprompt as fp
from fastprompt.errors import BackendError, ConfigError
from fastprompt.framework import declaration

import pytest

TORCH = pytest.mark.skipif(fp.backend() != "torch", reason="fsdp is torch's")
CONFIG = fp.PTuningV2Config(pre_seq_len=3)


@pytest.fixture
def in_two():
    """in_two(script, *arguments): the last line of each of two processes that run it together."""

    def run(*arguments):
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for command, environment in declaration("torch").launcher.commands(2, "cpu", list(map(str, arguments)))
        ]
        outputs = [process.communicate(timeout=300) for process in processes]
        assert not any(process.returncode for process in processes), outputs[0][1][-3000:] + outputs[1][1][-3000:]
        return [output.splitlines()[-1] for output, _ in outputs]

    return run


@TORCH
def test_a_model_in_parts_computes_what_the_whole_one_does(tiny, causal, in_two):
    folders = [tiny[name] for name in ("bert", "albert", "deberta", "distilbert")]
    folders += [causal[name] for name in ("gpt2", "bloom", "llama")]
    first, second = map(json.loads, in_two(Path(__file__).with_name("shard_models.py"), *folders))
    assert len(first) == 2 * (4 * 2 + 5)
    for name, (apart, held) in first.items():
        assert apart < 1e-6, name
        assert 0 < held < 1
        assert held + second[name][1] == pytest.approx(1)


@TORCH
def test_a_run_in_parts_is_the_run_of_one_process_though_one_lacks_examples(command, tiny, tmp_path):
    """17 examples to evaluate in batches of 8: of the last batch's one example the second process has nothing."""
    for name, count in (("train", 24), ("dev", 17), ("test", 5)):
        texts = [f"a {'fine' if i % 2 else 'dull'} film{' and bright' * (i % 5)}" for i in range(count)]
        lines = [f"{i}\t{text}" if name == "test" else f"{text}\t{i % 2}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.tsv").write_text(
            "\n".join(["index\tsentence" if name == "test" else "sentence\tlabel", *lines])
        )
    task = [
        *("train", "--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2", "--data_dir"),
        *(tmp_path, "--device", "cpu", "--pre_seq_len", "3", "--learning_rate", "0.05", "--num_train_epochs", "2"),
        *("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--do_train", "--do_eval"),
        *("--do_predict", "--evaluation_strategy", "epoch", "--load_best_model_at_end"),
    ]
    for name, size, more in (("whole", 8, ()), ("parts", 4, ("--num_processes", "2", "--fsdp"))):
        sizes = ("--per_device_train_batch_size", size, "--per_device_eval_batch_size", size)
        command(*task, *sizes, *more, "--output_dir", tmp_path / name)
    found, wanted = (json.loads((tmp_path / name / "metrics.json").read_bytes()) for name in ("parts", "whole"))
    assert found["num_processes"] == 2
    for name in ("accuracy", "loss", "eval_samples", "best_step", "total_parameters"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-4), name
    found, wanted = ((tmp_path / name / "predictions.jsonl").read_text().splitlines() for name in ("parts", "whole"))
    assert len(found) == 5
    assert [json.loads(line)["label"] for line in found] == [json.loads(line)["label"] for line in wanted]


LOADERS = """
import json, sys
import fastprompt as fp
from fastprompt.data.examples import LabelledTexts
from fastNLP import TorchDataLoader
model = fp.PromptForSequenceClassification.from_pretrained(sys.argv[1], fp.PTuningV2Config(pre_seq_len=3))
fp.get_driver(model, "cpu", fsdp=True)
driver = fp.get_driver(model, "cpu")  # the model is in parts for good
texts = LabelledTexts(["a film", "fine", "dull"], [0, 1, 0], ["0", "1"])
loader = fp.make_dataloader(texts, fp.load_tokenizer(sys.argv[1]), batch_size=1, shuffle=False)
seen = 0
for batch in driver.set_dist_repro_dataloader(loader, "unrepeatdist"):
    driver.model_call(batch, model.evaluate_step, None)
    seen += len(batch["labels"])
try:
    driver.set_dist_repro_dataloader(TorchDataLoader([{"x": 1}], batch_size=1), "unrepeatdist")
except fp.FastpromptError as error:
    print(json.dumps([seen, str(error)]))
"""


@TORCH
def test_every_example_is_seen_once_and_other_loaders_are_refused(tiny, in_two):
    found = [json.loads(line) for line in in_two("-c", LOADERS, tiny["bert"])]
    assert [seen for seen, _ in found] == [2, 1]
    assert "make_dataloader" in found[0][1]


@TORCH
def test_one_process_has_nobody_to_share_with(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIG)
    with pytest.raises(ConfigError, match="start them with torchrun or --num_processes"):
        fp.get_driver(model, "cpu", fsdp=True)


@pytest.mark.parametrize(
    ("model", "reason"), [("tuned", "this one is trained"), ("quantized", "load_in_4bit"), ("blockless", "no list")]
)
@TORCH
def test_what_cannot_be_sharded_is_refused(model, reason):
    from fastprompt.drivers.torch.sharding import shard

    import torch

    layer = torch.nn.Linear(2, 2).requires_grad_(model == "tuned")
    if model == "quantized":
        layer.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ConfigError, match=reason):
        shard(torch.nn.Sequential(layer), "cpu", 2)


@pytest.mark.skipif(fp.backend() == "torch", reason="torch has it")
def test_the_other_frameworks_say_whose_it_is(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], CONFIG)
    with pytest.raises(BackendError, match="fsdp runs on torch"):
        fp.get_driver(model, "cpu", fsdp=True)


def test_a_quantized_backbone_is_not_sharded(command):
    done = command("train", "--model_name_or_path", "m", "--fsdp", "--load_in_4bit", check=False)
    assert done.returncode == 1
    assert b"--fsdp shards no quantized backbone" in done.stderr
