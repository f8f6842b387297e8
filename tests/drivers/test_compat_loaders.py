"""fastNLP's samplers and dataloaders on today's frameworks."""

import gc
import sys

import fastNLP
import numpy as np
import pytest

from support.fastnlp_trainer import BACKEND, make_data, make_loader, make_trainer, paddle_only, torch_only

if BACKEND == "torch":
    import torch
elif BACKEND == "paddle":
    import paddle
else:
    import jittor


@pytest.mark.skipif(BACKEND == "jittor", reason="fastNLP's jittor loader takes no samplers")
@pytest.mark.parametrize("kind", ["RandomBatchSampler", "BucketedBatchSampler", "SortedSampler", "SequentialSampler"])
def test_samplers_cover_the_data(kind):
    data = make_data()
    length = {"length": [len(x) for x in data["x"]]} if kind in ("BucketedBatchSampler", "SortedSampler") else {}
    cls = getattr(fastNLP, kind)
    if kind.endswith("BatchSampler"):
        sampler = {"batch_sampler": cls(data, batch_size=8, **length)}
    elif BACKEND == "torch":
        sampler = {"sampler": cls(data, **length), "batch_size": 8}
    else:
        sampler = {"batch_sampler": paddle.io.BatchSampler(sampler=cls(data, **length), batch_size=8)}
    loader = getattr(fastNLP, f"{BACKEND.capitalize()}DataLoader")(data, **sampler)
    make_trainer(train_dataloader=loader).run()
    seen = [index for _ in loader for index in loader.get_batch_indices()]
    assert sorted(seen) == list(range(len(data)))


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare_dataloader_pads_and_collates(workers):
    loader = make_loader(shuffle=False, num_workers=workers)
    loader.set_pad("x", pad_val=19)
    data = make_data()
    batches = [{name: value.numpy() for name, value in batch.items()} for batch in loader]
    assert len(batches) == len(loader) == 5
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in batches]), list(data["y"]))
    width = batches[0]["x"].shape[1]
    np.testing.assert_array_equal(batches[0]["x"][0], list(data[0]["x"]) + [19] * (width - len(data[0]["x"])))


@pytest.mark.parametrize("bundled", [False, True])
def test_prepare_dataloader_takes_several_data_sets(bundled):
    from fastNLP.io import DataBundle

    sets = {"train": make_data(), "dev": make_data(16)}
    loaders = fastNLP.prepare_dataloader(DataBundle(datasets=sets) if bundled else sets, batch_size=8)
    assert {name: len(loader) for name, loader in loaders.items()} == {"train": 5, "dev": 2}


def test_the_frameworks_own_loader_trains():
    class Rows:
        def __len__(self):
            return 16

        def __getitem__(self, i):
            return {"x": np.array([1, 2, 3]), "y": np.int64(i % 3)}

    if BACKEND == "torch":
        loader = torch.utils.data.DataLoader(Rows(), batch_size=4, shuffle=True)
    elif BACKEND == "paddle":
        dataset = type("Data", (Rows, paddle.io.Dataset), {})()
        loader = paddle.io.DataLoader(dataset, batch_size=4, shuffle=True)
    else:

        class Data(jittor.dataset.Dataset):
            __getitem__ = Rows.__getitem__

        loader = Data().set_attrs(batch_size=4, total_len=16, shuffle=True)
    trainer = make_trainer(train_dataloader=loader, evaluate_dataloaders=None, metrics=None)
    trainer.run()
    assert trainer.global_forward_batches == 8


@torch_only
@pytest.mark.parametrize("mode", ["sequential", "polling", "mix"])
def test_mixed_data_sets_are_loaded(mode):
    from fastNLP.core.dataloaders.torch_dataloader.mix_dataloader import MixDataLoader

    assert len(list(MixDataLoader({"a": [[1, 2]] * 4, "b": [[3, 4]] * 4}, mode=mode, batch_size=2))) == 4


@paddle_only
@pytest.mark.timeout(60)
def test_workers_do_not_wait_for_loops_that_are_over():
    class Collecting(list):
        def __getitem__(self, i):
            gc.collect()  # in the worker
            return {"x": i}

    gc.disable()
    try:
        make_trainer().run()  # leaves loops for the collector
        loader = fastNLP.PaddleDataLoader(Collecting(range(4)), num_workers=1)
        assert [batch["x"].tolist() for batch in loader] == [[0, 1, 2, 3]]
    finally:
        gc.enable()


@paddle_only
def test_paddle_fluid_names_answer_at_run_time():
    from fastNLP.core.drivers.paddle_driver.paddle_driver import PaddleDriver
    from fastNLP.core.utils import paddle_to

    ones = paddle.ones([2])
    assert paddle_to(ones, ones.place).tolist() == [1, 1]  # paddle.fluid.core_avx.Place
    state = np.random.get_state()
    PaddleDriver.worker_init_function(0)  # paddle.fluid.core.default_cpu_generator
    np.random.set_state(state)
    assert "paddle.fluid" in sys.modules


def test_a_checkpoints_refusal_advises_samplers_only_where_the_loader_takes_some():
    import inspect

    from fastprompt.framework import backend, driver

    kind = getattr(fastNLP, f"{backend().capitalize()}DataLoader")
    takes = {"sampler", "batch_sampler"} & set(inspect.signature(kind.__init__).parameters)
    assert ("Sampler" in driver.Driver.loaders) == bool(takes)
    assert "fastprompt.make_dataloader" in driver.Driver.loaders
