"""Every head with a batch, for tests."""

import fastprompt as fp
from fastprompt.framework import ops

import numpy

IDS = numpy.array([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0]])


CHOICES = numpy.stack([IDS, IDS[:, [0, 2, 1, 3, 4]], IDS])


# name -> the class, what it is given of its outputs, and what a batch has beside its texts
HEADS = {
    "classes": (fp.PromptForSequenceClassification, {"num_labels": 3}, {"labels": [2, 0]}),
    "labels": (
        fp.PromptForSequenceClassification,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]},
    ),
    "number": (fp.PromptForSequenceClassification, {"problem_type": "regression"}, {"labels": [0.5, -1.0]}),
    "numbers": (
        fp.PromptForSequenceClassification,
        {"num_labels": 2, "problem_type": "regression"},
        {"labels": [[0.5, 2.0], [-1.0, 0.0]]},
    ),
    "tokens": (
        fp.PromptForTokenClassification,
        {"num_labels": 3},
        {"labels": [[-100, 2, 1, 0, -100], [-100, 1, -100, -100, -100]]},
    ),
    "questions": (fp.PromptForQuestionAnswering, {}, {"start_positions": [1, 9], "end_positions": [3, 1]}),
    "choices": (fp.PromptForMultipleChoice, {}, {"labels": [1, 0, 1]}),
}


METHODS = {
    "p-tuning-v2": fp.PTuningV2Config(pre_seq_len=3, init_std=0.5),
    "projection": fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, prefix_hidden_size=7, init_std=0.5),
    "shallow-prefix": fp.ShallowPrefixConfig(pre_seq_len=3),
    "prompt-tuning": fp.PromptTuningConfig(num_virtual_tokens=3),
    "fine-tuning": fp.FineTuningConfig(),
    "linear-probe": fp.LinearProbeConfig(),
    "bitfit": fp.BitFitConfig(),
}


def texts(ids):
    return {"input_ids": ops.tensor(ids), "attention_mask": ops.tensor((ids > 0).astype("int64"))}


def target(array):
    array = numpy.array(array)
    return ops.tensor(array.astype("float32") if array.dtype == "float64" else array)


def batch(head):
    ids = CHOICES if head == "choices" else IDS
    return texts(ids) | {name: target(value) for name, value in HEADS[head][2].items()}


def make(folder, head, method="p-tuning-v2", **options):
    kind, outputs, _ = HEADS[head]
    config = METHODS[method] if isinstance(method, str) else method
    return kind.from_pretrained(folder, config, **outputs, **options)


def logits(model, head):
    model.eval()
    ids = CHOICES if head == "choices" else IDS
    return ops.to_numpy(model(**texts(ids)).logits)


def number(loss):
    return float(ops.to_numpy(loss).reshape(()))
