"""Prompts of encoder-decoders: saved, on the command line, refused."""

import dataclasses
import json
import math
import shutil

import fastprompt as fp
from fastprompt.data.chat import write_instruction
from fastprompt.data.encoding import encode
from fastprompt.data.examples import TextToText
from fastprompt.errors import CheckpointError, ConfigError, DataError, TrainingError
from fastprompt.methods.registry import method_config
from fastprompt.pretrained.checkpoint import Checkpoint

import pytest
from safetensors.numpy import load_file, save_file

if fp.backend() != "torch":
    pytest.skip("the stock model is torch; test_seq2seq_frameworks.py runs under all", allow_module_level=True)

import torch
import transformers
from tokenizers import processors
from transformers import AutoModelForSeq2SeqLM

from support import seq2seq
from support.seq2seq import KINDS, LENGTH, METHODS, SHAPES, batch, losses_of, model_of

TEXT, MASK, LABELS = map(torch.from_numpy, (seq2seq.TEXT, seq2seq.MASK, seq2seq.LABELS))
BATCH = batch()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    for number, (message, change) in enumerate(changes.items()):
        model.save_pretrained(tmp_path / str(number))
        damage(tmp_path / str(number), change)
        with pytest.raises(CheckpointError, match=message):
            fp.load_prompt_model(tmp_path / str(number))


def test_a_prompt_belongs_to_its_backbone_whether_or_not_that_has_a_vocabulary_head(folders, tmp_path):
    transformers.T5Model.from_pretrained(folders["flan-t5"]).save_pretrained(tmp_path)
    assert Checkpoint(tmp_path).fingerprint == Checkpoint(folders["flan-t5"]).fingerprint
    assert Checkpoint(folders["mt5"]).fingerprint != Checkpoint(folders["flan-t5"]).fingerprint


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
    done = command(
        *("predict", "--model_name_or_path", folder, "--max_new_tokens", "6", "--format", "jsonl", "--device", "cpu"),
        stdin="".join(f"{row['instruction']}\n" for row in found).encode(),
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == found
    for row in found:  # a batch with padding gives what each gives alone
        ids = tokenizer.plain_ids(write_instruction("human-assistant", row["instruction"], ""))
        written = model.generate(torch.tensor([ids]), max_new_tokens=6)[0, 1:].tolist()
        assert row["output"] == tokenizer.decode(written[: written.index(1)] if 1 in written else written)
    assert len({row["output"] for row in found}) > 1


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
    for parts, message in (
        (("encoder", "middle"), "prefix_parts is 'middle'; it is one of encoder, decoder, cross"),
        ((), "holds one or more of encoder, decoder, cross, each once"),
        (("cross", "cross"), "each once"),
        ("cross", "each once"),
    ):
        with pytest.raises(ConfigError, match=message):
            fp.PTuningV2Config(prefix_parts=parts)


def test_the_last_layers_are_those_of_each_part_and_refused_where_they_differ(folders):
    config = fp.PTuningV2Config(pre_seq_len=2, prefix_layers="last:1")  # 2 layers of the encoder, 3 of the decoder
    with pytest.raises(ConfigError, match=r"prefix_layers is 'last:1', and .* others in its decoder: name them"):
        model_of(folders["flan-t5"], config)
    model = model_of(folders["flan-t5"], dataclasses.replace(config, prefix_parts=("decoder", "cross")))
    assert model.method_config.prefix_layers == (2,)
    assert model_of(folders["t5"], config).method_config.prefix_layers == (1,)


@pytest.mark.parametrize(("name", "portable"), KINDS)
def test_dropout_of_an_encoder_decoder_acts_from_the_first_chosen_layer_on(folders, name, portable):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_parts=("cross",), prefix_layers=[1])
    model = model_of(folders[name], config, hidden_dropout_prob=0.5, portable=portable)
    model.train()
    seen = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        called = {"input_ids": TEXT, "attention_mask": MASK, "decoder_input_ids": LABELS.clamp(min=0)}
        seen.append(model.backbone(**called, output_hidden_states=True))
    for layer in (0, 1):
        torch.testing.assert_close(seen[0][layer], seen[1][layer], atol=0, rtol=0)
    assert (seen[0][-1] - seen[1][-1]).abs().max() > 1e-3


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


def test_frozen_layers_of_an_encoder_decoder_are_refused_by_name(folders):
    config = fp.PTuningV2Config(pre_seq_len=2, prefix_parts=("encoder",), prefix_layers=[1])
    with pytest.raises(ConfigError, match="a t5 model, an encoder-decoder, whose frozen layers cannot be cached"):
        model_of(folders["t5"], config, portable=True).frozen_source  # noqa: B018


def test_features_that_encoder_decoders_lack_so_far_are_refused_by_name(folders, tmp_path):
    model_of(folders["t5"]).save_pretrained(tmp_path / "prompt")
    for tool, message in (
        ("peft", "no prefix of encoder, decoder, cross, only of a decoder"),
        ("paddlenlp", "cannot be written for"),
    ):
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
