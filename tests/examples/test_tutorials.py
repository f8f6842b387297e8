"""fastNLP's own tutorials with prompt models in them: T0 to T5's trainers, loaders, metrics and callbacks, and E2."""

import ast
from pathlib import Path

import fastprompt as fp
from fastprompt.data.examples import LabelledTexts
from fastprompt.framework import backend, ops

import fastNLP
import numpy
import pytest
from fastNLP import Accuracy, DataSet, Evaluator, Event, Trainer, Vocabulary, prepare_dataloader
from fastNLP.io import DataBundle

torch_only = pytest.mark.skipif(backend() != "torch", reason="torch's own")
not_jittor = pytest.mark.skipif(backend() == "jittor", reason="fastNLP's driver and loader for Jittor cannot do it")
TEXTS = ["a b c", "d", "e f", "g h i j", "k l", "m n o"] * 4
NAMES = ["negative", "positive"]
ROWS = {"SentenceId": list(range(24)), "Sentence": TEXTS, "Sentiment": [NAMES[place % 2] for place in range(24)]}


def make_model(folder, **options):
    options = {"num_labels": 2, **options}
    return fp.PromptForSequenceClassification.from_pretrained(folder, fp.PTuningV2Config(pre_seq_len=3), **options)


def make_bundle(folder, label="labels"):
    """T1 to T3: fields, vocabulary, tokenizer and padding, by fastNLP's own means."""
    tokenizer, data = fp.load_tokenizer(folder), DataSet(ROWS)
    data.apply_field_more(lambda text: tokenizer([text])[0], field_name="Sentence", progress_bar=None)
    data.apply(lambda row: [1] * len(row["input_ids"]), new_field_name="attention_mask", progress_bar=None)
    vocabulary = Vocabulary(padding=None, unknown=None).from_dataset(data, field_name="Sentiment")
    vocabulary.index_dataset(data, field_name="Sentiment", new_field_name=label)
    train, dev = data.split(ratio=2 / 3, shuffle=False)
    bundle = DataBundle(datasets={"train": train, "dev": dev}, vocabs={"Sentiment": vocabulary})
    bundle.set_pad("input_ids", pad_val=tokenizer.pad_token_id)
    bundle.set_ignore("SentenceId", "Sentence", "Sentiment")
    return bundle


@pytest.fixture
def loaders(tiny):
    """T3: {"train": two batches of 8, "dev": one}"""
    return prepare_dataloader(make_bundle(tiny["bert"]), batch_size=8)


def make_trainer(model, loaders, **options):
    defaults = {
        "driver": backend(),
        "device": "cpu",
        "n_epochs": 1,
        "optimizers": fp.AdamW(model.trainable_parameters(), lr=1e-2),
        "train_dataloader": loaders["train"],
        "progress_bar": None,
    }
    return Trainer(model=model, **{**defaults, **options})


def evaluated(loaders, **metrics):
    return {"evaluate_dataloaders": loaders["dev"], "metrics": metrics or {"acc": Accuracy()}}


def tuned(model):
    return {name: ops.to_numpy(value).copy() for name, value in model.tuned_parameters().items()}


def differing(before, after):
    return {name for name, value in before.items() if (after[name] != value).any()}


@pytest.mark.once
def test_tutorial_e2_runs_with_its_model_swapped(tiny, run_python):
    done = run_python("torch", Path(__file__).with_name("tutorial_e2.py"), tiny["bert"])
    found = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert set(found) == {"acc#acc"}
    assert 48 * found["acc#acc"] == pytest.approx(round(48 * found["acc#acc"]), abs=1e-3)


