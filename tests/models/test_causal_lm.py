"""Causal language models with prompts: what a token sees, what is learnt, what is generated, on each framework."""

import json
import shutil
from functools import partial
from pathlib import Path

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError, DataError
from fastprompt.framework import backend, ops, optim

import numpy
import pytest

ROOT = Path(__file__).resolve().parent
PORTABLE = ["llama", "llama-tied", "llama-3.1", "qwen2", "qwen3", "gpt2", "bloom", "bloom-six"]
PORTABLE += ["mistral", "qwen2-window", "gemma", "phi3"]
if (ROOT.parents[2] / "shared" / "models" / "stories260K").is_dir():  # real weights
    PORTABLE.append("stories")
METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "p-tuning": fp.PTuningConfig(num_virtual_tokens=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "fine-tuning": fp.FineTuningConfig(),
}
LENGTHS = (9, 4, 1)


@pytest.fixture(scope="module")
def batch():
    """Three texts of unequal length, padded on either side: {"left_ids", "left_mask", "right_ids", "right_mask"}."""
    draw = numpy.random.default_rng(0)
    texts = [draw.integers(3, 99, length) for length in LENGTHS]
    made = {}
    for side in ("left", "right"):
        pads = [(0, 9 - n) if side == "right" else (9 - n, 0) for n in LENGTHS]
        made[f"{side}_ids"] = numpy.stack([numpy.pad(t, p) for t, p in zip(texts, pads, strict=True)])
        made[f"{side}_mask"] = numpy.stack([numpy.pad(t * 0 + 1, p) for t, p in zip(texts, pads, strict=True)])
    return made


@pytest.fixture(scope="module")
def reference(tmp_path_factory, run_python, causal, batch):
    """(folder of saved prompts, arrays): see causal_reference.py"""
    folder = tmp_path_factory.mktemp("reference")
    numpy.savez(folder / "batch.npz", **batch)
    pairs = [f"{name}={path}" for name, path in causal.items()]
    run_python("torch", ROOT / "causal_reference.py", folder, folder / "batch.npz", *pairs)
    return folder, dict(numpy.load(folder / "reference.npz"))


def kinds():
    """Models, and whether they are asked for in the portable definition: on torch the stock ones are tried too."""
    stock = [(name, False) for name in [*PORTABLE, "gemma2"]] if backend() == "torch" else []
    return [*((name, True) for name in PORTABLE), *stock]


def given(batch, side):
    return {"input_ids": ops.tensor(batch[f"{side}_ids"]), "attention_mask": ops.tensor(batch[f"{side}_mask"])}


@pytest.mark.parametrize(("name", "portable"), kinds())
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shifted", [False, True])
def test_logits_after_a_deep_prefix_are_those_of_past_keys_and_values(reference, batch, name, portable, side, shifted):
    folder, arrays = reference
    model = fp.PromptForCausalLM.from_pretrained(folder / f"{name}-p-tuning-v2", portable=portable)
    model.method_config.shift_positions = shifted
    model.eval()
    found = ops.to_numpy(model(**given(batch, side)).logits)
    real = batch[f"{side}_mask"].astype(bool)
    wanted = arrays[f"{name} {side} {'shifted ' if shifted else ''}logits"]
    assert numpy.abs(found - wanted)[real].max() < 1e-5 * max(1, numpy.abs(found[real]).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PORTABLE)
def test_gradients_are_those_of_the_stock_model(reference, causal, batch, name, method):
    _, arrays = reference
    model = fp.PromptForCausalLM.from_pretrained(causal[name], METHODS[method], seed=3, portable=True)
    model.train()
    inputs = given(batch, "right")
    labels = ops.tensor(numpy.where(batch["right_mask"], batch["right_ids"], -100))
    tuned = model.tuned_parameters()
    gradients = ops.gradients(model.train_step(**inputs, labels=labels)["loss"], list(tuned.values()))
    largest = max(numpy.abs(x).max() for key, x in arrays.items() if key.startswith(f"{name} {method} gradient"))
    for tensor, found in zip(tuned, gradients, strict=True):
        wanted = arrays[f"{name} {method} gradient {tensor}"]
        assert numpy.abs(found - wanted).max() <= 1e-4 * max(numpy.abs(wanted).max(), 1e-3 * largest), tensor


