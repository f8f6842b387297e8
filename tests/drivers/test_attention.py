"""Attention on torch in bfloat16 takes a way of its own, to the same numbers."""

import fastprompt as fp
from fastprompt.errors import CheckpointError

import pytest

if fp.backend() != "torch":
    pytest.skip("torch's attention", allow_module_level=True)

from fastprompt.drivers.torch import ops
from fastprompt.drivers.torch.stock.prefix_attention import ATTENTION, prefix_attention

import torch
from transformers import AutoConfig, AutoModel

SEEN = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]).bool()[:, None, None]
MASKS = {"none": None, "bool": SEEN.expand(2, 1, 5, 7), "additive": torch.zeros(SEEN.shape).masked_fill(~SEEN, -1e9)}


def inputs(heads_kv=4):
    torch.manual_seed(0)
    shapes = ((2, 4, 5, 8), (2, heads_kv, 7, 8), (2, heads_kv, 7, 8))
    return [torch.randn(shape).bfloat16().float() for shape in shapes]


def with_gradients(attend, tensors):
    tensors = [x.clone().requires_grad_() for x in tensors]
    attended = attend(*tensors)
    weights = torch.linspace(-1, 1, attended.numel()).view(attended.shape)
    (attended.float() * weights).sum().backward()
    return [attended.float(), *(x.grad.float() for x in tensors)]


@pytest.mark.parametrize("mask", ["none", "additive"])
def test_bfloat16_gives_what_float32_gives(mask):
    def attend(*tensors):
        return ops.attention(*tensors, MASKS[mask], 0.0, training=True)

    wanted = with_gradients(attend, inputs())
    for found, right in zip(with_gradients(attend, [x.bfloat16() for x in inputs()]), wanted, strict=True):
        torch.testing.assert_close(found, right, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("heads_kv", [4, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_so_does_the_attention_of_stock_models(mask, heads_kv):
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups, module.training = False, 4 // heads_kv, True

    def attend(*tensors):
        given = MASKS[mask]
        if given is not None and given.dtype is not torch.bool:
            given = given.to(tensors[0].dtype)
        return prefix_attention(module, *tensors, given, scaling=0.5)[0]

    wanted = with_gradients(attend, inputs(heads_kv))
    for found, right in zip(with_gradients(attend, [x.bfloat16() for x in inputs(heads_kv)]), wanted, strict=True):
        torch.testing.assert_close(found, right, atol=0.03, rtol=0.03)


def test_dropout_in_bfloat16_leaves_out_the_share_that_it_says():
    query, key, _ = (x.bfloat16().repeat(1, 1, 20, 1) for x in inputs())
    value = torch.ones_like(key)
    torch.manual_seed(1)
    attended = ops.attention(query, key, value, None, 0.25, training=True).float()
    assert attended.mean().item() == pytest.approx(1, abs=0.02)  # what stays is scaled up
    assert attended.std().item() > 0.02
    assert torch.equal(ops.attention(query, key, value, None, 0.25).float().round(), torch.ones_like(attended))


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_a_causal_stock_model_without_a_prefix_stays_causal_in_bfloat16(causal, name):
    """Its mask may be none, which leaves it to the kernel."""
    config = AutoConfig.from_pretrained(causal[name])
    model = AutoModel.from_pretrained(causal[name], config=config, attn_implementation=ATTENTION).bfloat16().train()
    ids = torch.randint(5, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    found = model(input_ids=ids).last_hidden_state[:, :4]
    alone = model(input_ids=ids[:, :4]).last_hidden_state
    torch.testing.assert_close(found.float(), alone.float(), atol=0.05, rtol=0.05)


def test_attention_sinks_are_refused_by_the_models_name():
    module = torch.nn.Module()
    module.config = AutoConfig.for_model("gpt_oss")
    with pytest.raises(CheckpointError, match="gpt_oss has learned attention sinks"):
        prefix_attention(module, *inputs(), None, s_aux=torch.zeros(4))
