"""Encoder-decoders: a prefix of the encoder, the decoder and the cross-attention is what attention by hand makes of it;
what is learnt, generated, saved and refused."""

import json
import math
import shutil

import fastprompt as fp
from fastprompt.data.chat import write_instruction
from fastprompt.data.encoding import encode
from fastprompt.data.examples import TextToText
from fastprompt.errors import CheckpointError, ConfigError, DataError, TrainingError
from fastprompt.framework import ops, optim
from fastprompt.methods.base import PREFIX_PARTS
from fastprompt.methods.registry import method_config
from fastprompt.pretrained.checkpoint import Checkpoint

import numpy
import pytest
from safetensors.numpy import load_file, save_file

if fp.backend() != "torch":
    pytest.skip("encoder-decoders are stock transformers models, which run on torch", allow_module_level=True)

import torch
import transformers
from fastNLP import Accuracy, Callback, DataSet, Trainer, prepare_torch_dataloader
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSeq2SeqLM

LENGTH, HEADS = 3, 4
SIZES = {"vocab_size": 60, "d_model": 32, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 0}
T5 = {**SIZES, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": HEADS, "pad_token_id": 0}
CONFIGS = {
    "t5": transformers.T5Config(**T5),
    "flan-t5": transformers.T5Config(**T5, num_decoder_layers=3, feed_forward_proj="gated-gelu"),
    "mt5": transformers.MT5Config(**T5, num_decoder_layers=3),
    "bart": transformers.BartConfig(
        **{**SIZES, "pad_token_id": 3, "max_position_embeddings": 40, "scale_embedding": True},
        **{"encoder_layers": 2, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 48},
        **{"decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 48},
    ),
}
SEEDS = {"t5": 1, "flan-t5": 5, "mt5": 4, "bart": 0}  # their models repeat fewer words than others
SHAPES = {  # (layers, heads, head_dim) of encoder, decoder and cross-attention
    "t5": [(2, 4, 12), (2, 4, 12), (2, 4, 12)],
    "flan-t5": [(2, 4, 12), (3, 4, 12), (3, 4, 12)],
    "mt5": [(2, 4, 12), (3, 4, 12), (3, 4, 12)],
    "bart": [(2, 4, 8), (3, 2, 16), (3, 2, 16)],
}
METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=LENGTH),
    "p-tuning": fp.PTuningConfig(num_virtual_tokens=LENGTH),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small random checkpoints with a word-level tokenizer, as transformers writes them."""
    folder = tmp_path_factory.mktemp("seq2seq")
    words = ["<pad>", "</s>", "<s>", "<unk>", *(f"word{number}" for number in range(4, 60))]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
    for name, config in CONFIGS.items():
        torch.manual_seed(SEEDS[name])
        model = AutoModelForSeq2SeqLM.from_config(config)
        if name in ("flan-t5", "mt5"):  # as published: a vocabulary head of its own
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(60, 32))
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                if tensor.ndim == 1:
                    tensor.add_(torch.randn_like(tensor) * 0.1)
                else:
                    size = {"shared": 0.3, "embed_positions": 1.0, "relative_attention_bias": 1.0}
                    tensor.copy_(torch.randn_like(tensor) * size.get(key.split(".")[-2], 0.5))
            if name == "bart":
                model.final_logits_bias.normal_(std=0.1)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    settings = json.loads((folder / "flan-t5" / "config.json").read_text())
    del settings["scale_decoder_outputs"]  # as published: this goes by the other, which transformers 5 would change
    (folder / "flan-t5" / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    return {path.name: path for path in folder.iterdir()}


TEXT = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])
ANSWER = torch.randint(4, 60, (3, 6), generator=torch.Generator().manual_seed(1))
LABELS = torch.where(torch.arange(6) < torch.tensor([[6], [3], [5]]), ANSWER, -100)
BATCH = {"input_ids": TEXT, "attention_mask": MASK, "labels": LABELS}


def model_of(folder, config=METHODS["p-tuning-v2"], **options):
    return fp.PromptForSeq2SeqLM.from_pretrained(folder, config, **options)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses_of(model, steps=20, rate=1e-1):
    model.train()
    tuned = model.trainable_parameters()
    optimizer, losses = fp.AdamW(tuned, lr=rate, weight_decay=0.0), []
    for _ in range(steps):
        loss = model.train_step(**BATCH)["loss"]
        losses.append(loss.item())
        optim.step_with(optimizer, tuned, ops.gradients(loss, tuned))
    return losses


# --- without a prompt -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_without_a_prompt_logits_loss_and_greedy_tokens_are_those_of_transformers(folders, name):
    model = model_of(folders[name], fp.FineTuningConfig()).double().eval()
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


# --- what a prefix is -------------------------------------------------------------------------------------------------


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


def stock_by_hand(folder, prompt):
    """transformers' model in float64, every attention of it by hand; prompt: part -> keys and values."""
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
    counts = dict.fromkeys(PREFIX_PARTS, 0)
    for stack, parts in ((stock.get_encoder(), ["encoder"]), (stock.get_decoder(), ["decoder", "cross"])):
        found = [module for module in stack.modules() if type(module).__name__.endswith("Attention")]
        found = [module for module in found if hasattr(module, "o") or hasattr(module, "out_proj")]
        for number, attention in enumerate(found):
            part = parts[number % len(parts)]
            pair = prompt.get(part)
            prefix = None if pair is None else [x[counts[part]] for x in pair]
            attention.forward = by_hand(attention, part, stack, prefix)
            counts[part] += 1
    return stock


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("parts", [*((part,) for part in PREFIX_PARTS), PREFIX_PARTS], ids="+".join)
def test_a_prefix_is_what_attention_by_hand_makes_of_it(folders, name, parts):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, prefix_parts=parts)
    model = model_of(folders[name], config).double().eval()
    tuned = model.tuned_parameters()
    assert {key.split(".")[1] for key in tuned} == set(parts)
    ours = model(**BATCH)
    gradients = torch.autograd.grad(ours.loss, list(tuned.values()))

    expected = stock_by_hand(folders[name], model.prompt())(**BATCH)
    wanted = torch.autograd.grad(expected.loss, list(tuned.values()))
    torch.testing.assert_close(ours.logits, expected.logits, atol=1e-5, rtol=0)
    for found, right in zip(gradients, wanted, strict=True):
        assert right.abs().max() > 1e-4
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)

    bare = AutoModelForSeq2SeqLM.from_pretrained(folders[name], dtype=torch.float64).eval()(**BATCH).logits
    assert (bare - ours.logits).abs().amax(2).min() > 1e-4  # each token of each answer feels it


