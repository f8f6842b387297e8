"""examples/bench_data.py prints each of its figures, at a small size."""

import re

import pytest


@pytest.mark.once
def test_it_prints_memory_starts_and_rates(run_python, tiny, tmp_path):
    arguments = (tiny["bert"], "--rows", 64, "--tokens", 12, "--folder", tmp_path)
    printed = run_python("torch", "examples/bench_data.py", *arguments).stdout
    number = r"-?[\d,.]+"
    assert re.fullmatch(
        rf"64 rows of 12 tokens, torch, \d+ cores\n"
        rf"(?:(?:first|second) start: {number} s, of which load_task {number} s\n"
        rf"(?:first|second) start: epoch {number} s\n"
        rf"(?:first|second) start: {number} MB more of its own memory to the end of the epoch\n){{2}}"
        rf"tokenising: {number} texts/s, encode_batch: {number} and {number}\n"
        rf"tokenising / encode_batch: x {number}\n"
        rf"second start / first start: x {number}\n",
        printed,
    )
    assert list(tmp_path.iterdir()) == []
