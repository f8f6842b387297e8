"""Portable encoder-decoders under every framework: what a prefix changes, what is generated, saved and resumed."""

import json
import shutil

import fastprompt as fp
from fastprompt.framework import BACKENDS, nn, ops
from fastprompt.saving.trainer_state import read_state

import numpy
import pytest
from safetensors.numpy import load_file

from support.seq2seq import ANSWER, LABELS, LENGTH, MASK, METHODS, PORTABLE, TEXT, batch, losses_of, model_of


def portable(folder, config=METHODS["p-tuning-v2"], **options):
    return model_of(folder, config, portable=True, **options)


def logits_of(model, ids, mask, answer):
    """Logits (B, T, vocab_size) of the tokens after those of an answer."""
    inputs = (ops.tensor(numpy.ascontiguousarray(array)) for array in (ids, mask, answer))
    with ops.no_grad():
        output = model(**dict(zip(("input_ids", "attention_mask", "decoder_input_ids"), inputs, strict=True)))
    return ops.to_numpy(output.logits)


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize("method", METHODS)
def test_each_generated_token_is_the_one_that_a_model_which_reads_all_anew_puts_first(folders, name, method):
    model = portable(folders[name], METHODS[method])
    written = model.generate(TEXT, MASK, max_new_tokens=6, eos_token_id=59)
    model.eval()
    for length in range(1, min(6, written.shape[1] - 1)):  # the last one may be forced
        logits = logits_of(model, TEXT, MASK, written[:, :length])[:, -1]
        going = ~(written[:, 1:length] == 59).any(1)
        assert logits.argmax(1)[going].tolist() == written[going, length].tolist()


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning"])
def test_padding_on_either_side_changes_nothing(folders, name, method):
    model = portable(folders[f"{name}-mild"], METHODS[method])
    model.eval()
    text, mask, answer = TEXT[1:2, :5], MASK[1:2, :5], ANSWER[1:2]
    alone = logits_of(model, text, mask, answer)
    sides = [(0, 4)]
    if name != "bart" and method == "p-tuning-v2":  # BART counts places, as in transformers
        sides.append((4, 0))
    for side in sides:
        padded = [numpy.pad(array, ((0, 0), side)) for array in (text, mask)]
        numpy.testing.assert_allclose(logits_of(model, *padded, answer), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize("config", [METHODS["p-tuning-v2"], fp.FineTuningConfig()], ids=lambda config: config.method)
def test_gradient_checkpointing_changes_no_gradient_and_all_get_one(folders, name, config):
    found = []
    for saving in (False, True):
        model = portable(folders[name], config, gradient_checkpointing=saving, hidden_dropout_prob=0.0)
        model.train()
        loss = model.train_step(**batch())["loss"]
        found.append(ops.gradients(loss, model.trainable_parameters()))
    # The bias of keys moves all scores alike: its gradient is what rounding leaves of 0.
    rounding = 1e-7 * max(numpy.abs(plain).max() for plain in found[0])
    for plain, saved in zip(*found, strict=True):
        assert plain.any()
        numpy.testing.assert_allclose(saved, plain, rtol=0, atol=1e-5 * numpy.abs(plain).max() + rounding)


@pytest.mark.parametrize("parts", [("encoder",), ("decoder",), ("cross",)], ids="+".join)
@pytest.mark.parametrize("name", PORTABLE)
def test_each_part_has_its_own_prefix_and_a_layer_without_one_is_the_backbones(folders, name, parts):
    bare = portable(folders[name], fp.FineTuningConfig())
    bare.eval()
    expected = logits_of(bare, TEXT, MASK, ANSWER)
    for layers in (None, [1]):
        config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_parts=parts, prefix_layers=layers)
        model = portable(folders[name], config)
        model.eval()
        assert numpy.abs(logits_of(model, TEXT, MASK, ANSWER) - expected).max() > 1e-3
        keys = [key for key in model.prompt.collapse() if key.endswith("key")]
        assert keys == [f"{part}.key" for part in parts]


