"""What belongs to one forward pass travels with it: no other pass changes its gradients, and none stays on a module."""

import copy

import fastprompt as fp
from fastprompt.framework import backend, nn, ops, runtime

import numpy
import pytest

SEQ2SEQ = ["t5", "bart"]
CAUSAL = ["gpt2", "qwen3", "bloom", "mistral", "gemma"]
PORTABLE = ["t5", "bart", "bert", "distilbert", "albert", "mpnet", "deberta", "deberta-v2", *CAUSAL]
STOCK = ["bert", "albert", "modernbert", "deberta", "deberta-v3", "mpnet", *CAUSAL, *SEQ2SEQ]
KINDS = [*((name, True) for name in PORTABLE), *((name, False) for name in STOCK if backend() == "torch")]
CHECKPOINTED = [kind for kind in KINDS if kind != ("albert", False)]  # transformers' has no gradient checkpointing


@pytest.fixture(scope="module")
def folders(tiny, causal, seq2seq):
    """Small random checkpoints by family."""
    return {**tiny, **causal, **{name: seq2seq[f"{name}-mild"] for name in SEQ2SEQ}}


def model_of(folders, kind, dropout=0.0, **options):
    name, portable = kind
    task = fp.PromptForSeq2SeqLM if name in SEQ2SEQ else fp.PromptForSequenceClassification
    config = fp.PTuningV2Config(pre_seq_len=4, init_std=1.0, prefix_dropout=dropout)
    if name not in SEQ2SEQ:  # T5 has one rate for all
        options["attention_probs_dropout_prob"] = 0.0
    return task.from_pretrained(folders[name], config, portable=portable, **options)


def batch(name, rows, width, seed=0):
    """Texts of unequal lengths and their labels."""
    draw = numpy.random.default_rng(seed)
    mask = (numpy.arange(width) < draw.integers(2, width + 1, (rows, 1))).astype("int64")
    labels = draw.integers(5, 60, (rows, width - 1)) if name in SEQ2SEQ else numpy.arange(rows) % 2
    arrays = {"input_ids": numpy.where(mask, draw.integers(5, 60, (rows, width)), 1), "attention_mask": mask}
    return {key: ops.tensor(array) for key, array in (arrays | {"labels": labels}).items()}


def two_passes(model, name):
    return model(**batch(name, 2, 7)).loss + model(**batch(name, 2, 7, seed=1)).loss


def two_shapes(model, name):
    return model(**batch(name, 2, 7)).loss + model(**batch(name, 3, 4)).loss


def an_evaluation_in_between(model, name):
    loss = model(**batch(name, 2, 7)).loss
    model.eval()
    with ops.no_grad():
        model(**batch(name, 2, 7, seed=1))
    model.train()
    return loss


def gradients(model, loss_of, name):
    model.train()
    runtime.seed(3)  # of the prefix's dropout
    return ops.gradients(loss_of(model, name), model.trainable_parameters())


@pytest.mark.parametrize("loss_of", [two_passes, two_shapes, an_evaluation_in_between])
@pytest.mark.parametrize("kind", CHECKPOINTED, ids=str)
def test_gradient_checkpointing_gives_each_pass_its_own_gradients(folders, kind, loss_of):
    found = [
        gradients(model_of(folders, kind, dropout=0.3, gradient_checkpointing=saving), loss_of, kind[0])
        for saving in (False, True)
    ]
    for plain, saved in zip(*found, strict=True):
        assert numpy.abs(plain).max() > 0
        numpy.testing.assert_allclose(saved, plain, rtol=0, atol=1e-5 * numpy.abs(plain).max())


def logits(model, name):
    return ops.to_numpy(model(**batch(name, 2, 7)).logits)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_model_can_be_copied_after_a_pass_and_the_copy_is_its_own(folders, kind):
    saving = kind in CHECKPOINTED
    model = model_of(folders, kind, gradient_checkpointing=saving)
    model.train()
    loss = two_shapes(model, kind[0])  # alive: the model could be in the middle of a step
    copied = copy.deepcopy(model)
    ours, others = (gradients(each, two_passes, kind[0]) for each in (model, copied))
    for one, other in zip(ours, others, strict=True):
        numpy.testing.assert_array_equal(other, one)
    expected = logits(model, kind[0])
    for parameter in copied.trainable_parameters():
        nn.set_value(parameter, ops.to_numpy(parameter) * 0)
    assert numpy.abs(logits(copied, kind[0]) - expected).max() > 1e-4
    assert (logits(model, kind[0]) == expected).all()
    assert numpy.isfinite(ops.to_numpy(loss)).all()


def tensors_of(holder, seen):
    """How many tensors hang on a module, by whatever attribute."""
    if id(holder) in seen:
        return 0
    seen[id(holder)] = holder
    if hasattr(holder, "shape") and hasattr(holder, "dtype"):
        return 1
    if isinstance(holder, dict):
        inside = holder.values()
    elif isinstance(holder, (list, tuple)):
        inside = holder
    elif isinstance(holder, nn.Module) or type(holder).__module__.startswith(
        ("torch.nn", "transformers", "fastprompt")
    ):
        inside = getattr(holder, "__dict__", {}).values()
    else:
        return 0
    return sum(tensors_of(item, seen) for item in list(inside))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nothing_of_a_pass_stays_on_a_module(folders, kind):
    model = model_of(folders, kind)
    model.train()
    before = tensors_of(model, {})
    assert before > 10
    model(**batch(kind[0], 2, 7))
    assert tensors_of(model, {}) == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] in CAUSAL], ids=str)
def test_nothing_that_is_generated_stays_on_a_module(folders, kind):
    config = fp.PTuningV2Config(pre_seq_len=4)
    model = fp.PromptForCausalLM.from_pretrained(folders[kind[0]], config, portable=kind[1])
    before = tensors_of(model, {})
    model.generate(ops.tensor(numpy.array([[5, 6, 7]])), max_new_tokens=2)
    assert tensors_of(model, {}) == before
