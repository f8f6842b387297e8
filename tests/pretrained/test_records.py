"""The table of families: every name in a record leads somewhere."""

import dataclasses
import importlib.util

from fastprompt.models.auto import MODELS
from fastprompt.models.heads import HEADS
from fastprompt.pretrained.families import FAMILIES, family_of
from fastprompt.pretrained.family import Family, Heads

import pytest

from check_sizes import SIZES

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", FAMILIES)
def test_a_record_names_heads_and_a_module_that_exist(name):
    family = FAMILIES[name]
    for task in Heads.__dataclass_fields__:
        if task not in ("layers", "pooler"):
            assert task in MODELS
            assert getattr(family.heads, task) in HEADS
    if family.portable is not None:
        assert importlib.util.find_spec(f"fastprompt.backbones.{family.portable}") is not None


def test_every_portable_family_has_a_base_size_to_be_checked_at():
    assert {name for name, family in FAMILIES.items() if family.portable} <= set(SIZES)


def test_no_head_is_without_a_family():
    tasks = [task for task in Heads.__dataclass_fields__ if task not in ("layers", "pooler")]
    assert {getattr(family.heads, task) for family in FAMILIES.values() for task in tasks} == set(HEADS)


def test_a_family_that_is_not_in_the_table_has_the_defaults():
    found = family_of("data2vec-text")
    names = ("hidden_dropout", "attention_dropout")
    expected = Family("data2vec", **{name: getattr(found, name) for name in names})
    assert found == expected
    assert {"hidden_dropout_prob", "dropout", "resid_pdrop"} <= set(found.hidden_dropout)
    assert {field.name for field in dataclasses.fields(Family)} >= set(names)
