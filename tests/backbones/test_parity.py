"""Frameworks against the stock transformers model in float64: logits, gradients, updates, and training curves.

`make test` runs a slice, `make test-parity` the whole matrix.
"""

import itertools

from fastprompt.compare.budgets import UPDATE, compare_gradients, compare_logits, compare_losses, largest
from fastprompt.compare.measure import Job, write_batches, write_jobs
from fastprompt.data.readers.sst2 import load_reviews
from fastprompt.framework import BACKENDS
from fastprompt.pretrained.tokenizer import load_tokenizer

import numpy
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.once

METHODS = {
    "p-tuning-v2": {"method": "p-tuning-v2", "pre_seq_len": 5, "init_std": 0.5},
    "p-tuning-v2-projection": {"method": "p-tuning-v2", "pre_seq_len": 4, "prefix_projection": True, "init_std": 0.2},
    "p-tuning-v2-shifted": {"method": "p-tuning-v2", "pre_seq_len": 5, "init_std": 0.5, "shift_positions": True},
    "p-tuning-v2-layers": {"method": "p-tuning-v2", "pre_seq_len": 5, "init_std": 0.5, "prefix_layers": "last:2"},
    "p-tuning-lstm": {"method": "p-tuning", "num_virtual_tokens": 4},
    "p-tuning-mlp": {"method": "p-tuning", "num_virtual_tokens": 4, "encoder": "mlp"},
    "shallow-prefix": {"method": "shallow-prefix", "pre_seq_len": 4},
    "shallow-prefix-e2": {"method": "shallow-prefix", "pre_seq_len": 4, "pooling": "prompt", "train_head": False},
    "prompt-tuning": {"method": "prompt-tuning", "num_virtual_tokens": 4, "pooling": "mean"},
    "p-tuning-v2-finetune": {"method": "p-tuning-v2", "pre_seq_len": 5, "init_std": 0.5, "use_lm_finetune": True},
    "p-tuning-mlp-finetune": {
        "method": "p-tuning",
        "num_virtual_tokens": 4,
        "encoder": "mlp",
        "use_lm_finetune": True,
    },
    "fine-tuning": {"method": "fine-tuning"},
    "linear-probe": {"method": "linear-probe"},
    "bitfit": {"method": "bitfit"},
}
# of masked language models; the batches of "blanks" have four pseudo tokens, which all but p-tuning let lie
PLAIN = {"template": "[X] [MASK]", "verbalizer": None}
CLOZES = {
    "cloze-p-tuning": {"method": "p-tuning", "template": "[P][P] [X] [MASK] [P][P]"},
    "cloze-p-tuning-v2": {**METHODS["p-tuning-v2"], **PLAIN},
    "cloze-p-tuning-v2-shifted": {**METHODS["p-tuning-v2-shifted"], **PLAIN},
    "cloze-prompt-tuning": {**METHODS["prompt-tuning"], **PLAIN, "pooling": None},
    "cloze-verbalizer": {"method": "p-tuning-v2", **PLAIN, "verbalizer": {"bad": ["b"], "good": ["g", "h"]}},
    "cloze-p-tuning-finetune": {
        "method": "p-tuning",
        "template": "[P][P] [X] [MASK] [P][P]",
        "use_lm_finetune": True,
    },
    "cloze-fine-tuning": {"method": "fine-tuning", **PLAIN},
    "cloze-linear-probe": {"method": "linear-probe", **PLAIN},
}
TUNE_BACKBONE = ("fine-tuning", "p-tuning-v2-finetune", "p-tuning-mlp-finetune")
PROMPTS = [name for name in METHODS if name not in (*TUNE_BACKBONE, "linear-probe", "bitfit")]
# At 1e-2 a projection, and embeddings as small as a vocabulary's, are past their edge of stability: within 200 steps
# torch's own float32 leaves its float64 by 1 % and 0.2 %.
OWN_RATES = {
    **dict.fromkeys(TUNE_BACKBONE, 2e-5),
    "linear-probe": 1e-2,
    "bitfit": 1e-3,
    "p-tuning-v2-projection": 1e-3,
    "prompt-tuning": 1e-3,
}
FIRST = ("bert", "roberta", "distilbert")
RELATIVE = ("deberta", "deberta-v2", "deberta-v3")  # without absolute positions, which alone can be shifted
TINY = (*FIRST, "electra", "ernie", "albert", "modernbert", "mpnet", *RELATIVE)
# head -> its task, what it is given of its outputs, and what a batch of 4 texts of 12 tokens has beside them
HEADS = {
    "classes": ("sequence_classification", {}, lambda draw: {"labels": draw.integers(0, 2, 4)}),
    "labels": (
        "sequence_classification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        lambda draw: {"labels": draw.integers(0, 2, (4, 3)).astype("float32")},
    ),
    "number": (
        "sequence_classification",
        {"num_labels": 1},
        lambda draw: {"labels": draw.standard_normal(4).astype("float32")},
    ),
    "tokens": ("token_classification", {"num_labels": 3}, lambda draw: {"labels": some(draw.integers(0, 3, (4, 12)))}),
    "questions": (
        "question_answering",
        {},
        lambda draw: {name: draw.integers(0, 14, 4) for name in ("start_positions", "end_positions")},
    ),
    "choices": ("multiple_choice", {}, lambda draw: {"labels": draw.integers(0, 3, 4)}),
}
BLANKS = (
    "masked_lm",
    {},
    lambda draw: {
        "labels": draw.integers(0, 2, 4),
        "mask_positions": draw.integers(0, 3, 4),  # of texts that have three tokens at least
        "pseudo_tokens": numpy.array([[0, 1, 2, 3, 4] + [0] * 7, [2, 0, 4, 0, 1, 0, 3] + [0] * 5] * 2),
    },
)
# of encoder-decoders; T5 has one rate of dropout, which is 0 already
ANSWERS = (
    "seq2seq_lm",
    {"attention_probs_dropout_prob": None},
    lambda draw: {"labels": some(draw.integers(4, 60, (4, 6)))},
)
SEQ2SEQ = ("t5-mild", "flan-t5-mild", "mt5-mild", "bart-mild")
BOTH = ("p-tuning-v2", "fine-tuning")
OTHER_HEADS = [head for head in HEADS if head != "classes"]


