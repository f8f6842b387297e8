"""Encoder-decoders on torch: what a prefix is, what is learnt and generated."""

import json
import shutil

import fastprompt as fp
from fastprompt.framework import ops
from fastprompt.methods.base import PREFIX_PARTS

import numpy
import pytest

if fp.backend() != "torch":
    pytest.skip("the stock model is torch; test_seq2seq_frameworks.py runs under all", allow_module_level=True)

import torch
from fastNLP import Accuracy, Callback, DataSet, Trainer, prepare_torch_dataloader
from transformers import AutoModelForSeq2SeqLM

from support import seq2seq
from support.seq2seq import KINDS, LENGTH, METHODS, NAMES, PORTABLE, SHAPES, batch, losses_of, model_of

TEXT, MASK, ANSWER, LABELS = map(torch.from_numpy, (seq2seq.TEXT, seq2seq.MASK, seq2seq.ANSWER, seq2seq.LABELS))
BATCH = batch()


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_without_a_prompt_logits_loss_and_greedy_tokens_are_those_of_transformers(folders, name, portable):
    model = model_of(folders[name], fp.FineTuningConfig(), portable=portable).double().eval()
    stock = AutoModelForSeq2SeqLM.from_pretrained(folders[name], dtype=torch.float64).eval()
    ours, theirs = model(**BATCH), stock(**BATCH)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.loss, theirs.loss)
    text = {"input_ids": TEXT, "attention_mask": MASK}
    wanted = stock.generate(**text, max_new_tokens=8, do_sample=False, use_cache=False).numpy()
    assert model.float().generate(**text, max_new_tokens=8).tolist() == wanted.tolist()
    assert len(set(wanted[:, 1:].ravel().tolist())) > 4  # a model that says more than one word


def test_barts_forced_first_and_last_tokens_are_those_of_transformers(folders, tmp_path):
    shutil.copytree(folders["bart"], tmp_path / "bart")
    path = tmp_path / "bart" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"forced_bos_token_id": 9, "forced_eos_token_id": 7}))
    text = {"input_ids": TEXT, "attention_mask": MASK}
    stock = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bart").eval()
    model = model_of(tmp_path / "bart", fp.FineTuningConfig())
    for count in (1, 5):
        wanted = stock.generate(**text, max_new_tokens=count, do_sample=False).numpy()
        assert model.generate(**text, max_new_tokens=count).tolist() == wanted.tolist()
    assert (wanted[:, 1] == 9).all()


def heads_of(x, heads):
    """(B, T, heads * head_dim) -> (B, heads, T, head_dim)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def t5_bias(table, queries, keys, causal):
    """(heads, queries, keys): a learnt number for each of the distances up to 8, which have a bucket each."""
    distances = torch.arange(keys)[None] - torch.arange(queries)[:, None]
    buckets = (-distances).clamp(min=0) if causal else distances.abs() + 16 * (distances > 0)
    return table.weight[buckets].permute(2, 0, 1)


def by_hand(attention, part, stack, prefix):
    """The forward of an attention of T5 or BART with keys and values before its own, or None.

    A prefix is at no distance, so its scores are q k alone: T5's not divided by anything, BART's by sqrt(head_dim).
    """
    t5 = hasattr(attention, "o")
    names = ("q", "k", "v") if t5 else ("q_proj", "k_proj", "v_proj")
    query_of, key_of, value_of = (getattr(attention, name) for name in names)
    heads = attention.n_heads if t5 else attention.num_heads

    def forward(hidden, *inputs, key_value_states=None, **options):
        source = hidden if part != "cross" else key_value_states
        query, key, value = (
            heads_of(layer(x), heads) for layer, x in ((query_of, hidden), (key_of, source), (value_of, source))
        )
        queries, keys = query.shape[2], key.shape[2]
        scores = query @ key.transpose(2, 3)
        if t5 and part != "cross":
            table = stack.block[0].layer[0].SelfAttention.relative_attention_bias
            scores = scores + t5_bias(table, queries, keys, part == "decoder")
        seen = torch.ones(queries, keys).tril().bool()[None] if part == "decoder" else MASK.bool()[:, None]
        scale = 1.0 if t5 else query.shape[3] ** -0.5
        scores = torch.where(seen[:, None], scores * scale, -torch.inf)
        if prefix is not None:
            scores = torch.cat([(query @ prefix[0].transpose(1, 2)) * scale, scores], dim=3)
            value = torch.cat([prefix[1].expand(len(query), -1, -1, -1), value], dim=2)
        found = (scores.softmax(3) @ value).transpose(1, 2).flatten(2)
        return (attention.o(found), None, None) if t5 else (attention.out_proj(found), None)

    return forward


def stock_by_hand(folder, prompt, layers=None):
    """transformers' model in float64, every attention of it by hand; prompt: part -> keys and values, of `layers`."""
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
    counts = dict.fromkeys(PREFIX_PARTS, 0)
    for stack, parts in ((stock.get_encoder(), ["encoder"]), (stock.get_decoder(), ["decoder", "cross"])):
        found = [module for module in stack.modules() if type(module).__name__.endswith("Attention")]
        found = [module for module in found if hasattr(module, "o") or hasattr(module, "out_proj")]
        for number, attention in enumerate(found):
            part = parts[number % len(parts)]
            pair = prompt.get(part)
            has_prefix = pair is not None and (layers is None or counts[part] in layers)
            prefix = [x[layers.index(counts[part]) if layers else counts[part]] for x in pair] if has_prefix else None
            attention.forward = by_hand(attention, part, stack, prefix)
            counts[part] += 1
    return stock


