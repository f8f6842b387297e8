"""The folder of a training run: what it holds, and that none is lost."""

from pathlib import Path

from fastprompt.saving.files import make_folder, refuse_to_replace
from fastprompt.saving.prompt_file import CONFIG_FILE, TENSOR_FILE

METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
BEST = "best"  # folder of the best prompt so far, while training goes on
RUN_FILES = (CONFIG_FILE, TENSOR_FILE, METRICS_FILE, HISTORY_FILE, EVALUATIONS_FILE, PREDICTIONS_FILE)


def make_run_folder(directory: Path, files: tuple[str, ...], overwrite: bool) -> None:
    """Make a folder for `files`.

    Raises:
        ConfigError: it holds one of them and may not be overwritten, or it cannot be made.
    """
    refuse_to_replace(directory, files, overwrite)
    make_folder(directory)
