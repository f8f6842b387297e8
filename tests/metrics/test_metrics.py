"""Metrics: numbers worked out by hand, over batches, and over processes."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import fastprompt
from fastprompt.data.dataloader import PadBatch
from fastprompt.data.sampler import LengthGroupedBatchSampler
from fastprompt.errors import DataError, TrainingError
from fastprompt.framework import loader, nn, ops
from fastprompt.metrics.accuracy import Accuracy
from fastprompt.metrics.correlation import Pearson, Spearman
from fastprompt.metrics.entity_f1 import EntityF1, find_entities
from fastprompt.metrics.f1 import F1
from fastprompt.metrics.matthews import MatthewsCorrelation
from fastprompt.metrics.multirc import MultiRC
from fastprompt.metrics.tasks import task_metrics

import numpy
import pytest
from fastNLP import Evaluator


def tensor(values):
    return ops.tensor(values.astype("float32" if values.dtype.kind == "f" else "int64"))


def scored(metric, pred, target, **others):
    """The metric's scores, its examples coming in batches of 2 or 3."""
    for rows in numpy.array_split(numpy.arange(len(pred)), max(1, len(pred) // 2)):
        metric.update(*(tensor(numpy.array(x)[rows]) for x in (pred, target, *others.values())))
    return metric.get_metric()


# 2 true positives, 1 false positive, 2 false negatives, 3 true negatives
PRED, TARGET = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("metric", "pred", "target", "expected"),
    [
        (Accuracy, PRED, TARGET, {"accuracy": 5 / 8}),
        (Accuracy, [2, 0, 1], [2, 1, 1], {"accuracy": 2 / 3}),
        (F1, PRED, TARGET, {"f1": 2 * 2 / (3 + 4)}),
        (F1, [0, 0], [1, 0], {"f1": 0.0}),
        (F1, [0, 0], [0, 0], {"f1": 0.0}),
        (F1, [1, 1], [1, 1], {"f1": 1.0}),
        # classes 0, 1, 2: 2*1/(1+2), 2*2/(3+2), 2*1/(2+2)
        (lambda: F1("macro"), [0, 1, 1, 1, 2, 2], [0, 1, 1, 2, 0, 2], {"f1": (2 / 3 + 4 / 5 + 1 / 2) / 3}),
        # (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))
        (MatthewsCorrelation, PRED, TARGET, {"matthews_correlation": (6 - 2) / (3 * 4 * 4 * 5) ** 0.5}),
        (MatthewsCorrelation, [0, 1, 0], [1, 0, 1], {"matthews_correlation": -1.0}),
        (MatthewsCorrelation, [1, 1, 1], [1, 0, 1], {"matthews_correlation": 0.0}),
        # deviations -1.5 -.5 .5 1.5 and -3 -1 0 4: 11 / sqrt(5 * 26)
        (Pearson, [1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 3.0, 7.0], {"pearson": 11 / 130**0.5}),
        (Spearman, [1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 3.0, 7.0], {"spearman": 1.0}),
        # ranks 1 2.5 2.5 4 and 2 1 3 4: deviations -1.5 0 0 1.5 and -.5 -1.5 .5 1.5: 3 / sqrt(4.5 * 5)
        (Spearman, [0.0, 1.0, 1.0, 9.0], [2.0, 1.0, 3.0, 4.0], {"spearman": 3 / 22.5**0.5}),
        (Pearson, [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], {"pearson": 0.0}),
        (Spearman, [1.0, 2.0, 3.0], [5.0, 5.0, 5.0], {"spearman": 0.0}),
        (Pearson, [1.25], [2.75], {"pearson": 0.0}),
    ],
)
def test_scores_are_those_worked_out_by_hand(metric, pred, target, expected):
    assert scored(metric(), pred, target) == pytest.approx(expected, abs=1e-12)


def test_correlations_keep_their_digits_far_from_zero():
    """Sums of squares in float32 would lose them."""
    target = numpy.arange(1000.0)
    assert scored(Pearson(), 4000 + target, target)["pearson"] == pytest.approx(1.0, abs=1e-9)


def test_predictions_that_are_no_numbers_are_refused():
    with pytest.raises(TrainingError, match="no finite number"):
        scored(Pearson(), [1.0, float("nan")], [1.0, 2.0])


def test_multirc_is_scored_by_answer_and_by_question():
    # question 7 is right in all its answers, 8 misses one, 9 finds one too many
    groups = [7, 8, 7, 8, 9, 9, 9]
    target = [1, 1, 0, 0, 0, 1, 0]
    pred = [1, 0, 0, 0, 1, 1, 0]
    found = scored(MultiRC(), pred, target, groups=groups)
    assert found == pytest.approx({"f1": 2 * 2 / (3 + 3), "exact_match": 1 / 3})


def test_a_metric_starts_anew_after_reset():
    metric = Accuracy()
    assert scored(metric, [0, 0], [1, 1]) == {"accuracy": 0.0}
    metric.reset()
    assert scored(metric, [1], [1]) == {"accuracy": 1.0}


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="no examples to score"):
        Accuracy().get_metric()


