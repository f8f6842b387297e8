"""Buckets of distances are transformers' own."""

import fastprompt as fp
from fastprompt.backbones.distances import distance_buckets

import pytest

if fp.backend() != "torch":
    pytest.skip("compares with transformers, without a framework of ours", allow_module_level=True)

import torch
from transformers.models.t5.modeling_t5 import T5Attention


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (16, 40), (64, 300)])
def test_each_distance_has_the_bucket_that_transformers_gives_it(both_ways, buckets, furthest):
    keys, queries = 700, 300  # as where 400 tokens are cached
    distances = torch.arange(keys)[None] - torch.arange(keys - queries, keys)[:, None]
    wanted = T5Attention._relative_position_bucket(distances, both_ways, buckets, furthest)
    assert distance_buckets(queries, keys, buckets, furthest, both_ways).tolist() == wanted.tolist()