def test_t0_an_evaluator_of_ones_own_and_the_trainers_agree(tiny, loaders):
    model = make_model(tiny["bert"])
    before = tuned(model)
    trainer = make_trainer(model, loaders, **evaluated(loaders), n_epochs=2)
    trainer.run(num_train_batch_per_epoch=1, num_eval_batch_per_dl=1, num_eval_sanity_batch=1)
    assert trainer.global_forward_batches == 2
    assert differing(before, tuned(model)) == set(before)
    own = Evaluator(
        **{"model": model, "dataloaders": loaders["dev"], "metrics": {"acc": Accuracy()}},
        **{"driver": trainer.driver, "device": None, "progress_bar": None},
    )
    found = own.run()
    assert found == trainer.evaluator.run()
    assert own.run(num_eval_batch_per_dl=1) == found  # the only batch


def rows_of(batch):
    """[(label, token ids, token types)] of the rows, without their padding."""
    columns = [ops.to_numpy(batch[name]).tolist() for name in ("labels", "input_ids", "token_type_ids")]
    lengths = ops.to_numpy(batch["attention_mask"]).sum(axis=1).tolist()
    return [
        (label, ids[:n], types[:n]) for *row, n in zip(*columns, lengths, strict=True) for label, ids, types in [row]
    ]


def test_t1_and_t2_data_sets_before_and_after_the_tokenizer_give_the_same_batches(tiny):
    bundle = make_bundle(tiny["bert"])
    (theirs,) = list(prepare_dataloader(bundle.get_dataset("dev"), batch_size=8))
    raw = bundle.get_dataset("dev")
    raw.rename_field("Sentence", "sentence").rename_field("Sentiment", "label")
    raw.delete_field("input_ids")
    raw.drop(lambda row: row["SentenceId"] % 8 > 4)
    names = list(bundle.get_vocab("Sentiment").word2idx)
    assert names == NAMES
    model = make_model(tiny["bert"], label_names=names)
    raw.delete_field("labels")
    (ours,) = list(fp.make_dataloader(raw, fp.load_tokenizer(tiny["bert"]), batch_size=8, model=model))
    remaining = [place for place in range(8) if (16 + place) % 8 <= 4]
    assert sorted(rows_of(ours)) == sorted(rows_of(theirs)[place] for place in remaining)


def test_t3_several_loaders_are_evaluated_by_their_names(tiny):
    folder = tiny["bert"]
    bundle = make_bundle(folder)
    bundle.set_dataset(bundle.get_dataset("dev"), "test")
    loaders = prepare_dataloader(bundle, batch_size=8)
    trainer = make_trainer(
        make_model(folder),
        loaders,
        evaluate_dataloaders={"dev": loaders["dev"], "test": loaders["test"]},
        metrics={"acc": Accuracy()},
    )
    trainer.run()
    found = trainer.evaluator.run()
    assert found["acc#acc#dev"] == found["acc#acc#test"]


def test_t3_a_collate_function_of_ones_own(tiny):
    bundle = make_bundle(tiny["bert"])
    seen = []

    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        seen.append(width)
        ids = numpy.array([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
        columns = {"input_ids": ids, "attention_mask": (ids > 0).astype("int64")}
        columns["labels"] = numpy.array([row["labels"] for row in rows])
        return {name: ops.tensor(column) for name, column in columns.items()}

    data = bundle.get_dataset("train")
    loader = prepare_dataloader([dict(row.items()) for row in data], batch_size=8, collate_fn=collate)
    make_trainer(make_model(tiny["bert"]), {"train": loader}).run()
    assert len(seen) == 2


def test_t3_a_data_set_of_datasets_by_way_of_a_frame(tiny):
    table = pytest.importorskip("datasets").Dataset.from_dict({"sentence": TEXTS, "label": [0, 1] * 12})
    data = DataSet.from_pandas(table.to_pandas())[:16]
    loader = fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]), batch_size=8)
    make_trainer(make_model(tiny["bert"]), {"train": loader}).run()
    given = fp.make_dataloader(LabelledTexts(TEXTS[:16], [0, 1] * 8), fp.load_tokenizer(tiny["bert"]), batch_size=8)
    for one, other in zip(loader, given, strict=True):
        assert all((ops.to_numpy(one[name]) == ops.to_numpy(other[name])).all() for name in one)