@pytest.mark.parametrize("name", CONFIGS)
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
@pytest.mark.parametrize("name", CONFIGS)
def test_padding_of_the_text_changes_nothing(folders, name, method):
    model = model_of(folders[name], METHODS[method]).double().eval()
    alone = model(TEXT[1:2, :5], labels=LABELS[1:2]).logits
    behind = model(**BATCH).logits[1:2]
    torch.testing.assert_close(behind, alone, atol=1e-9, rtol=0)
    if name != "bart" and method == "p-tuning-v2":  # BART counts places, as in transformers
        padded = {"input_ids": TEXT[1:2, :5], "attention_mask": MASK[1:2, :5]}
        padded = {key: torch.nn.functional.pad(x, (4, 0)) for key, x in padded.items()}
        torch.testing.assert_close(model(**padded, labels=LABELS[1:2]).logits, alone, atol=1e-9, rtol=0)


def test_an_answers_tokens_see_none_behind_them(folders):
    for name in ("t5", "bart"):
        model = model_of(folders[name]).eval()
        one, other = (
            model(TEXT, MASK, decoder_input_ids=torch.cat([ANSWER[:, :3], end], 1)).logits
            for end in (ANSWER[:, 3:], ANSWER[:, 3:] * 0 + 7)
        )
        torch.testing.assert_close(one[:, :3], other[:, :3])
        assert (one[:, 3:] - other[:, 3:]).abs().max() > 1e-2


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_checkpointing_changes_no_gradient(folders, name):
    found = []
    for saving in (False, True):
        model = model_of(folders[name], gradient_checkpointing=saving).double()
        model.train()
        loss = model.train_step(**BATCH)["loss"]
        found.append(ops.gradients(loss, model.trainable_parameters()))
    for plain, saved in zip(*found, strict=True):
        assert plain.any()
        numpy.testing.assert_allclose(saved, plain, atol=1e-9 * numpy.abs(plain).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_backbone_kept_in_bf16_gives_nearly_the_same_loss(folders, name):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH)
    whole, half = (model_of(folders[name], config, bf16=on)(**BATCH).loss.item() for on in (False, True))
    assert half == pytest.approx(whole, rel=0.15)