def task_of(head):
    return {"blanks": BLANKS, "answers": ANSWERS}.get(head) or HEADS[head]


def some(labels):
    """Of every three labels one does not count."""
    return numpy.where(numpy.arange(labels.size).reshape(labels.shape) % 3, labels, -100)


@pytest.fixture(scope="session")
def batches(tmp_path_factory, minilm):
    """Padded batches: of random ids for small models, by head, of real sentences for MiniLM ("minilm")."""
    folder = tmp_path_factory.mktemp("batches")
    generator = numpy.random.default_rng(0)

    def random_batch(head):
        rows = (4, 3) if head == "choices" else (4,)
        # A label, or a question's answer, may lie on padding. Where ModernBERT's window of 4 tokens to either side
        # holds nothing else, the stock model reads nothing and ours the mean of what is hidden: no such window here.
        lengths = generator.integers(8 if head in ("tokens", "questions") else 3, 12, rows)
        mask = (numpy.arange(12) < lengths[..., None]).astype("int64")
        padding = numpy.arange(4).reshape(4, *[1] * len(rows)) % 2  # BERT's is 0, RoBERTa's 1
        ids = numpy.where(mask, generator.integers(5, 60 if head == "answers" else 200, (*rows, 12)), padding)
        return {"input_ids": ids, "attention_mask": mask, **task_of(head)[2](generator)}

    texts = load_reviews("train")
    rows = [row["input_ids"] for row in load_tokenizer(minilm)(texts.texts)]

    def real_batch(chosen):
        width = max(len(rows[index]) for index in chosen)
        ids = numpy.array([rows[index] + [0] * (width - len(rows[index])) for index in chosen])
        labels = numpy.array([texts.labels[index] for index in chosen])
        return {"input_ids": ids, "attention_mask": (ids > 0).astype("int64"), "labels": labels}

    # The first is measured: 6 of 8 of one class; where classes balance, the last layers' bias gradients cancel down
    # to float32's noise. The others are trained on, each once: a loss near 0 has no relative difference to speak of.
    by_label = [[index for index, label in enumerate(texts.labels) if label == k] for k in (0, 1)]
    real = [real_batch(by_label[0][:2] + by_label[1][:6])]
    real += [real_batch(range(start, start + 3)) for start in range(0, 600, 3)]
    for head in (*HEADS, "blanks", "answers"):
        write_batches([random_batch(head) for _ in range(200)], folder / f"{head}.safetensors")
    write_batches(real, folder / "minilm.safetensors")
    return {name: folder / f"{name}.safetensors" for name in (*HEADS, "blanks", "answers", "minilm")}


