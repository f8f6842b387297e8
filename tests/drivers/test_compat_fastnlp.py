"""fastNLP's Trainer, metrics and callbacks on today's frameworks."""

from collections import UserDict

from fastprompt.errors import CheckpointError
from fastprompt.framework import runtime

import fastNLP
import numpy as np
import pytest

from support.fastnlp_trainer import (
    BACKEND,
    Model,
    make_loader,
    make_model,
    make_optimizer,
    make_trainer,
    paddle_only,
    tensor,
    torch_only,
)

if BACKEND == "torch":
    import torch
elif BACKEND == "paddle":
    import paddle
else:
    import jittor


def evaluate(metrics, model=None, **options):
    loader = make_loader(shuffle=False)
    model = model or make_model()
    return fastNLP.Evaluator(
        model, loader, metrics=metrics, driver=BACKEND, device="cpu", progress_bar=None, verbose=0, **options
    ).run()


def weights(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def assert_same_weights(model, other):
    other = weights(other)
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, other[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("bar", ["rich", "tqdm", "raw", "auto"])
def test_trainer_fits_with_every_progress_bar(bar):
    model = make_model()
    before = weights(model)
    trainer = make_trainer(model, progress_bar=bar)
    trainer.run()
    assert trainer.global_forward_batches == 10
    assert any((weights(model)[name] != before[name]).any() for name in before)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulation_steps": 2},
        {"evaluate_every": 3},
        {"evaluate_every": lambda trainer: trainer.global_forward_batches == 4},
        {"fp16": False},
        {"overfit_batches": 2},
        {"n_batches": 7},
        {"driver": "auto"},
        {"device": None},
    ],
    ids=lambda options: next(iter(options)),
)
def test_trainer_takes_its_options(options):
    make_trainer(**options).run()


def test_fewer_batches_than_are_accumulated_make_the_step_of_their_mean_loss():
    """Five batches of eight, in one step: that of all forty rows at once."""
    rng = np.random.RandomState(0)
    rows = fastNLP.DataSet({"x": rng.randint(0, 20, (40, 5)).tolist(), "y": rng.randint(0, 3, 40).tolist()})
    models = []
    for batch_size, every in ((8, 64), (40, 1)):
        runtime.seed(7)
        model = make_model()
        start = weights(model)
        loader = fastNLP.prepare_dataloader(rows, batch_size=batch_size, shuffle=False)
        make_trainer(model, accumulation_steps=every, n_epochs=1, train_dataloader=loader).run()
        assert all((weights(model)[name] != value).any() for name, value in start.items())
        models.append(model)
    assert_same_weights(*models)


def test_ctrl_c_comes_through_when_asked():
    class Interrupt(fastNLP.Callback):
        def on_train_batch_end(self, trainer):
            raise KeyboardInterrupt

    make_trainer(callbacks=Interrupt()).run()  # fastNLP's default swallows it
    with pytest.raises(KeyboardInterrupt):
        make_trainer(callbacks=Interrupt()).run(catch_KeyboardInterrupt=False)


def test_metrics_agree_with_numpy():
    class Counted(fastNLP.Metric):
        def __init__(self):
            super().__init__(aggregate_when_get_metric=True)
            self.register_element("right", 0, aggregate_method="sum")
            self.register_element("all", 0, aggregate_method="sum")

        def update(self, pred, target):
            pred, target = self.tensor2numpy(pred).argmax(-1), self.tensor2numpy(target)
            self.right += int((pred == target).sum())
            self.all += len(target)

        def get_metric(self):
            return {"share": self.right.get_scalar() / self.all.get_scalar()}

    metrics = {"acc": fastNLP.Accuracy(), "f": fastNLP.ClassifyFPreRecMetric(only_gross=False), "own": Counted()}
    results = evaluate(metrics)
    assert results["acc#acc"] == pytest.approx(results["share#own"], abs=1e-6)
    assert "f#f" in results