# --- what is learnt and generated -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_each_part_alone_and_a_prompt_before_the_encoders_input_learn(folders, name):
    """Each of the first steps lowers the loss, the first by what its gradient says.

    Steps of a usual size jump to and fro on a random T5, and where they end hangs on the last bit. These are to lower
    the loss by 1e-4, ten thousand times what rounding makes of it in float64 (T5's norms stay in float32).
    """
    configs = [fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_parts=(part,)) for part in PREFIX_PARTS]
    for config in [*configs, METHODS["prompt-tuning"], METHODS["p-tuning"], fp.FineTuningConfig()]:
        model = model_of(folders[name], config, hidden_dropout_prob=0.0).double().train()
        tuned = model.trainable_parameters()
        gradients = ops.gradients(model.train_step(**BATCH)["loss"], tuned)
        assert all(gradient.any() for gradient in gradients), config
        rate = 1e-4 / sum(abs(gradient).sum() for gradient in gradients)  # Adam's first step moves each number by it
        losses = losses_of(model, steps=5, rate=float(rate))
        assert losses == sorted(losses, reverse=True), config
        assert losses[0] - losses[1] == pytest.approx(1e-4, rel=0.5), config


def test_dropout_is_the_checkpoints_where_it_is_tuned_and_none_where_it_is_frozen(folders):
    for name in ("t5", "bart"):
        frozen, tuned = (model_of(folders[name], config) for config in (METHODS["p-tuning-v2"], fp.FineTuningConfig()))
        for model, same in ((frozen, True), (tuned, False)):
            model.train()
            one, other = (model(**BATCH).loss.item() for _ in range(2))
            assert (one == other) == same


def test_only_labelled_words_are_scored_in_training_and_evaluation(folders):
    model = model_of(folders["t5"]).eval()
    whole, few = model(**BATCH), model(**BATCH, only_labelled=True)
    counted = LABELS != -100
    assert tuple(few.logits.shape) == (14, 60)
    torch.testing.assert_close(few.logits, whole.logits[counted])
    torch.testing.assert_close(few.loss, whole.loss)
    step = model.evaluate_step(**BATCH)
    assert step["target"].tolist() == LABELS[counted].tolist()
    assert step["pred"].tolist() == whole.logits.argmax(2)[counted].tolist()
    assert model.train_step(TEXT, MASK, LABELS * 0 - 100)["loss"].item() == 0


@pytest.mark.parametrize("name", CONFIGS)
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


# --- what is saved ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5", "flan-t5", "bart"])
@pytest.mark.parametrize("config", [*METHODS.values(), fp.FineTuningConfig()], ids=lambda config: config.method)
def test_a_saved_prompt_gives_the_same_logits(folders, tmp_path, name, config):
    model = model_of(folders[name], config, seed=5)
    losses_of(model, steps=1)
    model.save_pretrained(tmp_path)
    again = fp.load_prompt_model(tmp_path)
    torch.testing.assert_close(again.eval()(**BATCH).logits, model.eval()(**BATCH).logits, atol=1e-6, rtol=0)
    again.save_pretrained(tmp_path / "again")
    one, other = (load_file(folder / "prompt.safetensors") for folder in (tmp_path, tmp_path / "again"))
    assert one.keys() == other.keys()
    assert all(array.tobytes() == other[key].tobytes() for key, array in one.items())
    if config.method == "fine-tuning":  # under the names of transformers
        assert set(one) <= set(AutoModelForSeq2SeqLM.from_pretrained(folders[name]).state_dict())