def test_t4_a_tagger_is_scored_by_spans_of_a_vocabulary(tiny):
    tags = Vocabulary(padding=None, unknown=None).add_word_lst(["O", "B-PER", "I-PER"])
    model = fp.PromptForTokenClassification.from_pretrained(
        tiny["bert"], fp.PTuningV2Config(pre_seq_len=3), label_names=list(tags.word2idx)
    )
    from fastprompt.data.examples import TaggedTokens

    examples = TaggedTokens([["a", "b", "c"], ["d", "e"]] * 4, [[1, 2, 0], [0, 1]] * 4, model.label_names)
    loader = fp.make_dataloader(examples, fp.load_tokenizer(tiny["bert"]), batch_size=4, model=model)
    metrics = {
        "span": fastNLP.SpanFPreRecMetric(tag_vocab=tags, only_gross=False),
        "class": fastNLP.ClassifyFPreRecMetric(tag_vocab=tags, ignore_labels=["O"], f_type="macro"),
        "acc": Accuracy(),
    }
    trainer = make_trainer(model, {"train": loader}, n_epochs=15, evaluate_dataloaders=loader, metrics=metrics)
    trainer.run()
    found = trainer.evaluator.run()
    assert found["acc#acc"] > 0.9
    assert 0 < found["f#span"] <= 1
    assert {"f-per#span", "f#class", "pre#class", "rec#class"} <= set(found)


class Share(fastNLP.Metric):
    """T5's metric: counts of its own, and a name of its own."""

    def __init__(self):
        super().__init__()
        self.register_element("right", 0, aggregate_method="sum")
        self.register_element("total", 0, aggregate_method="sum")

    def update(self, pred, target):
        pred, target = self.tensor2numpy(pred), self.tensor2numpy(target)
        self.right += int((pred == target).sum())
        self.total += len(target)

    def get_metric(self):
        return {"prefix": self.right.get_scalar() / self.total.get_scalar()}


def test_t5_metrics_of_ones_own_and_fastnlps_agree(tiny, loaders):
    model = make_model(tiny["bert"])
    metrics = {"suffix": Share(), "acc": Accuracy(), "f": fastNLP.ClassifyFPreRecMetric(only_gross=False)}
    found = make_trainer(model, loaders, **evaluated(loaders, **metrics)).evaluator.run()
    assert found["prefix#suffix"] == pytest.approx(found["acc#acc"], abs=1e-6)
    assert {"f#f", "f-0#f", "f-1#f"} & set(found)


@torch_only
def test_t5_a_metric_that_counts_by_the_frameworks_tensors_and_one_of_torchmetrics(tiny, loaders):
    class Counted(fastNLP.Metric):
        def __init__(self):
            super().__init__()
            self.right = self.total = 0

        def update(self, pred, target):
            self.total += target.size(0)
            self.right += target.eq(pred).sum().item()

        def get_metric(self, reset=True):
            return {"prefix": self.right / self.total}

    metrics = {"own": Counted(), "acc": Accuracy()}
    torchmetrics = pytest.importorskip("torchmetrics")
    model = make_model(tiny["bert"])
    found = make_trainer(model, loaders, **evaluated(loaders, **metrics)).evaluator.run()
    assert found["prefix#own"] == pytest.approx(found["acc#acc"], abs=1e-6)
    theirs = {"acc": torchmetrics.Accuracy("multiclass", num_classes=2)}
    options = evaluated(loaders, **theirs) | {"evaluate_output_mapping": {"pred": "preds"}}
    mapped = make_trainer(model, loaders, **options).evaluator.run()
    assert mapped["acc"].item() == pytest.approx(found["acc#acc"], abs=1e-6)


