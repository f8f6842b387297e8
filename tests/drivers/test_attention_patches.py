"""Families with an attention of their own, on torch: a prefix there is what an attention written out by hand makes of
it, and a transformers that computes otherwise is refused."""

import math

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.checkpoint import Checkpoint

import pytest

if fp.backend() != "torch":
    pytest.skip("stock transformers models run on torch", allow_module_level=True)

import torch
from transformers import AutoModel
from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention as DebertaAttention
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention as DebertaV2Attention
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

FAMILIES = ["mpnet", "deberta", "deberta-v2", "deberta-v3"]
LENGTH = 4
MASK = torch.tensor([[1] * 9, [1, 1, 1, 1, 1, 0, 0, 0, 0]])


def inputs_of(folder):
    ids = torch.arange(10, 28).reshape(2, 9)
    return {"input_ids": torch.where(MASK.bool(), ids, Checkpoint(folder).config["pad_token_id"]), "labels": MASK[:, 8]}


def model_of(folder, **options):
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, init_std=1.0, shift_positions=options.pop("shift", False))
    return fp.PromptForSequenceClassification.from_pretrained(folder, config, **options)


def heads_of(x, heads):
    """(B, T, hidden) -> (B, heads, T, head_dim)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def mpnet_scores(attention, hidden, model):
    """Query, key and value of the real tokens, the scale, and what position adds to the score of i and j."""
    query, key, value = (heads_of(layer(hidden), 4) for layer in (attention.q, attention.k, attention.v))
    bias = model.encoder.relative_attention_bias.weight  # (32 buckets, heads): 16 for keys to the left, 16 to the right

    def position(i, j):  # distances up to 8 have a bucket each
        return bias[abs(i - j) + (16 if j > i else 0)]  # (heads,)

    return query, key, value, math.sqrt(8), position


def deberta_scores(attention, hidden, model):
    """DeBERTa's q, k and v lie head by head in one projection; 9 distances to either side of 9 tokens."""
    mixed = heads_of(attention.in_proj(hidden), 4)  # (B, heads, T, 3 * head_dim)
    query, key, value = mixed.chunk(3, dim=-1)
    query = query + attention.q_bias.view(1, 4, 1, 8)
    value = value + attention.v_bias.view(1, 4, 1, 8)
    rows = model.encoder.rel_embeddings.weight
    middle = len(rows) // 2
    position_keys, position_queries = (
        heads_of(layer(rows)[None], 4)[0] for layer in (attention.pos_proj, attention.pos_q_proj)
    )  # (heads, distances, head_dim)

    def position(i, j):
        row = middle + max(-9, min(i - j, 8))
        products = query[:, :, i] * position_keys[:, row] + key[:, :, j] * position_queries[:, row]
        return products.sum(-1) / math.sqrt(3 * 8)  # (B, heads)

    return query, key, value, math.sqrt(3 * 8), position