@pytest.mark.parametrize("name", PORTABLE)
def test_dropout_is_left_out_before_the_first_chosen_layer(folders, name):
    def rates(module):
        attributes = ("p", "dropout_p")
        return {getattr(one, attribute, 0.0) for one in nn.modules(module) for attribute in attributes}

    config = fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_parts=("cross",), prefix_layers=[1])
    backbone = portable(folders[name], config, hidden_dropout_prob=0.5).backbone
    layers = backbone.decoder.layer_modules()
    assert rates(backbone.encoder) == rates(layers[0]) == {0.0}
    assert all(0.5 in rates(layer) for layer in layers[1:])


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize("config", [*METHODS.values(), fp.FineTuningConfig()], ids=lambda config: config.method)
def test_a_saved_prompt_gives_the_same_logits(folders, tmp_path, name, config):
    model = portable(folders[name], config, seed=5)
    losses_of(model, steps=1, rate=1e-3)
    model.save_pretrained(tmp_path / "one")
    again = fp.load_prompt_model(tmp_path / "one", portable=True)
    for each in (model, again):
        each.eval()
    found, expected = (logits_of(each, TEXT, MASK, ANSWER) for each in (again, model))
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    again.save_pretrained(tmp_path / "other")
    one, other = (load_file(tmp_path / folder / "prompt.safetensors") for folder in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(array.tobytes() == other[key].tobytes() for key, array in one.items())


def test_an_answer_of_one_token_is_learnt(folders):
    model = portable(folders["t5"])
    labels = ops.tensor(LABELS[:, :1].copy())
    given = {**batch(), "labels": labels}
    assert numpy.isfinite(ops.to_numpy(model.train_step(**given)["loss"]))


@pytest.mark.once
@pytest.mark.parametrize("name", PORTABLE)
def test_one_prompt_file_answers_alike_under_every_framework(folders, run_python, tmp_path, name):
    model = model_of(folders[f"{name}-mild"])
    losses_of(model, steps=3)
    model.save_pretrained(tmp_path / "prompt")
    model.eval()
    numpy.savez(tmp_path / "batch.npz", ids=TEXT, mask=MASK, answer=ANSWER)
    written = model.generate(TEXT, MASK, max_new_tokens=6)
    logits = logits_of(model, TEXT, MASK, ANSWER)
    code = (
        "import sys, numpy, fastprompt as fp\n"
        "from fastprompt.framework import ops\n"
        "data = numpy.load(sys.argv[1])\n"
        "model = fp.load_prompt_model(sys.argv[2], portable=True)\n"
        "model.eval()\n"
        "ids, mask, answer = (ops.tensor(data[name]) for name in ('ids', 'mask', 'answer'))\n"
        "logits = ops.to_numpy(model(ids, mask, decoder_input_ids=answer).logits)\n"
        "drawn = model.generate(ids, mask, max_new_tokens=6)\n"
        "numpy.savez(sys.argv[3], logits=logits, written=drawn)\n"
    )
    for backend in BACKENDS:
        run_python(backend, "-c", code, tmp_path / "batch.npz", tmp_path / "prompt", tmp_path / f"{backend}.npz")
        found = numpy.load(tmp_path / f"{backend}.npz")
        numpy.testing.assert_allclose(found["logits"], logits, rtol=0, atol=1e-5)
        assert found["written"].tolist() == written.tolist()


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_command_line_trains_resumes_and_answers(folders, rows, tmp_path, command, train_here, name):
    def run(folder, epochs, *more):
        return train_here(
            *("--model_name_or_path", folders[name], "--task_name", "instruction", "--data_dir", rows),
            *("--output_dir", folder, "--pre_seq_len", LENGTH, "--prefix_parts", "encoder", "cross"),
            *("--learning_rate", "0.05", "--num_train_epochs", epochs, "--per_device_train_batch_size", "8"),
            *("--logging_steps", "2", "--save_steps", "4", "--device", "cpu", "--lr_scheduler_type", "constant", *more),
        )

    predict = ("--do_train", "--do_predict", "--max_new_tokens", "4")
    run(tmp_path / "whole", 2, *predict)
    history = [json.loads(line) for line in (tmp_path / "whole" / "history.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < history[0]["loss"]

    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for file in ("metrics.json", "prompt.safetensors", "predictions.jsonl"):
        (tmp_path / "stopped" / file).unlink()
    for later in ("checkpoint-8", "checkpoint-12"):
        shutil.rmtree(tmp_path / "stopped" / later)
    assert read_state(tmp_path / "stopped" / "checkpoint-4")
    run(tmp_path / "stopped", 2, *predict, "--resume_from_checkpoint", "last")
    whole, resumed = (load_file(tmp_path / folder / "prompt.safetensors") for folder in ("whole", "stopped"))
    for key, array in whole.items():
        numpy.testing.assert_array_equal(resumed[key], array)

    wanted = [json.loads(line) for line in (tmp_path / "whole" / "predictions.jsonl").read_text().splitlines()]
    asked = "".join(f"{row['instruction']}\n" for row in wanted).encode()
    given = ("--model_name_or_path", tmp_path / "stopped", "--max_new_tokens", "4", "--format", "jsonl")
    done = command("predict", *given, "--device", "cpu", stdin=asked)
    assert [json.loads(line) for line in done.stdout.splitlines()] == wanted