@pytest.mark.parametrize("how", ["dict", "function"])
def test_t5_names_of_batches_and_outputs_are_mapped(tiny, how):
    loaders = prepare_dataloader(make_bundle(tiny["bert"], label="target"), batch_size=8)
    mapping = {"target": "labels"} if how == "dict" else lambda batch: {**batch, "labels": batch["target"]}
    seen = []

    def halve(outputs):
        seen.append(sorted(outputs))
        return {**outputs, "loss": outputs["loss"] / 2}

    model = make_model(tiny["bert"])
    options = {**evaluated(loaders, suffix=Share()), "input_mapping": mapping, "output_mapping": halve}
    trainer = make_trainer(model, loaders, **options)
    trainer.run(num_eval_sanity_batch=0)
    assert seen == [["loss"], ["loss"], ["loss", "pred", "target"]]
    assert set(trainer.evaluator.run()) == {"prefix#suffix"}


def test_t5_steps_of_ones_own_are_called_by_name_or_given_as_functions(tiny, loaders):
    class Doubled(fp.PromptForSequenceClassification):
        def twice(self, input_ids, attention_mask, labels):
            return {"loss": 2 * self.train_step(input_ids, attention_mask, labels)["loss"]}

        def ranked(self, input_ids, attention_mask, labels):
            return {"pred": self(input_ids, attention_mask).logits, "target": labels}

    model = Doubled.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3), num_labels=2)
    losses = []

    @Trainer.on(Event.on_before_backward(), marker="doubled")
    def keep(trainer, outputs):
        losses.append(float(ops.to_numpy(outputs["loss"])))

    options = {**evaluated(loaders), "evaluate_fn": "ranked", "marker": "doubled"}
    named = make_trainer(model, loaders, train_fn="twice", **options)
    wanted = Evaluator(
        **{"model": model, "dataloaders": loaders["dev"], "metrics": {"acc": Accuracy()}, "driver": backend()},
        **{"device": "cpu", "progress_bar": None},
    ).run()
    assert named.evaluator.run() == wanted
    with_function = make_trainer(model, loaders, batch_step_fn=one_step, **options)
    try:
        with_function.run(num_eval_sanity_batch=0, num_train_batch_per_epoch=1)
        named.run(num_eval_sanity_batch=0, num_train_batch_per_epoch=1)
    finally:
        Trainer._custom_callbacks.clear()
    assert len(losses) == 2


def one_step(trainer, batch):
    """T5's batch_step_fn: a step by the trainer's own parts."""
    outputs = trainer.train_step(batch)
    trainer.backward(outputs)
    trainer.step()
    trainer.zero_grad()


def test_t5_what_calling_a_model_returns_is_scored_by_the_metric_for_it(tiny, loaders):
    from fastNLP.core.metrics.accuracy import TransformersAccuracy

    model = make_model(tiny["bert"])
    options = {"model": model, "dataloaders": loaders["dev"], "driver": backend(), "device": "cpu"}
    options |= {"progress_bar": None, "verbose": 0}
    wanted = Evaluator(**options, metrics={"acc": Accuracy()}).run()
    assert Evaluator(**options, metrics={"acc": TransformersAccuracy()}, evaluate_fn="forward").run() == wanted
    make_trainer(model, loaders, train_fn="forward").run()


@not_jittor
def test_a_batch_that_is_not_taken_apart_goes_to_a_step_of_ones_own(tiny, loaders):
    class Whole(fp.PromptForSequenceClassification):
        def train_step(self, batch):
            return super().train_step(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})

        def evaluate_step(self, batch):
            return super().evaluate_step(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})

    model = Whole.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3), num_labels=2)
    before = tuned(model)
    trainer = make_trainer(model, loaders, **evaluated(loaders), model_wo_auto_param_call=True)
    trainer.run()
    assert differing(before, tuned(model)) == set(before)
    assert set(trainer.evaluator.run()) == {"acc#acc"}