@pytest.fixture
def measured(tmp_path, run_python, tiny, seq2seq, minilm, batches):
    """measured(cases, steps): {(model, method[, head]): {"reference": arrays, "torch": ..., "paddle": ..., ...}}"""

    def run(cases, steps=lambda method: 0, backends=BACKENDS):
        found = {case: {} for case in cases}
        for who in ("reference", *backends):
            jobs = []
            for model, method, *rest in cases:
                (head,) = rest or ["classes"]
                task, outputs, _ = task_of(head)
                folder = minilm if model == "minilm" else {**tiny, **seq2seq}[model]
                rate = 1e-2 if steps(method) == 0 else OWN_RATES.get(method, 1e-2)
                jobs.append(
                    Job(
                        model=str(folder),
                        output=str(tmp_path / f"{who}-{model}-{method}-{head}.safetensors"),
                        batches=str(batches["minilm" if model == "minilm" else head]),
                        task=task,
                        method=CLOZES[method] if head == "blanks" else METHODS[method],
                        learning_rate=rate,
                        steps=steps(method),
                        float64=who == "reference",
                        options=outputs,
                    )
                )
            write_jobs(jobs, tmp_path / "jobs.json")
            run_python(
                "torch" if who == "reference" else who, "-m", "fastprompt.compare.measure", tmp_path / "jobs.json"
            )
            for case, job in zip(cases, jobs, strict=True):
                found[case][who] = load_file(job.output)
        return found

    return run


def check_measurements(found):
    broken = []
    for case, results in found.items():
        reference = results.pop("reference")
        for who, arrays in results.items():
            differences = [compare_logits(arrays, reference), *compare_gradients(arrays, reference)]
            broken += [(*case, who, *d) for d in differences if not d.holds]
    assert not broken, "\n".join(map(str, broken))


def check_losses(found):
    broken = []
    for case, results in found.items():
        reference = results.pop("reference")
        for who, arrays in results.items():
            difference = compare_losses(arrays, reference)
            if not difference.holds:
                broken.append((*case, who, difference.value))
    assert not broken, "\n".join(map(str, broken))


def head_takes(head, method):
    """Whether a head that reads every token need not choose what to pool."""
    return head not in ("tokens", "questions") or "pooling" not in METHODS[method]


def can_shift(model, method):
    """Whether a method that shifts positions finds some in a model."""
    return model.removesuffix("-mlm") not in RELATIVE or not method.endswith("shifted")


def steps_of(method):
    return 200 if method in PROMPTS else 20


def test_logits_and_gradients_agree_with_the_stock_model(measured):
    real = [("minilm", name) for name in METHODS if name not in TUNE_BACKBONE]
    others = itertools.product(sorted({*TINY} - {*FIRST}), ["p-tuning-v2", "p-tuning-v2-shifted", "fine-tuning"])
    others = [case for case in others if can_shift(*case)]
    check_measurements(measured([*itertools.product(FIRST, METHODS), *others, *real]))


def test_two_hundred_steps_of_a_prompt_stay_together(measured):
    cases = [("minilm", "p-tuning-v2"), ("bert", "p-tuning-v2-finetune"), *itertools.product(FIRST, ["fine-tuning"])]
    check_losses(measured(cases, steps_of))


def test_every_head_agrees_with_the_stock_model(measured):
    cases = itertools.product(TINY, BOTH, ["tokens", "questions", "choices"])
    check_measurements(measured([*cases, *itertools.product(["bert"], BOTH, ["labels", "number"])]))


def test_encoder_decoders_agree_with_the_stock_model(measured):
    every = itertools.product(SEQ2SEQ, ["p-tuning-v2", "fine-tuning"], ["answers"])
    others = itertools.product(["t5-mild"], ["p-tuning-v2-layers", "p-tuning-mlp", "shallow-prefix"], ["answers"])
    check_measurements(measured([*every, *others]))


