"""PEFT's adapters of every task: its own logits here, and in PEFT again."""

import json
import shutil
from collections import Counter
from pathlib import Path

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import ops
from fastprompt.pretrained.families import FAMILIES
from fastprompt.pretrained.tensor_files import SafetensorsFile
from fastprompt.saving.prompt_file import read_prompt

import numpy
import pytest
from safetensors.numpy import load_file, save_file

SCRIPT = Path(__file__).resolve().parents[1] / "checkpoints" / "make_task_adapters.py"
NAMES = [
    *("bert-cartridge-classes", "bert-prefix-tokens", "electra-prefix-tokens", "roberta-ptuning-tokens"),
    *("bert-prefix-questions", "roberta-cartridge-questions", "ernie-ptuning-questions"),
    "xlm-roberta-prompt-tokens",
    *("llama-cartridge-text", "gemma-prompt-text", "phi3-prefix-text"),
    *("t5-prompt-answers", "bart-ptuning-answers"),
    *("t5-prefix-answers", "bart-prefix-answers", "bart-cartridge-answers"),  # of an odd and an even number of layers
]
HERE = [name for name in NAMES if fp.backend() == "torch" or FAMILIES[name.rsplit("-", 2)[0]].portable]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, run_python, tiny, causal):
    """Folders of adapters with what PEFT itself makes of a batch."""
    folder = tmp_path_factory.mktemp("task-adapters")
    run_python("torch", SCRIPT, "make", folder, tiny["bert"].parent, causal["llama"].parent)
    return {path.name: path for path in folder.iterdir()}


def imported(adapters, name, output):
    backbone = json.loads((adapters[name] / "adapter_config.json").read_text())["base_model_name_or_path"]
    return fp.import_prompt("peft", adapters[name], output, backbone)


def close(found, wanted):
    assert numpy.ptp(wanted) > 0.1  # logits that say something
    assert numpy.abs(found - wanted).max() <= 1e-5 * max(1, numpy.abs(wanted).max())


@pytest.mark.parametrize("name", HERE)
def test_an_imported_adapter_gives_pefts_logits(adapters, tmp_path, name):
    model = fp.load_prompt_model(imported(adapters, name, tmp_path / "prompt"))
    model.eval()
    stored = numpy.load(adapters[name] / "found.npz")
    inputs = {key: ops.tensor(stored[key]) for key in stored.files if key not in ("logits", "tokens")}
    found, wanted = ops.to_numpy(model(**inputs).logits), stored["logits"]
    if wanted.shape[:2] == stored["attention_mask"].shape:  # a logit of each token
        real = stored["attention_mask"].astype(bool)
        found, wanted = found[real], wanted[real]
    close(found, wanted)
    if "tokens" in stored.files:  # an encoder-decoder's answers
        read = (inputs["input_ids"], inputs["attention_mask"])
        written = model.generate(*read, max_new_tokens=6)
        assert written.tolist() == stored["tokens"][:, : written.shape[1]].tolist()


@pytest.mark.once
def test_peft_gives_the_same_logits_to_what_is_exported(adapters, tmp_path, run_python):
    """In one process for all: PEFT takes long to start."""
    for name in NAMES:
        imported(adapters, name, tmp_path / "prompts" / name)
        fp.export_prompt("peft", tmp_path / "prompts" / name, tmp_path / name)
        shutil.copy(adapters[name] / "found.npz", tmp_path / name)
    run_python("torch", SCRIPT, "read", *(tmp_path / name for name in NAMES))
    for name in NAMES:
        close(numpy.load(tmp_path / name / "logits.npy"), numpy.load(adapters[name] / "found.npz")["logits"])


@pytest.mark.once
def test_layers_that_share_a_prefix_in_peft_are_refused_where_theirs_differ(adapters, tmp_path):
    backbone = adapters["backbones"] / "bart"  # of four layers: 0 and 2 have one, and 1 and 3
    config = fp.PTuningV2Config(pre_seq_len=2, prefix_parts=("decoder",), shift_positions=True)
    fp.PromptForSeq2SeqLM.from_pretrained(backbone, config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(CheckpointError, match="no prefix of its own for a decoder's layer 2, only that of layer 0"):
        fp.export_prompt("peft", tmp_path / "prompt", tmp_path / "adapter")


@pytest.mark.once
def test_only_a_decoders_prefix_takes_positions_of_an_encoder_decoder(adapters, tmp_path):
    backbone = adapters["backbones"] / "bart"  # it has 40 positions
    with pytest.raises(ConfigError, match=r"leave shift_positions off, which is for a prefix of its decoder alone"):
        fp.PromptForSeq2SeqLM.from_pretrained(backbone, fp.PTuningV2Config(pre_seq_len=2, shift_positions=True))
    config = fp.PTuningV2Config(pre_seq_len=30, prefix_parts=("decoder",), shift_positions=True)
    model = fp.PromptForSeq2SeqLM.from_pretrained(backbone, config)
    assert model.max_length == 40  # the encoder's
    with pytest.raises(ConfigError, match="11 tokens, more than the decoder's 40 positions less the 30 of its prefix"):
        model(ops.tensor(numpy.full((1, 4), 5)), labels=ops.tensor(numpy.full((1, 11), 5)))


@pytest.mark.once
def test_a_backbone_is_read_once_for_its_fingerprint(adapters, tmp_path, monkeypatch):
    read, counts = SafetensorsFile.read, Counter()

    def counting(self, name):
        counts[name] += 1
        return read(self, name)

    monkeypatch.setattr(SafetensorsFile, "read", counting)
    imported(adapters, "bert-prefix-tokens", tmp_path / "prompt")
    assert counts["embeddings.word_embeddings.weight"] == 1


@pytest.mark.once
def test_a_span_head_of_other_than_two_outputs_is_refused(adapters, tmp_path):
    folder = shutil.copytree(adapters["bert-prefix-questions"], tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.qa_outputs.weight"] = numpy.zeros((3, 32), "float32")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"qa_outputs.weight has the shape \(3, 32\).*asks for \(2, 32\)"):
        imported({"bert-prefix-questions": folder}, "bert-prefix-questions", tmp_path / "prompt")


@pytest.mark.once
def test_a_prompts_file_names_its_task_and_labels(adapters, tmp_path):
    found = {}
    for name in ("bert-prefix-tokens", "bert-prefix-questions", "bert-cartridge-classes"):
        saved = read_prompt(imported(adapters, name, tmp_path / name))
        found[saved.task] = (saved.label_names, saved.config.method, saved.config.pooling)
    assert found == {
        "token_classification": (["LABEL_0", "LABEL_1", "LABEL_2"], "p-tuning-v2", None),
        "question_answering": (["start", "end"], "p-tuning-v2", None),
        "sequence_classification": (["LABEL_0", "LABEL_1", "LABEL_2"], "p-tuning-v2", "first"),
    }