@pytest.mark.parametrize(("name", "portable"), KINDS)
@pytest.mark.parametrize("parts", [*((part,) for part in PREFIX_PARTS), PREFIX_PARTS], ids="+".join)
@pytest.mark.parametrize("layers", [None, [1]], ids=str)
def test_a_prefix_is_what_attention_by_hand_makes_of_it(folders, name, portable, parts, layers):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_parts=parts, prefix_layers=layers)
    model = model_of(folders[name], config, portable=portable).double().eval()
    tuned = model.tuned_parameters()
    assert {key.split(".")[1] for key in tuned} == set(parts)
    ours = model(**BATCH)
    gradients = torch.autograd.grad(ours.loss, list(tuned.values()))

    expected = stock_by_hand(folders[name], model.prompt(), layers)(**BATCH)
    wanted = torch.autograd.grad(expected.loss, list(tuned.values()))
    torch.testing.assert_close(ours.logits, expected.logits, atol=1e-5, rtol=0)
    for found, right in zip(gradients, wanted, strict=True):
        assert right.abs().max() > 1e-4
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)

    bare = AutoModelForSeq2SeqLM.from_pretrained(folders[name], dtype=torch.float64).eval()(**BATCH).logits
    felt = (bare - ours.logits).abs().amax(2)
    assert (felt.max() if layers else felt.min()) > 1e-4  # of all layers' prefix each token of each answer


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize("layers", [None, [1]], ids=str)
def test_a_decoders_prefix_at_the_first_positions_is_the_stock_models(folders, name, layers):
    parts = {"prefix_parts": ("decoder",), "prefix_layers": layers}
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, shift_positions=True, **parts)
    ours, stock = (model_of(folders[name], config, portable=portable).double().eval() for portable in (True, False))
    torch.testing.assert_close(ours(**BATCH).logits, stock(**BATCH).logits, atol=1e-5, rtol=0)
    at_none = model_of(folders[name], fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, **parts)).double().eval()
    assert (at_none(**BATCH).logits - stock(**BATCH).logits).abs().max() > 1e-3
    written = [model.float().generate(TEXT, MASK, max_new_tokens=6).tolist() for model in (ours, stock)]
    assert written[0] == written[1]


@pytest.mark.parametrize("name", NAMES)
def test_each_part_has_its_own_keys_and_values_and_starts_from_its_own(folders, name):
    model = model_of(folders[name])
    made = model.prompt.collapse()
    for part, (layers, heads, width) in zip(PREFIX_PARTS, SHAPES[name], strict=True):
        assert made[f"{part}.key"].shape == made[f"{part}.value"].shape == (layers, heads, LENGTH, width)
    assert len({array[0, 0, 0, 0] for array in made.values()}) == 6
    wanted = sum(LENGTH * 2 * layers * heads * width for layers, heads, width in SHAPES[name])
    assert model.count_parameters()[0] == wanted
    one = model_of(folders[name], fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_parts=["cross"]))
    layers, heads, width = SHAPES[name][2]
    assert one.count_parameters()[0] == LENGTH * 2 * layers * heads * width
    assert set(one.prompt.collapse()) == {"cross.key", "cross.value"}