def test_the_file_names_the_chosen_parts_and_their_tensors(folders, tmp_path):
    model_of(folders["t5"], fp.PTuningV2Config(pre_seq_len=2, prefix_parts=("cross", "encoder"))).save_pretrained(
        tmp_path
    )
    assert json.loads((tmp_path / "prompt_config.json").read_text())["prefix_parts"] == ["encoder", "cross"]
    stored = load_file(tmp_path / "prompt.safetensors")
    assert {name: array.shape for name, array in stored.items()} == dict.fromkeys(
        ("encoder.key", "encoder.value", "cross.key", "cross.value"), (2, 4, 2, 12)
    )


def damage(folder, change):
    """Changes the tensors of a prompt, and what its description says of them."""
    path = folder / "prompt_config.json"
    content, tensors = json.loads(path.read_text()), load_file(folder / "prompt.safetensors")
    change(tensors)
    content["tensors"] = {name: list(array.shape) for name, array in tensors.items()}
    path.write_text(json.dumps(content))
    save_file(tensors, folder / "prompt.safetensors")


def test_a_damaged_prompt_is_refused_by_name(folders, tmp_path):
    model = model_of(folders["t5"], fp.PTuningV2Config(pre_seq_len=2, prefix_parts=("decoder", "cross")))
    shortened = {name: model.prompt.collapse()[name][:1] for name in ("decoder.key", "decoder.value")}
    left_over = {"encoder.key": shortened["decoder.key"]}
    changes = {
        "lacks the tensor cross.value": lambda x: x.pop("cross.value"),
        "has a tensor encoder.key that this model has no place for": lambda x: x.update(left_over),
        r"prompt.decoder.embedding.weight has the shape \(2, 96\), the model": lambda x: x.update(shortened),
    }
    for number, (told, change) in enumerate(changes.items()):
        model.save_pretrained(tmp_path / str(number))
        damage(tmp_path / str(number), change)
        with pytest.raises(CheckpointError, match=told):
            fp.load_prompt_model(tmp_path / str(number))