def test_encoder_decoders_train_alike(measured):
    check_losses(measured([("t5-mild", "p-tuning-v2", "answers")], lambda method: 50))


def test_clozes_agree_with_the_stock_model(measured):
    first = itertools.product([f"{name}-mlm" for name in FIRST], ["cloze-p-tuning", "cloze-p-tuning-v2"], ["blanks"])
    others = itertools.product(["bert-mlm"], CLOZES, ["blanks"])
    check_measurements(measured(dict.fromkeys([*first, *others])))


def test_a_clozes_steps_stay_together(measured):
    cases = itertools.product(["bert-mlm", "roberta-mlm"], ["cloze-p-tuning", "cloze-p-tuning-v2"], ["blanks"])
    check_losses(measured(list(cases), lambda method: 20))


@pytest.mark.matrix
@pytest.mark.parametrize("family", TINY)
def test_every_familys_clozes_agree(measured, family):
    check_measurements(measured([(f"{family}-mlm", name, "blanks") for name in CLOZES if can_shift(family, name)]))


@pytest.mark.matrix
@pytest.mark.parametrize("family", SEQ2SEQ)
def test_every_encoder_decoder_agrees_and_trains_alike(measured, family):
    methods = (
        "p-tuning-v2",
        "p-tuning-v2-projection",
        "p-tuning-mlp",
        "p-tuning-lstm",
        "shallow-prefix",
        "fine-tuning",
    )
    check_measurements(measured([(family, method, "answers") for method in methods]))
    check_losses(measured([(family, method, "answers") for method in ("p-tuning-v2", "fine-tuning")], steps_of))


@pytest.mark.matrix
@pytest.mark.parametrize("head", OTHER_HEADS)
def test_every_method_agrees_on_every_head(measured, head):
    cases = [(model, name, head) for model in TINY for name in METHODS if head_takes(head, name)]
    check_measurements(measured([case for case in cases if can_shift(*case[:2])]))


@pytest.mark.matrix
@pytest.mark.parametrize("head", OTHER_HEADS)
def test_every_head_trains_alike(measured, head):
    check_losses(measured(list(itertools.product(TINY, BOTH, [head])), steps_of))


@pytest.mark.matrix
@pytest.mark.parametrize("model", [*TINY, "minilm"])
def test_every_method_agrees_on_every_model(measured, model):
    check_measurements(measured([(model, name) for name in METHODS if can_shift(model, name)]))


@pytest.mark.matrix
@pytest.mark.parametrize("model", [*TINY, "minilm"])
def test_every_method_trains_alike_on_every_model(measured, model):
    check_losses(measured([(model, name) for name in METHODS if can_shift(model, name)], steps_of))


def test_one_step_from_the_same_gradients_is_the_same_step(run_python, tmp_path):
    generator = numpy.random.default_rng(0)
    start = generator.standard_normal((7, 5)).astype("float32")
    scales = 10.0 ** numpy.arange(-8, 2)[:, None, None]  # down to where epsilon rules
    numpy.savez(
        tmp_path / "in.npz", start=start, grads=(generator.standard_normal((10, 7, 5)) * scales).astype("float32")
    )
    code = (
        "import sys, numpy\n"
        "from fastprompt.framework import nn, ops, optim\n"
        "data = numpy.load(sys.argv[1])\n"
        "layer = nn.Embedding(7, 5)\n"
        "out = []\n"
        "for grad in data['grads']:\n"
        "    nn.set_value(layer.weight, data['start'])\n"
        "    optimizer = optim.AdamW([layer.weight], lr=1e-2, weight_decay=0.1)\n"
        "    optim.step_with(optimizer, [layer.weight], [grad])\n"
        "    out.append(ops.to_numpy(layer.weight))\n"
        "numpy.save(sys.argv[2], numpy.stack(out))\n"
    )
    steps = {}
    for backend in BACKENDS:
        run_python(backend, "-c", code, tmp_path / "in.npz", tmp_path / f"{backend}.npy")
        steps[backend] = numpy.load(tmp_path / f"{backend}.npy")
    assert largest(steps["paddle"], steps["torch"]) <= UPDATE
    assert largest(steps["jittor"], steps["torch"]) <= UPDATE
    assert numpy.abs(steps["torch"] - start).max() > 5e-3