def test_span_f_is_1_for_equal_spans():
    vocabulary = fastNLP.Vocabulary(unknown=None, padding=None)
    vocabulary.add_word_lst(["B-a", "I-a", "O"])

    class Spans(Model):
        def evaluate_step(self, x, y):
            tags = tensor(np.tile(np.array([[0, 1, 2, 2]]), (x.shape[0], 1)))
            return {"pred": tags, "target": tags, "seq_len": tensor(np.full(x.shape[0], 4))}

    assert evaluate({"s": fastNLP.SpanFPreRecMetric(tag_vocab=vocabulary)}, make_model(Spans))["f#s"] == 1


@torch_only
def test_torchmetrics_are_fed():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Named(Model):
        def evaluate_step(self, x, y):
            return {"preds": self(x), "target": y}

    model = make_model(Named)
    own = evaluate({"acc": fastNLP.Accuracy()}, model, output_mapping={"preds": "pred"})["acc#acc"]
    theirs = evaluate({"acc": torchmetrics.Accuracy("multiclass", num_classes=3, average="micro")}, model)
    assert theirs["acc"].item() == pytest.approx(own, abs=1e-6)


@paddle_only
def test_paddle_metrics_are_fed():
    class Named(Model):
        def evaluate_step(self, x, y):
            right = (self(x).argmax(-1) == y).astype("float32")
            return {"pred": self(x), "label": y.reshape([-1, 1]), "preds": right, "labels": right, "target": y}

    model = make_model(Named)
    metrics = {"acc": fastNLP.Accuracy(), "top1": paddle.metric.Accuracy(), "precision": paddle.metric.Precision()}
    results = evaluate(metrics, model)
    assert results["top1"] == pytest.approx(results["acc#acc"], abs=1e-6)
    assert results["precision"] == 1
    with pytest.raises(ValueError, match="Accuracy needs"):
        evaluate({"top1": paddle.metric.Accuracy()})


def test_models_are_saved_and_loaded(tmp_path):
    callback = fastNLP.CheckpointCallback(tmp_path, every_n_epochs=1, last=True, topk=1, monitor="acc#acc")
    trainer = make_trainer(callbacks=callback)
    trainer.run()
    other = make_trainer()
    other.load_model(next(tmp_path.rglob("model-last")))
    assert_same_weights(trainer.model, other.model)
    evaluator = fastNLP.Evaluator(make_model(), make_loader(), driver=BACKEND, device="cpu", progress_bar=None)
    evaluator.load_model(next(tmp_path.rglob("model-last")))
    assert_same_weights(trainer.model, evaluator.model)


@pytest.mark.parametrize(
    "every",
    [
        {"every_n_epochs": 1},
        # paddle's loader always has a batch sampler, and fastNLP's shuffle what is left of an epoch anew
        pytest.param({"every_n_batches": 3}, marks=pytest.mark.skipif(BACKEND == "paddle", reason="by design")),
    ],
    ids=["between epochs", "within an epoch"],
)
def test_resuming_gives_the_same_weights(every, tmp_path):
    class NumpyScore(fastNLP.Metric):
        def update(self, pred, target): ...

        def get_metric(self):
            return {"score": np.float64(0.5)}

    options = {"metrics": {"own": NumpyScore()}, "monitor": "score#own", "n_epochs": 3}
    stop = {"callbacks": [fastNLP.EarlyStopCallback(patience=9)]}
    save = {"callbacks": [fastNLP.CheckpointCallback(tmp_path, save_object="trainer", **every), *stop["callbacks"]]}
    trainer = make_trainer(**options, **save)
    trainer.run()
    folders = sorted(tmp_path.rglob("trainer-epoch*"), key=lambda path: [int(n) for n in path.name.split("_")[-1:]])
    other = make_trainer(**options, **stop)
    other.load_checkpoint(folders[0])
    assert 0 < other.global_forward_batches < 15
    other.run()
    assert other.global_forward_batches == 15
    assert_same_weights(trainer.model, other.model)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_the_best_model_comes_back(where, tmp_path):
    class Remember(fastNLP.Callback):
        best, best_weights = -1, None

        def on_evaluate_end(self, trainer, results):
            if results["score#own"] > self.best:
                self.best, self.best_weights = results["score#own"], weights(trainer.model)

    class FirstIsBest(fastNLP.Metric):
        score = 1.0

        def update(self, pred, target): ...

        def get_metric(self):
            FirstIsBest.score /= 2
            return {"score": FirstIsBest.score}

    remember = Remember()
    best = fastNLP.LoadBestModelCallback("score#own", save_folder=str(tmp_path) if where == "folder" else None)
    trainer = make_trainer(metrics={"own": FirstIsBest()}, callbacks=[remember, best])
    trainer.run(num_eval_sanity_batch=0)
    after = weights(trainer.model)
    for name, value in remember.best_weights.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


