"""A checkpoint's settings on their way into a backbone."""

import json
import shutil

import fastprompt as fp
from fastprompt.framework import nn
from fastprompt.pretrained.families import FAMILIES

import pytest

PORTABLE = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "ernie",
    "albert",
    "modernbert",
    "mpnet",
    "deberta",
    "deberta-v2",
]


def rates(module, found=None):
    """Every dropout rate in a model: its Dropout layers' and its attentions' own."""
    found = set() if found is None else found
    for part in module.modules() if hasattr(module, "modules") else module.sublayers(include_self=True):
        if isinstance(part, nn.Dropout):
            found.add(part.p)
        if hasattr(part, "dropout_p"):
            found.add(part.dropout_p)
    return found


@pytest.mark.parametrize("family", PORTABLE)
def test_no_dropout_means_none_where_config_json_leaves_the_rates_out(tiny, tmp_path, family):
    """A file that names no rate stands for the family's defaults, which are not 0."""
    folder = shutil.copytree(tiny[family], tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    record = FAMILIES[family]
    for name in (*record.hidden_dropout, *record.attention_dropout):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    for kind in (fp.PromptForSequenceClassification, fp.PromptForMultipleChoice, fp.PromptForQuestionAnswering):
        options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "portable": True}
        model = kind.from_pretrained(folder, fp.FineTuningConfig(), **options)
        assert rates(model.backbone) | rates(model.head) == {0.0}