def test_a_prompt_belongs_to_its_backbone_whether_or_not_that_has_a_vocabulary_head(folders, tmp_path):
    transformers.T5Model.from_pretrained(folders["flan-t5"]).save_pretrained(tmp_path)
    assert Checkpoint(tmp_path).fingerprint == Checkpoint(folders["flan-t5"]).fingerprint
    assert Checkpoint(folders["mt5"]).fingerprint != Checkpoint(folders["flan-t5"]).fingerprint


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    """The folder of instructions to say a word again, in three splits."""
    for name, count in (("train", 48), ("dev", 7), ("test", 5)):
        words = [f"word{4 + (7 * i) % 50}" for i in range(count)]
        given = [{"instruction": f"{'word9 ' * (i % 3)}{word}", "output": word} for i, word in enumerate(words)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return tmp_path


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_texts_and_outputs_are_tokenised_as_transformers_does(folders, tmp_path, name):
    shutil.copytree(folders[name], tmp_path / name)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
    around = {"t5": "$A </s>", "bart": "<s> $A </s>"}[name]
    made = stock.backend_tokenizer
    made.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("</s>", 1), ("<s>", 2)])
    made.save(str(tmp_path / name / "tokenizer.json"))
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
    texts, outputs, notes = ["word7 word8", "word9 " * 9], ["word4", "word5 " * 8], []
    rows = encode(TextToText(texts, outputs), fp.load_tokenizer(tmp_path / name), 20, notes)
    assert [row["input_ids"] for row in rows] == stock(texts)["input_ids"]
    assert [row["labels"] for row in rows] == stock(text_target=outputs)["input_ids"]
    assert notes == []
    short = encode(TextToText(texts, outputs), fp.load_tokenizer(tmp_path / name), 6, notes)
    assert [row["input_ids"] for row in short] == stock(texts, max_length=6, truncation=True)["input_ids"]
    assert [row["labels"] for row in short] == [row["labels"][:6] for row in rows]
    assert notes == ["Of 2 texts 1 are cut at 6 tokens (max_seq_length), and 1 of their outputs."]


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_command_line_tunes_and_answers(folders, rows, tmp_path, command, train_here, name):
    folder = tmp_path / "run"
    metrics = train_here(
        *("--model_name_or_path", folders[name], "--task_name", "instruction", "--data_dir", rows),
        *("--output_dir", folder, "--pre_seq_len", LENGTH, "--prefix_parts", "encoder", "cross", "--learning_rate"),
        *("0.05", "--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--logging_steps", "4"),
        *("--do_train", "--do_eval", "--do_predict", "--max_new_tokens", "6", "--device", "cpu"),
    )
    encoder, _, cross = ((LENGTH * 2 * layers * heads * size) for layers, heads, size in SHAPES[name])
    assert metrics["trainable_parameters"] == encoder + cross
    history = lines_of(folder / "history.jsonl")
    assert history[-1]["loss"] < history[0]["loss"]
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    model, tokenizer = fp.load_prompt_model(folder).eval(), fp.load_tokenizer(folders[name])
    found = lines_of(folder / "predictions.jsonl")
    assert len(found) == 5
    told = command(
        *("predict", "--model_name_or_path", folder, "--max_new_tokens", "6", "--format", "jsonl", "--device", "cpu"),
        stdin="".join(f"{row['instruction']}\n" for row in found).encode(),
    )
    assert [json.loads(line) for line in told.stdout.splitlines()] == found
    for row in found:  # a batch with padding gives what each gives alone
        ids = tokenizer.plain_ids(write_instruction("human-assistant", row["instruction"], ""))
        written = model.generate(torch.tensor([ids]), max_new_tokens=6)[0, 1:].tolist()
        assert row["output"] == tokenizer.decode(written[: written.index(1)] if 1 in written else written)
    assert len({row["output"] for row in found}) > 1


# --- what is refused --------------------------------------------------------------------------------------------------


def test_each_head_is_refused_on_backbones_of_other_kinds(folders, tiny, causal):
    for name in ("t5", "bart"):
        for kind in (fp.PromptForSequenceClassification, fp.PromptForTokenClassification, fp.PromptForMultipleChoice):
            with pytest.raises(ConfigError, match=r"is an encoder-decoder, .* there is PromptForSeq2SeqLM for it"):
                kind.from_pretrained(folders[name])
        with pytest.raises(ConfigError, match="is an encoder-decoder, which masked_lm does not go with"):
            fp.PromptForMaskedLM.from_pretrained(folders[name], fp.PromptTuningConfig(template="[X] [MASK]"))
        with pytest.raises(ConfigError, match="is an encoder-decoder, which causal_lm does not go with"):
            fp.PromptForCausalLM.from_pretrained(folders[name])
    for folder in (tiny["bert"], causal["llama"]):
        with pytest.raises(ConfigError, match=r"is no encoder-decoder, .* such as T5 or BART"):
            fp.PromptForSeq2SeqLM.from_pretrained(folder, fp.FineTuningConfig())
        with pytest.raises(ConfigError, match=r"prefix_parts are an encoder-decoder's, and .* is none"):
            fp.PromptForSequenceClassification.from_pretrained(folder, fp.PTuningV2Config(prefix_parts=("encoder",)))


def test_parts_that_no_encoder_decoder_has_are_refused():
    for parts, told in (
        (("encoder", "middle"), "prefix_parts is 'middle'; it is one of encoder, decoder, cross"),
        ((), "holds one or more of encoder, decoder, cross, each once"),
        (("cross", "cross"), "each once"),
        ("cross", "each once"),
    ):
        with pytest.raises(ConfigError, match=told):
            fp.PTuningV2Config(prefix_parts=parts)