@pytest.mark.parametrize(("name", "portable"), kinds())
def test_greedy_tokens_are_those_of_transformers(reference, causal, batch, name, portable):
    model = fp.PromptForCausalLM.from_pretrained(causal[name], fp.FineTuningConfig(), portable=portable)
    found = model.generate(**given(batch, "left"), max_new_tokens=8, pad_token_id=0)
    wanted = reference[1][f"{name} greedy"]
    assert (found == wanted[:, : found.shape[1]]).all()
    assert not wanted[:, found.shape[1] :].any()


def test_no_token_sees_those_after_it_and_all_see_the_prefix(causal, batch):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["p-tuning-v2"])
    model.eval()
    ids = batch["right_ids"][:1]
    changed = ids.copy()
    changed[0, 5:] = 7
    one, other = (ops.to_numpy(model(ops.tensor(x)).logits) for x in (ids, changed))
    assert numpy.abs(one - other)[0, :5].max() < 1e-6
    bare = fp.PromptForCausalLM.from_pretrained(causal["llama"], fp.FineTuningConfig())
    bare.eval()
    without = ops.to_numpy(bare(ops.tensor(ids)).logits)
    assert (numpy.abs(one - without).max(axis=2) > 1e-3).all()


def test_a_deep_prefix_has_the_parameters_of_its_grouped_heads(causal):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["p-tuning-v2"])
    assert model.count_parameters()[0] == 3 * 2 * 3 * 2 * 8