def deberta_v2_scores(attention, hidden, model):
    """4 buckets to either side: 0, 1, 2 and, from log buckets over 160 positions, 3 and 4 for what is further."""
    query, key, value = (
        heads_of(layer(hidden), 4) for layer in (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    rows = model.encoder.LayerNorm(model.encoder.rel_embeddings.weight)  # (2 * 4, hidden)
    position_keys, position_queries = (
        heads_of(layer(rows)[None], 4)[0] for layer in (attention.key_proj, attention.query_proj)
    )

    def position(i, j):
        distance = abs(i - j)
        if distance > 2:
            distance = 2 + math.ceil(math.log(distance / 2) / math.log(159 / 2))
        row = max(0, min(4 + (distance if i > j else -distance), 7))
        products = query[:, :, i] * position_keys[:, row] + key[:, :, j] * position_queries[:, row]
        return products.sum(-1) / math.sqrt(3 * 8)

    return query, key, value, math.sqrt(3 * 8), position


SCORES = {
    "mpnet": (MPNetSelfAttention, mpnet_scores),
    "deberta": (DebertaAttention, deberta_scores),
    "deberta-v2": (DebertaV2Attention, deberta_v2_scores),
    "deberta-v3": (DebertaV2Attention, deberta_v2_scores),
}


def by_hand(family, attention, model, prefix_key, prefix_value):
    """An attention's forward, one score at a time; a prefix's scores are q k / scale, and all see it."""

    def forward(hidden, *inputs, **options):
        query, key, value, scale, position = SCORES[family][1](attention, hidden, model)
        rows = []
        for i in range(9):
            scores = [(query[:, :, i] * prefix_key[:, p]).sum(-1) / scale for p in range(LENGTH)]
            for j in range(9):
                score = (query[:, :, i] * key[:, :, j]).sum(-1) / scale + position(i, j)
                scores.append(torch.where(MASK[:, j, None].bool(), score, -torch.inf))
            weights = torch.stack(scores, dim=-1).softmax(-1)  # (B, heads, LENGTH + T)
            values = torch.cat([prefix_value.expand(2, -1, -1, -1), value], dim=2)
            rows.append((weights[..., None] * values).sum(2).flatten(1))  # (B, hidden)
        output = torch.stack(rows, dim=1)
        return attention.o(output) if family == "mpnet" else output, None

    return forward


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_what_an_attention_by_hand_makes_of_it(tiny, family):
    model = model_of(tiny[family]).double().eval()
    inputs = inputs_of(tiny[family])
    _, states = model.encode(inputs["input_ids"], MASK)
    (ours,) = torch.autograd.grad(states[-1][:, :5].square().sum(), [model.prompt.embedding.weight])

    stock = AutoModel.from_pretrained(tiny[family], attn_implementation="eager").double().eval()
    key, value = model.prompt()
    kind = SCORES[family][0]
    for layer, attention in enumerate(module for module in stock.modules() if isinstance(module, kind)):
        attention.forward = by_hand(family, attention, stock, key[layer], value[layer])
    expected = stock(input_ids=inputs["input_ids"], attention_mask=MASK).last_hidden_state
    (gradient,) = torch.autograd.grad(expected[:, :5].square().sum(), [model.prompt.embedding.weight])

    close = {"atol": 1e-6, "rtol": 1e-5}  # DeBERTa keeps parts in float32 whatever the model is in
    torch.testing.assert_close(states[-1][0], expected[0], **close)
    torch.testing.assert_close(states[-1][1, :5], expected[1, :5], **close)
    torch.testing.assert_close(ours, gradient, **close)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_prefix_it_is_the_stock_model(tiny, family):
    inputs = inputs_of(tiny[family])
    model = fp.PromptForSequenceClassification.from_pretrained(tiny[family], fp.LinearProbeConfig()).eval()
    stock = AutoModel.from_pretrained(tiny[family], attn_implementation="eager").eval()
    expected = stock(input_ids=inputs["input_ids"], attention_mask=MASK).last_hidden_state
    assert (model.encode(inputs["input_ids"], MASK)[1][-1] == expected).all()


def test_shifted_positions_move_mpnets_absolute_ones(tiny):
    inputs = inputs_of(tiny["mpnet"])
    shifted = model_of(tiny["mpnet"], shift=True).eval()
    plain = model_of(tiny["mpnet"]).eval()
    embeddings = plain.backbone.model.embeddings.position_embeddings
    with torch.no_grad():
        embeddings.weight[2:12] = embeddings.weight[2 + LENGTH : 12 + LENGTH].clone()  # its positions begin at 2
    expected, _ = plain.encode(inputs["input_ids"], MASK)
    torch.testing.assert_close(shifted.encode(inputs["input_ids"], MASK)[0], expected)


def test_shifted_positions_are_refused_where_all_are_relative(tiny):
    model = model_of(tiny["deberta-v3"], shift=True)
    with pytest.raises(ConfigError, match="deberta-v2 takes no position_ids"):
        model.encode(inputs_of(tiny["deberta-v3"])["input_ids"], MASK)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transformers_that_computes_otherwise_is_refused_by_name(tiny, monkeypatch, family):
    kind = SCORES[family][0]
    stock = kind.forward
    monkeypatch.setattr(
        kind, "forward", lambda self, *inputs, **options: (stock(self, *inputs, **options)[0] * 2, None)
    )
    with pytest.raises(CheckpointError, match=r"in transformers [\d.]+ not as fastprompt knows it.* use prompt-tuning"):
        model_of(tiny[family])
    fp.PromptForSequenceClassification.from_pretrained(tiny[family], fp.PromptTuningConfig(num_virtual_tokens=3))


def test_a_transformers_with_other_members_is_refused_by_name(tiny, monkeypatch):
    bias, stock = DebertaV2Attention.disentangled_attention_bias, DebertaV2Attention.forward

    def forward(self, *inputs, **options):  # as if the method had another name
        with monkeypatch.context() as patch:
            patch.setattr(DebertaV2Attention, "disentangled_attention_bias", bias, raising=False)
            return stock(self, *inputs, **options)

    monkeypatch.delattr(DebertaV2Attention, "disentangled_attention_bias")
    monkeypatch.setattr(DebertaV2Attention, "forward", forward)
    with pytest.raises(CheckpointError, match="not as fastprompt knows it"):
        model_of(tiny["deberta-v3"])
