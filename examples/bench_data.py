"""What a large file costs from `load_task` to the end of an epoch: memory, tokenising, and the start of a second run.

Makes a file of random words and reads it in processes of their own, with an empty cache (the first start) and with what
the first one left there (the second). No model takes part. A start lasts from `load_task` to the first batch. Memory is
what the process has of its own (RssAnon: not what it maps from files), the most of it from `load_task` to the end of
the epoch over what it was before. The rate of tokenising, the writing of the cache included, is held against that of
a bare loop over `encode_batch`: a tenth of the rows before the first start and after it.

Usage: bench_data.py MODEL [--rows 1000000] [--tokens 40] [--folder FOLDER]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import fastprompt as fp

TOGETHER = 1024  # texts in a call of encode_batch


def make_file(path: Path, tokenizer: Any, rows: int, tokens: int) -> None:
    """Texts of `tokens` tokens each, the special ones included, and two classes."""
    draw = random.Random(0)
    words = [word for word in tokenizer.words_of(tokenizer.whole_words) if word.isascii() and word.isalpha()]
    before, after = tokenizer.special_tokens_around()
    count = tokens - len(before) - len(after)
    with path.open("w", encoding="utf-8") as file:
        file.write("text\tlabel\n")
        for row in range(rows):
            file.write(f"{' '.join(draw.choices(words, k=count))}\t{row % 2}\n")


def own_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


class Peak(threading.Thread):
    """The most memory of its own that this process had, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = own_memory_mb()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            self.most = max(self.most, own_memory_mb())

    def growth(self) -> float:
        self.over.set()
        return max(self.most, own_memory_mb()) - self.before


def read(options: argparse.Namespace) -> dict[str, float]:
    """In a child: an epoch of the file's batches."""
    from fastprompt.framework import loader, ops  # noqa: F401, no part of what data cost

    tokenizer = fp.load_tokenizer(options.model)
    peak = Peak()
    peak.start()
    started = time.perf_counter()
    data = fp.load_task("classification", None, options.folder, "train", text_columns=["text"])
    loaded = time.perf_counter()
    batches = fp.make_dataloader(data, tokenizer, batch_size=32, shuffle=True)
    made = time.perf_counter()
    epoch = iter(batches)
    next(epoch)
    first = time.perf_counter()
    rows = 32 + sum(len(batch["labels"]) for batch in epoch)
    assert rows >= len(data)
    return {
        "start": first - started,
        "load": loaded - started,
        "rate": len(data) / (made - loaded),
        "epoch": time.perf_counter() - first,
        "memory": peak.growth(),
    }


def bare_rate(options: argparse.Namespace) -> float:
    """Texts a second of a bare loop over a tenth of the rows."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(options.model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    with (Path(options.folder) / "train.tsv").open(encoding="utf-8") as file:
        next(file)
        texts = [line.partition("\t")[0] for line, _ in zip(file, range(max(1, options.rows // 10)), strict=False)]
    started = time.perf_counter()
    for start in range(0, len(texts), TOGETHER):
        tokenizer.encode_batch(texts[start : start + TOGETHER])
    return len(texts) / (time.perf_counter() - started)


def child(options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", options.folder, "--child"]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(Path(options.folder) / "cache")}
    printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--folder", help="where the file and the cache go, and are deleted again")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(read(options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as options.folder:
        make_file(Path(options.folder) / "train.tsv", fp.load_tokenizer(options.model), options.rows, options.tokens)
        before, first, after, second = bare_rate(options), child(options), bare_rate(options), child(options)
    print(f"{options.rows:,} rows of {options.tokens} tokens, {fp.backend()}, {os.cpu_count()} cores")
    for name, found in (("first", first), ("second", second)):
        print(f"{name} start: {found['start']:.1f} s, of which load_task {found['load']:.1f} s")
        print(f"{name} start: epoch {found['epoch']:.1f} s")
        print(f"{name} start: {found['memory']:.0f} MB more of its own memory to the end of the epoch")
    print(f"tokenising: {first['rate']:,.0f} texts/s, encode_batch: {before:,.0f} and {after:,.0f}")
    print(f"tokenising / encode_batch: x {2 * first['rate'] / (before + after):.2f}")
    print(f"second start / first start: x {second['start'] / first['start']:.3f}")


if __name__ == "__main__":
    main()