def test_a_drawn_text_is_the_seeds_and_one_candidate_is_the_greedy_one(causal, batch):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["p-tuning-v2"])
    inputs = given(batch, "left")
    drawn = [model.generate(**inputs, do_sample=True, temperature=2.0, seed=seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = model.generate(**inputs).tolist()
    assert model.generate(**inputs, do_sample=True, top_k=1, seed=5).tolist() == greedy
    assert model.generate(**inputs, do_sample=True, top_p=1e-6, seed=5).tolist() == greedy


def test_a_row_that_has_ended_is_padded_and_read_no_further(causal, batch):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["p-tuning-v2"])
    written = model.generate(**given(batch, "left"), max_new_tokens=4, eos_token_id=98)[:, 9:]
    end = int(written[0, 0])
    found = model.generate(**given(batch, "left"), max_new_tokens=4, eos_token_id=end, pad_token_id=55)[:, 9:]
    assert found[0].tolist() == [end, *[55] * (found.shape[1] - 1)]
    for row, before in zip(found[1:], written[1:], strict=True):
        stop = before.tolist().index(end) if end in before else 4
        assert row[:stop].tolist() == before[:stop].tolist()


@pytest.mark.parametrize("method", ["p-tuning-v2", "p-tuning"])
def test_a_saved_prompt_gives_the_same_logits(causal, batch, tmp_path, method):
    model = fp.PromptForCausalLM.from_pretrained(causal["qwen2"], METHODS[method], seed=1)
    model.save_pretrained(tmp_path)
    loaded = fp.load_prompt_model(tmp_path)
    logits = []
    for each in (model, loaded):
        each.eval()
        logits.append(ops.to_numpy(each(**given(batch, "right")).logits))
    numpy.testing.assert_allclose(logits[0], logits[1], atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma"])  # gemma scales the embeddings of words
@pytest.mark.parametrize("portable", [True, False] if backend() == "torch" else [True])
def test_a_prompt_that_starts_as_a_text_gives_that_texts_logits(worded, name, portable):
    config = fp.PromptTuningConfig(num_virtual_tokens=2, init="text", init_text="w7 w9")
    folder, found = worded(name), []
    for method, ids in ((config, [20, 21, 22]), (fp.FineTuningConfig(), [7, 9, 20, 21, 22])):
        model = fp.PromptForCausalLM.from_pretrained(folder, method, portable=portable)
        model.eval()
        found.append(ops.to_numpy(model(ops.tensor(numpy.array([ids]))).logits)[0, -3:])
    assert numpy.ptp(found[1]) > 0.1
    numpy.testing.assert_allclose(found[0], found[1], atol=1e-5)


STORY_CODE = """
import sys, numpy, torch, transformers, fastprompt as fp
from fastprompt.framework import ops
start = numpy.array([[1, 403, 407]])
model = fp.load_prompt_model(sys.argv[1])
stock = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[2]).eval()
greedy = {"max_new_tokens": 64, "eos_token_id": 511}
found = {
    "prefix": model.generate(ops.tensor(start), **greedy),
    "stock": stock.generate(torch.from_numpy(start), do_sample=False, pad_token_id=0, **greedy).numpy(),
    "drawn": model.generate(ops.tensor(start), do_sample=True, temperature=1.5, top_k=40, top_p=0.95, seed=7, **greedy),
}
numpy.savez(sys.argv[3], **found)
"""


def test_sixty_four_tokens_of_a_real_model_are_torchs_and_transformers_own(stories, tmp_path, run_python):
    fp.PromptForCausalLM.from_pretrained(stories, fp.PTuningV2Config(pre_seq_len=4)).save_pretrained(tmp_path)
    run_python("torch", "-c", STORY_CODE, tmp_path, stories, tmp_path / "ids.npz")
    wanted = numpy.load(tmp_path / "ids.npz")
    start, greedy = ops.tensor(numpy.array([[1, 403, 407]])), {"max_new_tokens": 64, "eos_token_id": 511}
    model = fp.load_prompt_model(tmp_path, portable=True)
    assert wanted["prefix"].shape == (1, 67)
    assert model.generate(start, **greedy).tolist() == wanted["prefix"].tolist()
    drawn = model.generate(start, do_sample=True, temperature=1.5, top_k=40, top_p=0.95, seed=7, **greedy)
    assert drawn.tolist() == wanted["drawn"].tolist() != wanted["prefix"].tolist()
    bare = fp.PromptForCausalLM.from_pretrained(stories, fp.FineTuningConfig(), portable=True)
    assert bare.generate(start, **greedy).tolist() == wanted["stock"].tolist()


@pytest.mark.parametrize(("name", "portable"), kinds())
@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning"])
def test_cached_keys_and_values_change_no_token(causal, batch, name, portable, method):
    """Each token is the one that a model which reads everything anew puts first, rows padded in front."""
    model = fp.PromptForCausalLM.from_pretrained(causal[name], METHODS[method], seed=2, portable=portable)
    inputs = given(batch, "left")
    written = model.generate(**inputs, max_new_tokens=5, eos_token_id=99, pad_token_id=0)
    model.eval()
    for length in range(9, 14):
        mask = numpy.concatenate([batch["left_mask"], numpy.ones((3, length - 9), dtype="int64")], axis=1)
        logits = ops.to_numpy(model(ops.tensor(written[:, :length]), ops.tensor(mask)).logits)
        assert logits[:, -1].argmax(axis=1).tolist() == written[:, length].tolist()


def test_only_the_scores_of_labelled_words_are_computed_in_training(causal, batch):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["p-tuning-v2"])
    model.eval()
    labels = numpy.where(batch["left_mask"] * (numpy.arange(9) > 6), batch["left_ids"], -100)
    inputs = {**given(batch, "left"), "labels": ops.tensor(labels)}
    whole, few = model(**inputs), model(**inputs, only_targets=True)
    assert tuple(whole.logits.shape) == (3, 9, 99)
    assert tuple(few.logits.shape) == ((labels[:, 1:] != -100).sum(), 99)
    numpy.testing.assert_allclose(ops.to_numpy(few.loss), ops.to_numpy(whole.loss), rtol=1e-6)
    step = model.evaluate_step(**inputs)
    assert ops.to_numpy(step["target"]).tolist() == labels[:, 1:][labels[:, 1:] != -100].tolist()
    likeliest = ops.to_numpy(whole.logits).argmax(axis=2)[:, :-1]
    assert ops.to_numpy(step["pred"]).tolist() == likeliest[labels[:, 1:] != -100].tolist()
    nothing = ops.tensor(numpy.full_like(labels, -100))
    assert ops.to_numpy(model.train_step(**given(batch, "left"), labels=nothing)["loss"]).item() == 0


@pytest.mark.parametrize(("name", "portable"), kinds())
@pytest.mark.parametrize("side", ["left", "right"])
def test_classes_are_read_from_the_last_token_as_transformers_does(reference, batch, name, portable, side):
    folder, arrays = reference
    model = fp.PromptForSequenceClassification.from_pretrained(
        folder / f"{name}-classifier", fp.FineTuningConfig(), num_labels=3, portable=portable
    )
    assert model.fresh_tensors() == []
    assert "score.weight" in model.tuned_parameters()
    model.eval()
    found = ops.to_numpy(model(**given(batch, side)).logits)
    assert numpy.abs(found - arrays[f"{name} {side} classes"]).max() < 1e-5 * max(1, numpy.abs(found).max())


@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning"])
def test_a_classifiers_padding_may_stand_on_either_side(causal, batch, method):
    model = fp.PromptForSequenceClassification.from_pretrained(causal["gpt2"], METHODS[method], seed=3)
    model.eval()
    left, right = (ops.to_numpy(model(**given(batch, side)).logits) for side in ("left", "right"))
    assert numpy.ptp(left) > 1e-3
    numpy.testing.assert_allclose(left, right, atol=1e-5)


SENTENCES = [
    "The ferry leaves the harbour at nine and the crew counts every crate twice.",
    "Interest rates rose again, so the bank revised its forecast for the autumn.",
    "Our committee rejected the budget because nobody could explain the numbers.",
]


def test_prompts_lower_the_loss_of_a_real_model_and_the_deep_one_most(stories):
    rows = [fp.load_tokenizer(stories).plain_ids(text) for text in SENTENCES]
    width = max(map(len, rows))
    ids = numpy.array([[*row, *[0] * (width - len(row))] for row in rows])
    mask = numpy.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": numpy.where(mask, ids, -100)}
    inputs = {name: ops.tensor(array) for name, array in inputs.items()}
    fallen = {}
    for name in ("p-tuning-v2", "p-tuning", "prompt-tuning"):
        config = {"p-tuning-v2": fp.PTuningV2Config(pre_seq_len=8)}.get(name, METHODS[name])
        model = fp.PromptForCausalLM.from_pretrained(stories, config, seed=1)
        model.train()
        tuned = model.trainable_parameters()
        optimizer = fp.AdamW(tuned, lr=1e-1 if name == "p-tuning-v2" else 1e-2, weight_decay=0.0)
        losses = []
        for _ in range(25):
            loss = model.train_step(**inputs)["loss"]
            losses.append(float(ops.to_numpy(loss).reshape(())))
            optim.step_with(optimizer, tuned, ops.gradients(loss, tuned))
        fallen[name] = losses[0] - min(losses[-5:])
    assert min(fallen.values()) > 0
    assert max(fallen, key=fallen.get) == "p-tuning-v2"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_heads_of_encoders_are_refused_on_causal_models_and_the_other_way_round(causal, tiny):
    with pytest.raises(ConfigError, match="is a causal language model, which token_classification does not go with"):
        fp.PromptForTokenClassification.from_pretrained(causal["llama"])
    with pytest.raises(ConfigError, match="sees nothing of the text after it; a causal model takes 'last' or 'mean'"):
        fp.PromptForSequenceClassification.from_pretrained(causal["llama"], fp.PTuningV2Config(pooling="first"))
    with pytest.raises(ConfigError, match="is no causal language model, which causal_lm does not go with"):
        fp.PromptForCausalLM.from_pretrained(tiny["bert"])


def test_generation_that_cannot_go_well_is_refused(causal, batch, monkeypatch):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"])
    with pytest.raises(DataError, match="pad them in front"):
        model.generate(**given(batch, "right"))
    with pytest.raises(ConfigError, match="temperature 0"):
        model.generate(**given(batch, "left"), do_sample=True, temperature=0.0)
    with pytest.raises(ConfigError, match="9 tokens and 60 new ones are more than the 64"):
        model.generate(**given(batch, "left"), max_new_tokens=60)
    monkeypatch.setattr(model, "_generation_settings", lambda: {"eos_token_id": 2})
    with pytest.raises(ConfigError, match="no pad token; give pad_token_id"):
        model.generate(**given(batch, "left"))


def test_a_text_beyond_the_models_positions_is_refused(causal):
    model = fp.PromptForCausalLM.from_pretrained(causal["llama"], METHODS["prompt-tuning"])
    with pytest.raises(ConfigError, match="leave room for 61"):
        model(ops.tensor(numpy.ones((1, 62), dtype="int64")))


@pytest.mark.parametrize(
    ("name", "setting", "named"),
    [
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0}}, "rope_type 'yarn'"),
        (
            "mistral",
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None},
            "rope_type 'dynamic'",
        ),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 500.0}}, "rope_type 'longrope'"),
        ("phi3", {"partial_rotary_factor": 0.5, "rope_parameters": None}, "partial_rotary_factor 0.5"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
    ],
)
def test_what_a_portable_definition_has_not_is_refused_by_its_key(causal, tmp_path, name, setting, named):
    shutil.copytree(causal[name], tmp_path / name)
    config = tmp_path / name / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    with pytest.raises(CheckpointError, match=f"asks for {named}, which the portable definition lacks; use torch"):
        fp.PromptForCausalLM.from_pretrained(tmp_path / name, portable=True)


