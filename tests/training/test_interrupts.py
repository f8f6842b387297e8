"""Ctrl-C ends a training, wherever in a step it comes."""

import os
import signal

import fastprompt as fp
from fastprompt.commands.train import Interrupted
from fastprompt.saving.prompt_file import is_prompt

import pytest


def test_an_interrupt_that_gets_lost_in_a_step_ends_the_run_after_it(tiny, tmp_path, train_here, monkeypatch):
    rows = [f"{word} film\t{label}" for word, label in (("fine", 1), ("dull", 0)) * 12]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    steps, run = [], fp.PromptForSequenceClassification._train_on

    def lose(self, inputs):
        steps.append(len(steps) + 1)
        if len(steps) == 2:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
            except KeyboardInterrupt:  # as a finalizer of a framework's does
                pass
        return run(self, inputs)

    out = tmp_path / "out"
    out.mkdir()
    earlier = [out / name for name in ("metrics.json", "evaluations.jsonl", "predictions.jsonl")]
    for path in earlier:
        path.write_text("{}\n")
    monkeypatch.setattr(fp.PromptForSequenceClassification, "_train_on", lose)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = ["--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2"]
        task += ["--data_dir", tmp_path, "--pre_seq_len", "3", "--per_device_train_batch_size", "4"]
        with pytest.raises(Interrupted, match="Stopped at step 2"):
            train_here(*task, "--output_dir", out, "--overwrite_output_dir")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert steps == [1, 2]
    assert is_prompt(out)
    assert not any(path.exists() for path in earlier)  # they say what the run that was replaced had found