def test_a_projection_makes_each_parts_prefix_with_a_network_of_its_own(folders, tmp_path):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_projection=True, prefix_hidden_size=8)
    model = model_of(folders["bart"], config)
    loss = model.train_step(**BATCH)["loss"]
    tuned = model.tuned_parameters()
    for name, gradient in zip(tuned, ops.gradients(loss, list(tuned.values())), strict=True):
        assert gradient.any(), name
    assert {name for name in tuned if name.endswith("trans.0.weight")} == {
        f"prompt.{part}.trans.0.weight" for part in PREFIX_PARTS
    }
    model.save_pretrained(tmp_path)
    again = fp.load_prompt_model(tmp_path)
    assert set(again.tuned_parameters()) == set(tuned)
    torch.testing.assert_close(again.eval()(**BATCH).logits, model.eval()(**BATCH).logits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_padding_of_the_text_changes_nothing(folders, name, portable, method):
    model = model_of(folders[name], METHODS[method], portable=portable).double().eval()
    alone = model(TEXT[1:2, :5], labels=LABELS[1:2]).logits
    after_prefix = model(**BATCH).logits[1:2]
    torch.testing.assert_close(after_prefix, alone, atol=1e-9, rtol=0)
    if name != "bart" and method == "p-tuning-v2":  # BART counts places, as in transformers
        padded = {"input_ids": TEXT[1:2, :5], "attention_mask": MASK[1:2, :5]}
        padded = {key: torch.nn.functional.pad(x, (4, 0)) for key, x in padded.items()}
        torch.testing.assert_close(model(**padded, labels=LABELS[1:2]).logits, alone, atol=1e-9, rtol=0)


def test_an_answers_tokens_see_none_after_them(folders):
    for name in ("t5", "bart"):
        model = model_of(folders[name]).eval()
        one, other = (
            model(TEXT, MASK, decoder_input_ids=torch.cat([ANSWER[:, :3], end], 1)).logits
            for end in (ANSWER[:, 3:], ANSWER[:, 3:] * 0 + 7)
        )
        torch.testing.assert_close(one[:, :3], other[:, :3])
        assert (one[:, 3:] - other[:, 3:]).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_gradient_checkpointing_changes_no_gradient(folders, name, portable):
    found = []
    for saving in (False, True):
        model = model_of(folders[name], gradient_checkpointing=saving, portable=portable).double()
        model.train()
        loss = model.train_step(**BATCH)["loss"]
        found.append(ops.gradients(loss, model.trainable_parameters()))
    for plain, saved in zip(*found, strict=True):
        assert plain.any()
        numpy.testing.assert_allclose(saved, plain, atol=1e-9 * numpy.abs(plain).max())


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_a_backbone_held_in_bf16_gives_nearly_the_same_loss(folders, name, portable):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH)
    whole, half = (
        model_of(folders[name], config, bf16=on, portable=portable)(**BATCH).loss.item() for on in (False, True)
    )
    assert half == pytest.approx(whole, rel=0.15)


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_each_part_alone_and_a_prompt_before_the_encoders_input_learn(folders, name, portable):
    """Each of the first steps lowers the loss, the first by what its gradient says.

    Steps of a usual size jump to and fro on a random T5, and where they end hangs on the last bit. These are to lower
    the loss by 1e-4, ten thousand times what rounding makes of it in float64 (T5's norms stay in float32).
    """
    configs = [fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_parts=(part,)) for part in PREFIX_PARTS]
    for config in [*configs, METHODS["prompt-tuning"], METHODS["p-tuning"], fp.FineTuningConfig()]:
        model = model_of(folders[name], config, hidden_dropout_prob=0.0, portable=portable).double().train()
        tuned = model.trainable_parameters()
        gradients = ops.gradients(model.train_step(**BATCH)["loss"], tuned)
        assert all(gradient.any() for gradient in gradients), config
        rate = 1e-4 / sum(abs(gradient).sum() for gradient in gradients)  # Adam's first step moves each number by it
        losses = losses_of(model, steps=5, rate=float(rate))
        assert losses == sorted(losses, reverse=True), config
        assert losses[0] - losses[1] == pytest.approx(1e-4, rel=0.5), config


