"""What calling a model returns behaves as transformers' ModelOutput does, so that transformers' Trainer takes it."""

import copy
import pickle

import fastprompt as fp
from fastprompt.framework import backend, ops
from fastprompt.models.outputs import ModelOutput

import numpy
import pytest

torch_only = pytest.mark.skipif(backend() != "torch", reason="transformers' Trainer is torch's")
IDS = numpy.array([[2, 7, 9, 3], [2, 8, 3, 0]])


@pytest.fixture(scope="module")
def output(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    batch = {"input_ids": IDS, "attention_mask": (IDS > 0).astype("int64"), "labels": numpy.array([0, 1])}
    return model(**{name: ops.tensor(array) for name, array in batch.items()})


def test_values_are_attributes_keys_and_items(output):
    assert output["loss"] is output.loss is output[0]
    assert output["logits"] is output.logits is output[1] is output[-1]
    assert output.hidden_states is None
    assert (list(output), "hidden_states" in output, len(output)) == (["loss", "logits"], False, 2)
    assert output[1:] == (output.logits,)
    loss, logits = output.to_tuple()
    assert (loss, logits) == (output.loss, output.logits) or loss is output.loss
    with pytest.raises(AttributeError, match="ModelOutput has no attribute 'scores'; it has loss, logits, hidden"):
        output.scores  # noqa: B018
    with pytest.raises(KeyError):
        output["hidden_states"]


def test_what_there_is_nothing_for_has_no_place(tiny):
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    output = model(input_ids=ops.tensor(IDS), output_hidden_states=True)
    assert output.loss is None
    assert output[0] is output.logits
    assert list(output) == ["logits", "hidden_states"]
    assert len(output.hidden_states) == 4


@pytest.mark.once
def test_libraries_can_make_it_again_copy_it_and_pickle_it():
    made = ModelOutput(1, 2)
    for again in (ModelOutput(dict(made)), type(made)(made), copy.copy(made), copy.deepcopy(made)):
        assert (type(again), again, again.logits) == (ModelOutput, made, 2)
    assert pickle.loads(pickle.dumps(made)).loss == 1
    made.loss = 5
    assert made["loss"] == made[0] == 5


def test_a_readers_output_has_the_halves_of_its_logits(tiny):
    output = fp.PromptForQuestionAnswering.from_pretrained(tiny["bert"])(input_ids=ops.tensor(IDS))
    assert tuple(output.start_logits.shape) == tuple(output.end_logits.shape) == (2, 4)
    with pytest.raises(AttributeError, match="SpanOutput has no attribute 'scores'"):
        output.scores  # noqa: B018


def trainer(tmp_path, model, rows, collator, **options):
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=2,
        logging_steps=1,
        num_train_epochs=2,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    data = Dataset.from_list(rows)
    options = {"train_dataset": data, "eval_dataset": data, "data_collator": collator, **options}
    return Trainer(model=model, args=arguments, **options)


@torch_only
@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_transformers_trainer_tunes_a_causal_models_prompt(worded, tmp_path, capsys, encoder):
    """P-Tuning on a BLOOM: the model is ours, and all around it is transformers' own."""
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

    folder = worded("bloom")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), unk_token="<unk>", pad_token="<unk>", eos_token="w98"
    )
    rows = []
    for place in range(6):
        asked, answer = tokenizer(f"w{place} w9 w10")["input_ids"], tokenizer("w11 w12" + " w98")["input_ids"]
        labels = [-100] * len(asked) + answer
        rows.append({"input_ids": asked + answer, "attention_mask": [1] * len(labels), "labels": labels})
    model = fp.PromptForCausalLM.from_pretrained(folder, fp.PTuningConfig(num_virtual_tokens=3, encoder=encoder))
    model.print_trainable_parameters()
    tuned, total = model.count_parameters()
    assert f"trainable params: {tuned:,} || all params: {total:,} || trainable%: " in capsys.readouterr().out
    before = {name: ops.to_numpy(p) for name, p in model.named_tensors().items()}
    run = trainer(tmp_path / "run", model, rows, DataCollatorForSeq2Seq(tokenizer=tokenizer, padding=True))
    first = run.evaluate()["eval_loss"]
    run.train()
    assert run.evaluate()["eval_loss"] < first
    changed = {name for name, p in model.named_tensors().items() if (ops.to_numpy(p) != before[name]).any()}
    assert changed
    assert changed <= set(model.tuned_parameters())
    model.save_pretrained(tmp_path / "prompt")
    again = fp.PromptForCausalLM.from_pretrained(tmp_path / "prompt")
    ids = ops.tensor(numpy.array([rows[0]["input_ids"]]))
    model.eval()
    again.eval()
    assert (ops.to_numpy(again(ids).logits) == ops.to_numpy(model(ids).logits)).all()


@torch_only
def test_transformers_trainer_evaluates_a_classifier_with_a_metric(tiny, tmp_path):
    from transformers import AutoTokenizer, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    rows = [{**tokenizer(text), "labels": label} for text, label in (("a b", 0), ("c", 1), ("d e f", 0), ("g", 1))]
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3))

    def score(found):
        return {"accuracy": float((found.predictions.argmax(axis=-1) == found.label_ids).mean())}

    run = trainer(tmp_path, model, rows, DataCollatorWithPadding(tokenizer), compute_metrics=score)
    run.train()
    scores = run.evaluate()
    assert {"eval_loss", "eval_accuracy"} <= set(scores)
    assert run.predict(run.eval_dataset).predictions.shape == (4, 2)