@torch_only
def test_a_whole_pickled_model_is_refused_in_one_line(tmp_path):
    trainer = make_trainer()
    trainer.save_model(tmp_path, only_state_dict=False)
    with pytest.raises(CheckpointError, match="only_state_dict=True") as caught:
        trainer.load_model(tmp_path, only_state_dict=False)
    assert "\n" not in str(caught.value)
    next(tmp_path.iterdir()).write_bytes(b"\x80\x02\xff")
    with pytest.raises(Exception) as caught:
        trainer.load_model(tmp_path)
    assert not isinstance(caught.value, CheckpointError)  # a cut file is another matter


def test_callbacks_run(tmp_path):
    @fastNLP.Trainer.on(fastNLP.Event.on_before_backward(every=2))
    def note(trainer, outputs):
        seen.append(trainer.global_forward_batches)

    seen = []
    model = make_model()
    optimizer = make_optimizer(model)
    if BACKEND == "torch":
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    elif BACKEND == "paddle":
        schedule = paddle.optimizer.lr.LambdaDecay(0.1, lambda step: 1 / (step + 1))
        optimizer = paddle.optimizer.SGD(parameters=model.parameters(), learning_rate=schedule)
    else:
        schedule = jittor.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    more = {"dataloaders": make_loader(shuffle=False), "metrics": {"acc": fastNLP.Accuracy()}, "evaluate_every": -1}
    callbacks = [
        fastNLP.LRSchedCallback(schedule, step_on="batch"),
        fastNLP.MoreEvaluateCallback(**more, folder=str(tmp_path), topk=1, topk_monitor="acc#acc"),
        fastNLP.TimerCallback(),
        fastNLP.EarlyStopCallback("acc#acc", patience=1),
    ]
    try:
        make_trainer(model, optimizers=optimizer, callbacks=callbacks, n_epochs=3).run()
    finally:
        fastNLP.Trainer._custom_callbacks.clear()
    assert len(seen) >= 2
    assert schedule.last_epoch >= 5
    assert list(tmp_path.rglob("fastnlp_model*"))


@torch_only
@pytest.mark.parametrize("clip", ["norm", "value"])
def test_warmup_and_clipping_run(clip):
    make_trainer(
        callbacks=[fastNLP.TorchWarmupCallback(0.2), fastNLP.TorchGradClipCallback(clip_value=1, clip_type=clip)]
    ).run()


def test_a_batch_that_is_a_mapping_and_no_dict_reaches_the_steps_by_its_names():
    trainer = make_trainer()
    (batch, *_) = list(make_loader(shuffle=False))
    batch = UserDict(batch)  # as transformers' BatchEncoding
    step, signature = trainer.driver.get_model_call_fn("train_step")
    found = trainer.driver.model_call(trainer.driver.move_data_to_device(batch), step, signature)
    assert set(found) == {"loss"}


@torch_only
def test_transformers_padding_collator_feeds_the_trainer(tiny):
    import fastprompt as fp

    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    rows = [{**tokenizer(text), "labels": label} for text, label in (("a b", 0), ("c", 1), ("d e f", 0))]
    loader = DataLoader(rows, batch_size=2, collate_fn=DataCollatorWithPadding(tokenizer))
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"])
    trainer = fastNLP.Trainer(
        model=model,
        driver="torch",
        device="cpu",
        n_epochs=1,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-2),
        train_dataloader=loader,
        evaluate_dataloaders=loader,
        metrics={"acc": fastNLP.Accuracy()},
        progress_bar=None,
    )
    trainer.run()
    assert trainer.global_forward_batches == 2
    assert trainer.evaluator.run().keys() == {"acc#acc"}