def test_dropout_is_the_checkpoints_where_it_is_tuned_and_none_where_it_is_frozen(folders):
    for name, portable in KINDS:
        configs = (METHODS["p-tuning-v2"], fp.FineTuningConfig())
        frozen, tuned = (model_of(folders[name], config, portable=portable) for config in configs)
        for model, same in ((frozen, True), (tuned, False)):
            model.train()
            one, other = (model(**BATCH).loss.item() for _ in range(2))
            assert (one == other) == same


def test_only_labelled_words_are_scored_in_training_and_evaluation(folders):
    model = model_of(folders["t5"]).eval()
    whole, few = model(**BATCH), model(**BATCH, only_targets=True)
    counted = LABELS != -100
    assert tuple(few.logits.shape) == (14, 60)
    torch.testing.assert_close(few.logits, whole.logits[counted])
    torch.testing.assert_close(few.loss, whole.loss)
    step = model.evaluate_step(**BATCH)
    assert step["target"].tolist() == LABELS[counted].tolist()
    assert step["pred"].tolist() == whole.logits.argmax(2)[counted].tolist()
    assert model.train_step(TEXT, MASK, LABELS * 0 - 100)["loss"].item() == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_each_generated_token_is_the_one_that_a_model_which_reads_all_anew_puts_first(folders, name, method):
    model = model_of(folders[name], METHODS[method])
    model.train()
    written = model.generate(TEXT, MASK, max_new_tokens=6, eos_token_id=59)
    assert model.training
    model.eval()
    assert (written[:, 0] == 0).all()
    for length in range(1, min(6, written.shape[1] - 1)):  # the last one may be forced
        logits = model(TEXT, MASK, decoder_input_ids=torch.from_numpy(written[:, :length])).logits[:, -1]
        going = ~(written[:, 1:length] == 59).any(1)
        assert logits.argmax(1).numpy()[going].tolist() == written[going, length].tolist()
    bare = model_of(folders[name], fp.FineTuningConfig()).generate(TEXT, MASK, max_new_tokens=6, eos_token_id=59)
    assert bare.tolist() != written.tolist()


@pytest.mark.parametrize("name", ["flan-t5", "bart"])
def test_lists_of_unequal_length_are_padded_behind(folders, name):
    model = model_of(folders[name])
    wanted = model.generate(TEXT, MASK, max_new_tokens=6)
    rows = [row[: int(count)].tolist() for row, count in zip(TEXT, MASK.sum(1), strict=True)]
    assert len(set(map(len, rows))) > 1
    assert model.generate(rows, max_new_tokens=6).tolist() == wanted.tolist()


def test_a_drawn_answer_is_the_seeds_and_one_candidate_is_the_greedy_one(folders):
    model = model_of(folders["flan-t5"])
    drawn = [model.generate(TEXT, MASK, do_sample=True, temperature=3.0, seed=seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = model.generate(TEXT, MASK).tolist()
    assert model.generate(TEXT, MASK, do_sample=True, top_k=1, seed=5).tolist() == greedy


class Scores(Callback):
    def __init__(self):
        super().__init__()
        self.values = []

    def on_evaluate_end(self, trainer, results):
        self.values.append(results["acc#acc"])


def test_inside_fastnlps_trainer_the_answers_are_learnt(folders):
    draw = numpy.random.default_rng(0)
    rows = [draw.integers(4, 60, length).tolist() for length in draw.integers(2, 8, 16)]
    data = DataSet({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
    data.add_field("labels", [[*row[:1], 1] for row in rows])  # the first word, and the end
    model = model_of(folders["t5"], fp.PTuningV2Config(pre_seq_len=8))
    scores = Scores()
    trainer = Trainer(
        model=model,
        driver="torch",
        device="cpu",
        n_epochs=40,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-1, weight_decay=0.0),
        train_dataloader=prepare_torch_dataloader(data, batch_size=8, shuffle=True),
        evaluate_dataloaders=prepare_torch_dataloader(data, batch_size=8),
        metrics={"acc": Accuracy()},
        callbacks=[scores],
        progress_bar=None,
    )
    before = {name: tensor.detach().clone() for name, tensor in model.backbone.named_parameters()}
    trainer.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.named_parameters())
    assert scores.values[0] < 0.5 < scores.values[-1]


def test_an_initial_text_is_read_with_the_checkpoints_tokenizer(folders):
    config = fp.PromptTuningConfig(num_virtual_tokens=3, init="text", init_text="word9 word5")
    model = model_of(folders["t5"], config)
    words = model.backbone.word_embeddings().weight
    torch.testing.assert_close(model.prompt(), words[[9, 5, 9]])
