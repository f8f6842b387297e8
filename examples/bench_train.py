"""Training throughput on SST-2 against PEFT's prefix tuning, both in turn in one run, on disjoint slices of the data.

PEFT trains as its users run it: prefix tuning of 20 positions under transformers' Trainer with lengths grouped and
bf16, three epochs of a slice. Against it stand, each in bf16 with batches of 32:

    full depth                  20 positions in every layer; samples a second of one epoch, tokenising left out, as of
                                PEFT's three epochs; the head reads the first token, as that of PEFT's model does
    last 2 layers, kept         20 positions in the last 2 layers, what enters them read from a file; of the second
                                epoch of a slice
    last 2 layers, three epochs the same, from texts to the end of the third epoch: tokenising, making the file and
                                training; against tokenising and three epochs of PEFT

A slice of each is run first and thrown away. Prints a line a round, and each median ratio with its spread.

Usage: bench_train.py MODEL --data_dir GLUE_FOLDER [--samples 6400] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import fastprompt as fp

import torch
import transformers
from fastNLP import Callback, Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

LENGTH, BATCH, EPOCHS = 20, 32, 3


class EpochTimes(Callback):
    """When the training and each of its epochs began, and when it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_epoch_begin(self, trainer: Any) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer: Any) -> None:
        self.times.append(time.perf_counter())

    def seconds(self, epoch: int) -> float:
        return self.times[epoch + 1] - self.times[epoch]


def slice_of(options: argparse.Namespace, number: int) -> Any:
    rows = fp.load_sst2("train", options.data_dir)
    return rows.select(range(number * options.samples, (number + 1) * options.samples))


def run_fastprompt(model: Any, loader: Any, epochs: int) -> EpochTimes:
    rate, times = model.method_config.default_learning_rate, EpochTimes()
    Trainer(
        model=model,
        driver=fp.get_driver(model),
        device=None,
        train_dataloader=loader,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=rate, weight_decay=0.0),
        n_epochs=epochs,
        callbacks=[fp.LearningRateSchedule(rate), times],
        progress_bar=None,
    ).run()
    return times


def full_depth(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Seconds of an epoch."""
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, pooling="first")
    model = fp.PromptForSequenceClassification.from_pretrained(options.model, config, bf16=True, portable=True)
    tokenizer = fp.load_tokenizer(options.model)
    loader = fp.make_dataloader(slice_of(options, number), tokenizer, batch_size=BATCH, shuffle=True)
    return {"full depth": run_fastprompt(model, loader, 1).seconds(0)}


def last_layers(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Seconds of the second epoch, and of everything from texts to the end of the third."""
    config = fp.PTuningV2Config(pre_seq_len=LENGTH, prefix_layers="last:2", pooling="first")
    model = fp.PromptForSequenceClassification.from_pretrained(options.model, config, bf16=True, portable=True)
    tokenizer, rows = fp.load_tokenizer(options.model), slice_of(options, number)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        loader = fp.make_dataloader(rows, tokenizer, batch_size=BATCH, shuffle=True)
        times = run_fastprompt(model, fp.cache_frozen_layers(model, loader, folder), EPOCHS)
        return {
            "last 2 layers, kept": times.seconds(1),
            "last 2 layers, three epochs": time.perf_counter() - started,
        }


def run_peft(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Seconds of an epoch, and of tokenising and three epochs."""
    import peft

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    stock = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    model = peft.get_peft_model(stock, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH))
    rows = slice_of(options, number)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            learning_rate=1e-2,
            bf16=True,
            train_sampling_strategy="group_by_length",
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        started = time.perf_counter()
        encoded = tokenizer(rows.texts, truncation=True, max_length=128)["input_ids"]
        data = [{"input_ids": ids, "labels": label} for ids, label in zip(encoded, rows.labels, strict=True)]
        trainer = transformers.Trainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        began = time.perf_counter()
        trainer.train()
        ended = time.perf_counter()
        return {"epoch": (ended - began) / EPOCHS, "three epochs": ended - started}


def one_round(options: argparse.Namespace, number: int) -> dict[str, float]:
    """How many times as fast as PEFT each is on a slice."""
    ours = full_depth(options, number) | last_layers(options, number)
    theirs = run_peft(options, number)
    seconds = {**ours, "PEFT, an epoch": theirs["epoch"], "PEFT, three epochs": theirs["three epochs"]}
    print(f"slice {number}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()), flush=True)
    against = {name: theirs["three epochs" if name.endswith("three epochs") else "epoch"] for name in ours}
    return {name: against[name] / value for name, value in ours.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    one_round(options, 0)  # thrown away
    rounds = [one_round(options, number) for number in range(1, options.rounds + 1)]
    for name in rounds[0]:
        ratios = [found[name] for found in rounds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {options.rounds} rounds"
        print(f"{name} / PEFT: median x {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
