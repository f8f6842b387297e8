"""PEFT's adapters for causal language models: the same logits and the same text here, and back again."""

from pathlib import Path

import fastprompt as fp
from fastprompt.framework import ops
from fastprompt.saving.prompt_file import read_prompt

import numpy
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "checkpoints" / "make_causal_adapters.py"
FAMILIES = ("gpt2", "llama", "bloom")
ADAPTERS = [f"{family}-{kind}" for family in FAMILIES for kind in ("prefix", "prompt", "ptuning")]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, run_python, causal):
    """Folders of adapters with what PEFT itself makes of them."""
    folder = tmp_path_factory.mktemp("causal-adapters")
    run_python("torch", SCRIPT, "make", folder, causal["llama"].parent)
    return {path.name: path for path in folder.iterdir()}


def agree(found, wanted, mask):
    real = mask.astype(bool)
    assert numpy.abs(found - wanted)[real].max() <= 1e-5 * max(1, numpy.abs(wanted[real]).max())
    assert numpy.ptp(wanted) > 0.1


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_imported_adapter_gives_pefts_logits_and_writes_its_text(adapters, causal, tmp_path, name):
    backbone, wanted = causal[name.split("-")[0]], numpy.load(adapters[name] / "found.npz")
    fp.import_prompt("peft", adapters[name], tmp_path / "prompt", backbone)
    model = fp.load_prompt_model(tmp_path / "prompt")
    model.eval()
    ids, mask = (ops.tensor(wanted[key]) for key in ("input_ids", "attention_mask"))
    agree(ops.to_numpy(model(ids, mask).logits), wanted["logits"][:, -12:], wanted["attention_mask"])
    written = model.generate(ids[:1], mask[:1], max_new_tokens=12, eos_token_id=98)
    assert written.tolist() == wanted["tokens"].tolist()


@pytest.mark.skipif(fp.backend() != "torch", reason="PEFT runs on torch")
@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_reads_what_is_exported_and_gives_the_same(adapters, causal, tmp_path, run_python, name):
    backbone, wanted = causal[name.split("-")[0]], numpy.load(adapters[name] / "found.npz")
    fp.import_prompt("peft", adapters[name], tmp_path / "prompt", backbone)
    fp.export_prompt("peft", tmp_path / "prompt", tmp_path / "adapter")
    run_python("torch", SCRIPT, "read", tmp_path / "adapter", backbone, tmp_path / "found.npz")
    found = numpy.load(tmp_path / "found.npz")
    agree(found["logits"][:, -12:], wanted["logits"][:, -12:], wanted["attention_mask"])
    assert found["tokens"].tolist() == wanted["tokens"].tolist()


def test_a_prefix_of_grouped_heads_has_their_parameters_alone(adapters, causal, tmp_path):
    fp.import_prompt("peft", adapters["llama-prefix"], tmp_path, causal["llama"])
    assert read_prompt(tmp_path).tensors["key"].shape == (3, 2, 5, 8)
    assert fp.load_prompt_model(tmp_path).count_parameters()[0] == 5 * 2 * 3 * 2 * 8
