"""Why fastNLP's tutorial E2 stops at 73.7 % on SST-2: the tutorial as written, then one fix at a time.

E2's prompt is shallow, its fresh classifier is frozen with the backbone, and what is pooled is a prompt vector. Each
variant keeps the fixes before it. The baselines below train at rates of their own.

Usage: e2_ladder.py MODEL [--data_dir GLUE_FOLDER] [--max_train_samples N] [--seeds 1 2 3] [--only VARIANT ...]
"""

import argparse
import statistics
import sys
from collections.abc import Iterator

import fastprompt as fp  # before fastNLP
from fastprompt.framework import runtime

from fastNLP import Trainer
from fastNLP.core.log import logger
from rich.console import Console
from rich.table import Table

VARIANTS = {  # name -> (method, learning rate)
    "E2 as written": (fp.ShallowPrefixConfig(pooling="prompt", train_head=False), 1e-2),
    "+ train the head": (fp.ShallowPrefixConfig(pooling="prompt"), 1e-2),
    "+ pool the real first token": (fp.ShallowPrefixConfig(pooling="first"), 1e-2),
    "+ deep prefix (P-Tuning v2)": (fp.PTuningV2Config(pooling="first"), 1e-2),
    "+ projection": (fp.PTuningV2Config(pooling="first", prefix_projection=True, init_std=0.02), 1e-3),
    "deep prefix, mean pooling": (fp.PTuningV2Config(pooling="mean"), 1e-2),
    "linear-probe": (fp.LinearProbeConfig(pooling="first"), 1e-2),
    "bitfit": (fp.BitFitConfig(pooling="first"), 1e-3),
    "fine-tuning": (fp.FineTuningConfig(pooling="first"), 5e-5),
}


def run(options: argparse.Namespace, name: str, seed: int) -> tuple[float, int]:
    """(accuracy on the dev sentences, number of tuned parameters) of one variant."""
    config, rate = VARIANTS[name]
    runtime.seed(seed)
    train_set = fp.load_sst2("train", options.data_dir).head(options.max_train_samples)
    tokenizer = fp.load_tokenizer(options.model)
    model = fp.PromptForSequenceClassification.from_pretrained(
        options.model, config, seed=seed, hidden_dropout_prob=options.hidden_dropout_prob
    )
    Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=options.n_epochs,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=rate),  # E2: AdamW's defaults, no schedule
        train_dataloader=fp.make_dataloader(train_set, tokenizer, batch_size=32, shuffle=True, seed=seed),
        progress_bar=None,
    ).run()
    dev_set = fp.load_sst2("validation", options.data_dir)
    dev = fp.make_dataloader(dev_set, tokenizer, batch_size=64)
    scores = fp.evaluate(model, dev, "cpu", fp.task_metrics("glue", "sst2", dev_set))
    return scores["accuracy"], model.count_parameters()[0]


def rows(options: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    for name in options.only or VARIANTS:
        results = [run(options, name, seed) for seed in options.seeds]
        scores = [100 * accuracy for accuracy, _ in results]
        deviation = f"{statistics.stdev(scores):.1f}" if len(scores) > 1 else "-"
        print(name, [f"{score:.1f}" for score in scores], file=sys.stderr, flush=True)
        yield name, f"{results[0][1]:,}", f"{statistics.mean(scores):.1f}", deviation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data_dir")
    parser.add_argument("--max_train_samples", type=int)
    parser.add_argument("--n_epochs", type=int, default=1)
    parser.add_argument("--hidden_dropout_prob", type=float, default=0.1, help="E2's: its checkpoint's 0.1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS))
    options = parser.parse_args()
    logger.setLevel("ERROR")
    table = Table("variant", "tuned parameters", "accuracy %", "deviation")
    for row in rows(options):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
