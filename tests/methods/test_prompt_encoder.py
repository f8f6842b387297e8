"""P-Tuning v1's prompt encoder under each framework, against PEFT's in float64."""

import json

import fastprompt as fp
from fastprompt.compare.budgets import GRADIENTS, largest
from fastprompt.framework import nn, ops
from fastprompt.prompts import PromptEncoder

import numpy
import pytest
from safetensors.numpy import load_file

WIDTH = 12
CONFIGS = {
    "mlp": {"encoder": "mlp", "encoder_hidden_size": 7},
    "lstm": {"encoder": "lstm", "encoder_hidden_size": 7},
    "lstm-1": {"encoder": "lstm", "encoder_hidden_size": 9, "encoder_num_layers": 1},
    "lstm-3": {"encoder": "lstm", "encoder_num_layers": 3},
}
PEFT = """
import json, sys
import torch
from peft import PromptEncoder, PromptEncoderConfig
from safetensors.torch import save_file

torch.manual_seed(0)
tensors = {}
for name, options in json.loads(sys.argv[2]).items():
    kind = options.pop("encoder").upper()
    options = {"encoder_hidden_size": int(sys.argv[3]), **options}
    config = PromptEncoderConfig(
        encoder_reparameterization_type=kind, num_virtual_tokens=5, token_dim=int(sys.argv[3]),
        num_transformer_submodules=1, **options,
    )
    encoder = PromptEncoder(config)
    for weight in encoder.parameters():
        weight.data *= 3  # off the small values, where an LSTM is nearly linear
    tensors |= {f"{name}/weight/{key}": weight.detach().clone() for key, weight in encoder.named_parameters()}
    encoder.double()
    output = encoder(torch.arange(5)[None])[0]
    scale = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output * scale).sum().backward()
    tensors[f"{name}/output"] = output.detach()
    tensors |= {f"{name}/gradient/{key}": weight.grad for key, weight in encoder.named_parameters()}
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, sys.argv[1])
"""


def made(name, **options):
    return PromptEncoder(fp.PTuningConfig(num_virtual_tokens=5, **{**CONFIGS[name], **options}), hidden_size=WIDTH)


def gradients(encoder):
    """By name, of the output weighted by numbers from -1 to 1."""
    output = encoder()
    scale = numpy.linspace(-1, 1, 5 * WIDTH, dtype="float32").reshape(5, WIDTH)
    tensors = nn.named_parameters(encoder)
    loss = ops.sum(ops.reshape(output * ops.tensor(scale), (-1,)), 0)
    return dict(zip(tensors, ops.gradients(loss, list(tensors.values())), strict=True))


@pytest.fixture(scope="module")
def peft(tmp_path_factory, run_python):
    """Weights of PEFT's encoders in float32; outputs and gradients that they give in float64."""
    path = tmp_path_factory.mktemp("peft") / "encoders.safetensors"
    run_python("torch", "-c", PEFT, path, json.dumps(CONFIGS), WIDTH)
    return load_file(path)


def with_pefts_weights(name, peft):
    encoder = made(name)
    tensors = nn.named_parameters(encoder)
    start = f"{name}/weight/"
    assert set(tensors) == {key.removeprefix(start) for key in peft if key.startswith(start)}
    for key, tensor in tensors.items():
        nn.set_value(tensor, peft[start + key])
    return encoder


@pytest.mark.parametrize("name", CONFIGS)
def test_it_makes_what_pefts_encoder_makes_of_the_same_weights(peft, name):
    encoder = with_pefts_weights(name, peft)
    assert largest(ops.to_numpy(encoder()), peft[f"{name}/output"]) <= 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_has_the_gradient_that_peft_gives_it(peft, name):
    for key, gradient in gradients(with_pefts_weights(name, peft)).items():
        expected = peft[f"{name}/gradient/{key}"]
        scale = numpy.abs(expected).max()
        assert scale > 0
        assert largest(gradient, expected) <= GRADIENTS * scale, key


@pytest.mark.parametrize("name", CONFIGS)
def test_the_prompt_file_gets_the_prompt_that_is_run(peft, name):
    encoder = with_pefts_weights(name, peft)
    found = encoder.collapse()
    assert set(found) == {"embedding"}
    assert found["embedding"].dtype == numpy.float32
    assert (found["embedding"] == peft[f"{name}/output"].astype("float32")).all()


@pytest.mark.parametrize(("kind", "count"), [("mlp", 12_609_536), ("lstm", 193_030_144)])
def test_on_blooms_width_it_has_the_published_number_of_parameters(kind, count):
    encoder = PromptEncoder(fp.PTuningConfig(num_virtual_tokens=10, encoder=kind), hidden_size=2048)
    assert sum(numpy.prod(tuple(p.shape)) for p in nn.named_parameters(encoder).values()) == count


def test_initial_values_depend_on_the_seed_alone_and_lie_in_the_papers_range():
    config = fp.PTuningConfig(num_virtual_tokens=200, encoder_hidden_size=16, init_std=0.5)
    first, again, other = (
        {name: ops.to_numpy(p) for name, p in nn.named_parameters(PromptEncoder(config, 64, seed=seed)).items()}
        for seed in (1, 1, 2)
    )
    for name, array in first.items():
        assert (array == again[name]).all()
        assert (array != other[name]).any()
    assert first["embedding.weight"].std() == pytest.approx(0.5, rel=0.05)
    for name, bound in {"lstm_head.weight_ih_l0": 1 / 4, "lstm_head.weight_hh_l1_reverse": 1 / 4}.items():
        assert bound * 0.98 < numpy.abs(first[name]).max() <= bound
    for name, fan_in in {"mlp_head.0.weight": 32, "mlp_head.2.weight": 32}.items():
        assert fan_in**-0.5 * 0.95 < numpy.abs(first[name]).max() <= fan_in**-0.5


def test_dropout_falls_between_the_lstms_layers_and_in_training_alone():
    encoder = made("lstm-3", encoder_dropout=0.5)
    encoder.eval()
    first, second = (ops.to_numpy(encoder()) for _ in range(2))
    assert (first == second).all()
    encoder.train()
    first, second = (ops.to_numpy(encoder()) for _ in range(2))
    assert (first != second).any()
    one_layer = made("lstm-1", encoder_dropout=0.5)
    one_layer.train()
    first, second = (ops.to_numpy(one_layer()) for _ in range(2))
    assert (first == second).all()