def gradients_of(model, batch):
    model.train()
    labels = ops.tensor(numpy.where(batch["right_mask"], batch["right_ids"], -100))
    tuned = list(model.tuned_parameters().values())
    return ops.gradients(model.train_step(**given(batch, "right"), labels=labels)["loss"], tuned)


@pytest.mark.parametrize(("name", "portable"), [kind for kind in kinds() if kind[0] in ("qwen3", "gpt2", "bloom")])
def test_gradient_checkpointing_changes_no_gradient_of_a_causal_model(causal, batch, name, portable):
    options = {"seed": 3, "portable": portable}
    make = partial(fp.PromptForCausalLM.from_pretrained, causal[name], METHODS["p-tuning-v2"], **options)
    plain, saving = (gradients_of(make(gradient_checkpointing=on), batch) for on in (False, True))
    for one, other in zip(plain, saving, strict=True):
        assert numpy.abs(one).max() > 0
        numpy.testing.assert_allclose(other, one, atol=1e-6 * numpy.abs(one).max())


@pytest.mark.parametrize("name", ["llama", "bloom", "gemma"])
def test_a_bank_reads_rows_of_several_prompts_on_a_causal_model(causal, batch, tmp_path, name):
    configs = {"long": fp.PTuningV2Config(pre_seq_len=5, init_std=0.5), "short": fp.PTuningV2Config(pre_seq_len=2)}
    configs["shallow"] = fp.PromptTuningConfig(num_virtual_tokens=4)
    for number, (prompt, config) in enumerate(configs.items()):
        model = fp.PromptForSequenceClassification.from_pretrained(causal[name], config, seed=number)
        model.save_pretrained(tmp_path / prompt)
    bank = fp.PromptBank.from_pretrained({prompt: tmp_path / prompt for prompt in configs})
    inputs, names = given(batch, "left"), list(configs)
    mixed = bank(**inputs, prompts=names).logits
    for row, prompt in enumerate(names):
        alone = ops.to_numpy(bank(**inputs, prompts=prompt).logits)[row]
        numpy.testing.assert_allclose(ops.to_numpy(mixed[row]), alone, atol=1e-5)


def test_a_bank_refuses_blooms_prefixes_that_stand_before_the_text(causal, tmp_path):
    config = fp.PTuningV2Config(pre_seq_len=2, shift_positions=True)
    fp.PromptForSequenceClassification.from_pretrained(causal["bloom"], config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="stands before its text"):
        fp.PromptBank.from_pretrained({"one": tmp_path})