# -- entities --------------------------------------------------------------------------------------------------------

ENTITIES = [
    # BIO, rightly written (IOB2)
    ("", []),
    ("O", []),
    ("O O O", []),
    ("B-PER", ["PER 0 0"]),
    ("B-PER I-PER", ["PER 0 1"]),
    ("O B-PER I-PER O", ["PER 1 2"]),
    ("B-PER O B-PER", ["PER 0 0", "PER 2 2"]),
    ("B-PER B-PER", ["PER 0 0", "PER 1 1"]),
    ("B-PER I-PER B-PER I-PER", ["PER 0 1", "PER 2 3"]),
    ("B-PER B-LOC I-LOC", ["PER 0 0", "LOC 1 2"]),
    ("O O B-ORG I-ORG I-ORG", ["ORG 2 4"]),
    # IOB1: B- only between neighbours of one type
    ("I-PER", ["PER 0 0"]),
    ("I-PER I-PER O", ["PER 0 1"]),
    ("O I-PER B-PER I-PER", ["PER 1 1", "PER 2 3"]),
    ("I-PER I-LOC", ["PER 0 0", "LOC 1 1"]),
    ("I-PER O I-PER", ["PER 0 0", "PER 2 2"]),
    # IOBES, rightly written
    ("S-PER", ["PER 0 0"]),
    ("S-PER S-PER", ["PER 0 0", "PER 1 1"]),
    ("B-PER E-PER", ["PER 0 1"]),
    ("B-PER I-PER I-PER E-PER O", ["PER 0 3"]),
    ("B-PER E-PER B-PER E-PER", ["PER 0 1", "PER 2 3"]),
    ("S-LOC B-PER E-PER S-LOC", ["LOC 0 0", "PER 1 2", "LOC 3 3"]),
    ("O S-LOC O", ["LOC 1 1"]),
    # wrongly written
    ("B-PER I-LOC", ["PER 0 0", "LOC 1 1"]),
    ("B-PER I-LOC I-PER", ["PER 0 0", "LOC 1 1", "PER 2 2"]),
    ("O I-PER I-LOC O", ["PER 1 1", "LOC 2 2"]),
    ("E-PER", ["PER 0 0"]),
    ("O E-PER O", ["PER 1 1"]),
    ("E-PER E-PER", ["PER 0 0", "PER 1 1"]),
    ("E-PER I-PER", ["PER 0 0", "PER 1 1"]),
    ("I-PER E-PER", ["PER 0 1"]),
    ("B-PER E-LOC", ["PER 0 0", "LOC 1 1"]),
    ("S-PER I-PER", ["PER 0 0", "PER 1 1"]),
    ("S-PER E-PER", ["PER 0 0", "PER 1 1"]),
    ("B-PER S-PER", ["PER 0 0", "PER 1 1"]),
    ("B-PER I-PER S-PER I-PER", ["PER 0 1", "PER 2 2", "PER 3 3"]),
    ("B-PER I-PER", ["PER 0 1"]),
    ("B-PER E-PER I-PER E-PER", ["PER 0 1", "PER 2 3"]),
    ("B-PER B-PER E-PER", ["PER 0 0", "PER 1 2"]),
    # types with a hyphen, as SRL has them
    ("B-C-ARG1 I-C-ARG1 B-ARG1", ["C-ARG1 0 1", "ARG1 2 2"]),
    ("B-ARGM-TMP I-ARGM-LOC", ["ARGM-TMP 0 0", "ARGM-LOC 1 1"]),
]


