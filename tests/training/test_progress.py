"""What a run says of its speed."""

import fastprompt as fp
from fastprompt.training import progress

import pytest


class Clock:
    """The time, with a jump."""

    def __init__(self, clock):
        self.clock, self.jump = clock, 0.0

    def perf_counter(self):
        return self.clock() + self.jump


@pytest.fixture
def slow_first_step(monkeypatch):
    """The first training step takes a thousand seconds more, as where a framework compiles."""
    clock = Clock(progress.time.perf_counter)
    monkeypatch.setattr(progress, "time", clock)
    check = fp.PromptForSequenceClassification._train_on

    def slow(self, inputs):
        clock.jump = 1000.0
        return check(self, inputs)

    monkeypatch.setattr(fp.PromptForSequenceClassification, "_train_on", slow)


def test_the_rate_is_that_after_the_first_step_which_stands_beside_it(tiny, tmp_path, train_here, slow_first_step):
    rows = [f"{word} film\t{label}" for word, label in (("fine", 1), ("dull", 0)) * 12]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    task = ["--model_name_or_path", tiny["bert"], "--task_name", "glue", "--dataset_name", "sst2"]
    task += ["--data_dir", tmp_path, "--pre_seq_len", "3", "--per_device_train_batch_size", "8", "--save_steps", "2"]
    metrics = train_here(*task, "--output_dir", tmp_path / "out")
    assert metrics["seconds_to_first_step"] >= 1000
    assert metrics["train_seconds"] >= 1000
    assert metrics["samples_per_second"] > 16 / 900  # 16 of the 24, in what came after
    assert metrics["samples_per_second"] != pytest.approx(24 / metrics["train_seconds"], rel=0.5)
    (tmp_path / "again").mkdir()
    (tmp_path / "out" / "checkpoint-2").rename(tmp_path / "again" / "checkpoint-2")
    resumed = train_here(*task, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", "last")
    assert resumed["samples_per_second"] > 16 / 900
