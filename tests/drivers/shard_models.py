"""One of two processes: models with their backbones sharded, against the same with theirs whole.

`python shard_models.py FOLDER...`; prints a JSON line of {name: [greatest difference, share of the blocks held]}.
"""

import json
import sys
from pathlib import Path

import fastprompt as fp
from fastprompt.framework import ops

import numpy

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS = {"deep": fp.PTuningV2Config(pre_seq_len=3), "shallow": fp.PromptTuningConfig(num_virtual_tokens=3)}
WAYS = {"": {}, **{name: {name: True} for name in ("gradient_checkpointing", "bf16", "portable")}}


def make_batch(model):
    """Two texts, the second one shorter; class labels, or labels of half of the tokens."""
    ids = numpy.random.default_rng(0).integers(5, 60, (2, 8))
    mask = (numpy.arange(8) < [[8], [5]]).astype("int64")
    labels = numpy.array([0, 1])
    if model.task != "sequence_classification":
        labels = numpy.where((mask == 1) & (numpy.arange(8) > 2), ids, -100)
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: ops.tensor(array) for name, array in arrays.items()}


def compute(model):
    """The loss in evaluation, the loss in training, and the prompt's and head's gradients."""
    batch = make_batch(model)
    model.eval()
    with ops.no_grad():
        evaluated = model.evaluate_step(**batch)["loss"]
    model.train()
    loss = model.train_step(**batch)["loss"]  # the first step looks at the gradients by itself, too
    tuned = ops.gradients(loss, model.trainable_parameters())
    return [ops.to_numpy(evaluated), ops.to_numpy(loss), *tuned]


def held(model):
    """What part of the blocks' numbers lies in this process."""
    sharded = [p for p in model.backbone.parameters() if hasattr(p, "to_local")]
    return sum(p.to_local().numel() for p in sharded) / sum(p.numel() for p in sharded)


def main():
    found = {}
    for folder in map(Path, sys.argv[1:]):
        kind = json.loads((folder / "config.json").read_bytes())["model_type"]
        of_texts = kind in ("bert", "albert", "deberta", "distilbert")
        task = fp.PromptForSequenceClassification if of_texts else fp.PromptForCausalLM
        for method, config in CONFIGS.items():
            for way, options in WAYS.items() if kind in ("bert", "gpt2") else [("", {})]:
                models = [task.from_pretrained(folder, config, seed=1, **NO_DROPOUT, **options) for _ in range(2)]
                fp.get_driver(models[1], "cpu", fsdp=True)
                pairs = zip(*map(compute, models), strict=True)
                apart = max(float(numpy.abs(one - other).max()) for one, other in pairs)
                found[" ".join(filter(None, (folder.name, method, way)))] = [apart, held(models[1])]
    print(json.dumps(found))


main()