@pytest.mark.parametrize(("tags", "expected"), ENTITIES)
def test_entities_begin_and_end_as_conlleval_reads_them(tags, expected):
    assert [f"{kind} {first} {last}" for kind, first, last in find_entities(tags.split())] == expected


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
__, BP, IP, BL, IL = range(5)


@pytest.mark.parametrize(
    ("pred", "target", "expected"),  # rows of class indices; (right, predicted, gold)
    [
        ([[BP, IP, __]], [[BP, IP, __]], (1, 1, 1)),
        ([[BP, __, __]], [[BP, IP, __]], (0, 1, 1)),  # its end is wrong
        ([[__, BP, __]], [[BP, IP, __]], (0, 1, 1)),  # its start is wrong
        ([[BL, IL, __]], [[BP, IP, __]], (0, 1, 1)),  # its type is wrong
        ([[IP, IP, __]], [[BP, IP, __]], (1, 1, 1)),  # the same entity in IOB1
        ([[BP, BP, __]], [[BP, IP, __]], (0, 2, 1)),
        ([[BP, IP, BL]], [[BP, IP, __]], (1, 2, 1)),
        ([[__, __, __]], [[BP, __, BL]], (0, 0, 2)),
        ([[BP, __, BL]], [[__, __, __]], (0, 2, 0)),
        ([[__, __]], [[__, __]], (0, 0, 0)),
        ([[BP, __], [__, BL]], [[BP, __], [__, BP]], (1, 2, 2)),
        # a sentence's end is an entity's: what follows is another sentence
        ([[__, BP], [IP, __]], [[__, BP], [IP, __]], (2, 2, 2)),
        # special tokens, second pieces of words and padding are left out, whatever is predicted there
        ([[BL, BP, BL, IP, BL]], [[-100, BP, -100, IP, -100]], (1, 1, 1)),
        ([[BL, __, BL, __, BL]], [[-100, BP, -100, IP, -100]], (0, 0, 1)),
    ],
)
def test_entity_f1_counts_whole_entities(pred, target, expected):
    right, predicted, gold = expected
    found = scored(EntityF1(TAGS), pred, target)
    assert found["precision"] == (right / predicted if predicted else 0)
    assert found["recall"] == (right / gold if gold else 0)
    assert found["entity_f1"] == (2 * right / (predicted + gold) if predicted + gold else 0)


@pytest.mark.parametrize("tag", ["NN", "B_PER", "B-", "", "o", "BI-PER"])
def test_tags_that_mark_no_entity_are_refused(tag):
    with pytest.raises(DataError, match="is neither O nor"):
        EntityF1(["O", tag])


# -- tasks and processes ---------------------------------------------------------------------------------------------

CLASSES, NUMBERS, TAGGED = (SimpleNamespace(label_names=names) for names in (["a", "b"], None, TAGS))


@pytest.mark.parametrize(
    ("task", "data", "expected"),
    [
        (("glue", "cola"), CLASSES, ["matthews_correlation"]),
        (("glue", "sst2"), CLASSES, ["accuracy"]),
        (("glue", "mrpc"), CLASSES, ["accuracy", "f1"]),
        (("glue", "qqp"), CLASSES, ["accuracy", "f1"]),
        (("glue", "stsb"), NUMBERS, ["pearson", "spearman"]),
        (("glue", "mnli"), CLASSES, ["accuracy"]),
        (("superglue", "cb"), CLASSES, ["accuracy", "f1"]),
        (("superglue", "multirc"), CLASSES, ["multirc"]),
        (("superglue", "copa"), SimpleNamespace(), ["accuracy"]),
        (("ner", "conll2003"), TAGGED, ["entity_f1"]),
        (("srl", "conll2005"), TAGGED, ["entity_f1"]),
        (("reviews", None), CLASSES, ["accuracy"]),
        (("classification", None), CLASSES, ["accuracy"]),
        (("regression", None), NUMBERS, ["pearson", "spearman"]),
    ],
)
def test_each_task_has_its_official_scores(task, data, expected):
    assert list(task_metrics(*task, data)) == expected