def test_accumulated_batches_make_one_step(tiny, loaders):
    steps = []

    class Steps(fastNLP.Callback):
        def on_after_optimizers_step(self, trainer, optimizers):
            steps.append(trainer.global_forward_batches)

    model = make_model(tiny["bert"])
    make_trainer(model, loaders, n_epochs=2, accumulation_steps=2, callbacks=Steps()).run()
    assert len(steps) == 2


@pytest.mark.parametrize("every", [1, -1, lambda trainer: trainer.global_forward_batches == 3])
def test_evaluations_come_when_asked_for(tiny, loaders, every):
    seen = []

    class Note(fastNLP.Callback):
        def on_evaluate_end(self, trainer, results):
            seen.append(trainer.global_forward_batches)

    trainer = make_trainer(
        make_model(tiny["bert"]), loaders, **evaluated(loaders), n_epochs=2, evaluate_every=every, callbacks=Note()
    )
    trainer.run(num_eval_sanity_batch=0)
    assert seen == ({1: [1, 2, 3, 4], -1: [2, 4]}[every] if isinstance(every, int) else [3])


@pytest.mark.parametrize("saved", ["whole", "prompt"])
def test_callbacks_keep_the_best_and_the_last_and_stop_early(tiny, loaders, tmp_path, saved):
    class Falling(fastNLP.Metric):
        def __init__(self):
            super().__init__()
            self.score = 1.0

        def update(self, pred, target): ...

        def get_metric(self):
            self.score /= 2
            return {"score": self.score}

    states = []

    class Note(fastNLP.Callback):
        def on_evaluate_end(self, trainer, results):
            states.append(tuned(trainer.model))

    model = make_model(tiny["bert"])
    prompt = {"model_save_fn": model.save_pretrained} if saved == "prompt" else {}
    load = {"model_load_fn": model.load_prompt} if saved == "prompt" else {}
    callbacks = [
        Note(),
        fastNLP.CheckpointCallback(tmp_path / "all", every_n_epochs=1, last=True, **prompt),
        fastNLP.LoadBestModelCallback(save_folder=str(tmp_path / "best"), **prompt, **load),
        fastNLP.EarlyStopCallback(patience=2),
    ]
    trainer = make_trainer(
        model, loaders, **evaluated(loaders, own=Falling()), n_epochs=9, monitor="score#own", callbacks=callbacks
    )
    trainer.run(num_eval_sanity_batch=0)
    assert len(states) == 3
    assert not differing(states[0], tuned(model))
    other = make_model(tiny["bert"])
    (last,) = (tmp_path / "all").rglob("model-last")
    if saved == "prompt":
        other = fp.PromptForSequenceClassification.from_pretrained(last)
    else:
        make_trainer(other, loaders).load_model(last)
    assert not differing(states[-1], tuned(other))


@not_jittor
def test_a_trainer_goes_on_from_its_checkpoint(tiny, loaders, tmp_path):
    exact = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    whole, half, again = (make_model(tiny["bert"], **exact) for _ in range(3))
    make_trainer(whole, loaders, n_epochs=2).run()
    first = make_trainer(half, loaders, driver=fp.get_driver(half, device="cpu"), device=None, n_epochs=1)
    first.run()
    first.save_checkpoint(tmp_path / "half")
    second = make_trainer(again, loaders, driver=fp.get_driver(again, device="cpu"), device=None, n_epochs=2)
    second.run(resume_from=str(tmp_path / "half"))
    assert second.global_forward_batches == 4
    for name, value in tuned(whole).items():
        numpy.testing.assert_allclose(tuned(again)[name], value, atol=1e-6, err_msg=name)


def test_functions_are_added_to_a_trainer(tiny, loaders):
    trainer, seen = make_trainer(make_model(tiny["bert"]), loaders), []
    trainer.add_callback_fn(Event.on_train_epoch_end(), lambda trainer: seen.append(trainer.cur_epoch_idx))
    trainer.add_callback_fn(Event.on_train_batch_begin(every=2), lambda trainer, batch, indices: seen.append(batch))
    trainer.run()
    assert len(seen) == 2