def test_what_cannot_work_is_refused(folders, tmp_path):
    with pytest.raises(ConfigError, match="leave shift_positions off"):
        model_of(folders["bart"], fp.PTuningV2Config(pre_seq_len=2, shift_positions=True))
    with pytest.raises(ConfigError, match="leave attention_probs_dropout_prob off"):
        model_of(folders["t5"], attention_probs_dropout_prob=0.1)
    with pytest.raises(DataError, match="labels or decoder_input_ids"):
        model_of(folders["t5"])(TEXT)
    model = model_of(folders["bart"])
    with pytest.raises(ConfigError, match="The answer has 41 tokens, more than the decoder's 40 positions"):
        model(TEXT, labels=torch.ones((3, 41), dtype=torch.long))
    with pytest.raises(ConfigError, match="The answer has 41 tokens"):
        model.generate(TEXT, max_new_tokens=41)
    with pytest.raises(ConfigError, match="The input has 41 tokens"):
        model(torch.ones((1, 41), dtype=torch.long), labels=LABELS[:1])
    with pytest.raises(ConfigError, match="seq2seq_lm has no exported form"):
        model.export(tmp_path / "model.onnx")


def test_t5_has_no_last_position(folders, tmp_path):
    shutil.copytree(folders["t5"], tmp_path / "t5")
    path = tmp_path / "t5" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_positions": 8}))  # as t5-small's says 512
    model = model_of(tmp_path / "t5")
    assert model.max_length is None
    assert model(**BATCH).logits.shape == (3, 6, 60)


def test_a_checkpoint_without_what_its_answers_start_with_is_refused(folders, tmp_path):
    shutil.copytree(folders["t5"], tmp_path / "t5")
    for name in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / "t5" / name).read_text())
        del content["decoder_start_token_id"]
        (tmp_path / "t5" / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="names no decoder_start_token_id"):
        model_of(tmp_path / "t5")(**BATCH)


def test_an_encoder_decoder_that_is_not_known_is_refused_by_its_name(tmp_path):
    config = transformers.PegasusConfig(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1)
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is a pegasus model; of encoder-decoders fastprompt knows t5, mt5, bart"):
        model_of(tmp_path)


def test_doors_that_encoder_decoders_have_not_yet_are_refused_by_name(folders, tmp_path):
    model_of(folders["t5"]).save_pretrained(tmp_path / "prompt")
    for tool, message in (("peft", "can be written for PEFT so far"), ("paddlenlp", "cannot be written for")):
        with pytest.raises(CheckpointError, match=message):
            fp.export_prompt(tool, tmp_path / "prompt", tmp_path / tool)


def test_a_transformers_that_computes_attention_otherwise_is_refused(folders, monkeypatch):
    attention = transformers.models.t5.modeling_t5.ALL_ATTENTION_FUNCTIONS
    monkeypatch.setattr(type(attention), "get_interface", lambda self, name, default: default)
    for config in (METHODS["p-tuning-v2"], METHODS["prompt-tuning"]):
        with pytest.raises(CheckpointError, match=r"transformers [\d.]+ computes t5's attention not as"):
            model_of(folders["t5"], config)


@pytest.mark.parametrize(("method", "name"), [("linear-probe", "t5"), ("bitfit", "flan-t5")])
def test_a_method_that_finds_nothing_to_train_is_refused(folders, method, name):
    with pytest.raises(TrainingError, match=f"{method} finds nothing to train in .* use another method"):
        model_of(folders[name], method_config(method))


@pytest.mark.parametrize("backend", ["paddle", "jittor"])
def test_other_frameworks_name_torch(folders, run_python, backend):
    code = f"import fastprompt as fp; fp.PromptForSeq2SeqLM.from_pretrained({str(folders['t5'])!r})"
    done = run_python(backend, "-c", code, check=False)
    assert "is a t5 model, which runs on torch only" in done.stderr.splitlines()[-1]