def test_cb_averages_over_classes_and_paraphrases_count_class_1():
    pred, target = [0, 0, 0, 1], [0, 1, 1, 0]  # class 0: 2*1/(3+2), class 1: 0
    macro, binary = (task_metrics(*task, CLASSES)["f1"] for task in (("superglue", "cb"), ("glue", "mrpc")))
    assert scored(macro, pred, target)["f1"] == pytest.approx(2 / 5 / 2)
    assert scored(binary, pred, target)["f1"] == 0


class Yes(nn.Module):
    """Says yes to everything."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def evaluate_step(self, labels):
        return {"pred": labels * 0 + 1, "target": labels}


def test_fastnlps_evaluator_takes_them():
    """Groups, which no evaluate_step returns, come from the batch."""
    pairs = [(1, 4), (1, 4), (0, 5), (1, 6), (0, 6)]
    rows = [{"input_ids": [1, 2], "labels": label, "groups": group} for label, group in pairs]
    sampler = LengthGroupedBatchSampler([2] * 5, batch_size=2, shuffle=False, seed=0)
    model = Yes()
    found = Evaluator(
        model=model,
        driver=fastprompt.get_driver(model),
        dataloaders=loader.make_dataloader(rows, sampler, PadBatch(0)),
        metrics={"accuracy": Accuracy(), "multirc": MultiRC()},
        progress_bar=None,
        verbose=0,
    ).run()
    assert found == pytest.approx(
        {"accuracy#accuracy": 3 / 5, "f1#multirc": 2 * 3 / (5 + 3), "exact_match#multirc": 1 / 3}
    )


# Two processes: the second has no example at all.
PROCESS = """
import json, os, sys
rank, port, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
from fastprompt.framework import backend, ops
from fastprompt.metrics.correlation import Spearman
from fastprompt.metrics.f1 import F1
import numpy
if backend() == "torch":
    import torch.distributed as dist
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=2)
else:
    ends = [f"127.0.0.1:{port + i}" for i in range(2)]
    os.environ |= {"PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ENDPOINTS":
        ",".join(ends), "PADDLE_CURRENT_ENDPOINT": ends[rank], "PADDLE_RANK_IN_NODE": str(rank),
        "FLAGS_selected_gpus": "0", "PADDLE_DISTRI_BACKEND": "gloo"}
    import paddle.distributed as dist
    dist.init_parallel_env()
found = {}
for metric, pred, target in ((F1(), [1, 1, 0], [1, 0, 0]), (Spearman(), [0.5, 1.5, 2.5, 2.0], [1.0, 2.0, 3.0, 4.0])):
    metric.set_auto_aggregate_when_get_metric(True)
    mine = slice(0, None) if rank == 0 else slice(0, 0)
    if isinstance(metric, Spearman):  # here each has its part
        mine = slice(0, 3) if rank == 0 else slice(3, None)
    if pred[mine]:
        kind = "float32" if isinstance(metric, Spearman) else "int64"
        metric.update(*(ops.tensor(numpy.array(x[mine], kind)) for x in (pred, target)))
    found |= metric.get_metric()
print(json.dumps(found))
if backend() == "torch":
    dist.destroy_process_group()
"""


@pytest.mark.skipif(fastprompt.backend() == "jittor", reason="fastNLP gathers nothing under jittor")
def test_processes_score_together(run_python, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def process(rank):
        return run_python(fastprompt.backend(), "-c", PROCESS, rank, port, tmp_path / "meeting", timeout=300)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(process, range(2)):
            # ranks 1 2 4 3 against 1 2 3 4: 1 - 6 * 2 / (4 * 15)
            assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx({"f1": 2 / 3, "spearman": 0.8})
