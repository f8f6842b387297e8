"""Training throughput on SST-2 against PEFT's prefix tuning, slices of both in turn in one run.

Both group lengths and use bf16: PEFT under transformers' Trainer (`group_by_length`, `bf16`), which is how its users
run it; fastprompt as `fastprompt train --bf16` does, the frozen backbone in bf16. Prints samples per second of
each slice, and the median ratio with its spread.

Usage: bench_train.py MODEL --data_dir GLUE_FOLDER [--samples 3200] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time

import fastprompt as fp

import torch
import transformers
from fastNLP import Trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments


def run_fastprompt(options: argparse.Namespace, first: int) -> float:
    """Samples per second of `options.samples` training sentences from `first` on."""
    model = fp.PromptForSequenceClassification.from_pretrained(options.model, fp.PTuningV2Config(), bf16=True)
    rows = fp.load_sst2("train", options.data_dir)
    rows.texts, rows.labels = (part[first : first + options.samples] for part in (rows.texts, rows.labels))
    loader = fp.make_dataloader(rows, fp.load_tokenizer(options.model), batch_size=32, shuffle=True)
    rate = model.method_config.default_learning_rate
    trainer = Trainer(
        model=model,
        driver=fp.get_driver(model),
        device=None,
        train_dataloader=loader,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=rate, weight_decay=0.0),
        n_epochs=1,
        callbacks=[fp.LearningRateSchedule(rate)],
        progress_bar=None,
    )
    started = time.perf_counter()
    trainer.run()
    return options.samples / (time.perf_counter() - started)


def run_peft(options: argparse.Namespace, first: int) -> float:
    import peft

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    stock = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    model = peft.get_peft_model(stock, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
    rows = fp.load_sst2("train", options.data_dir)
    texts, labels = (part[first : first + options.samples] for part in (rows.texts, rows.labels))
    encoded = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    data = [{"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=32,
            num_train_epochs=1,
            learning_rate=1e-2,
            bf16=True,
            train_sampling_strategy="group_by_length",
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = transformers.Trainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        started = time.perf_counter()
        trainer.train()
    return options.samples / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ratios = []
    for number in range(options.rounds):
        first = number * options.samples
        ours, theirs = run_fastprompt(options, first), run_peft(options, first)
        ratios.append(ours / theirs)
        print(f"fastprompt {ours:7.1f}   PEFT {theirs:7.1f} samples/s   x {ratios[-1]:.2f}", flush=True)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"fastprompt / PEFT: median x {statistics.median(ratios):.2f} ({spread} over {options.rounds} rounds)")


if __name__ == "__main__":
    main()
