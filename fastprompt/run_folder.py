"""The folder of a training run: what it holds, and that none is lost."""

from pathlib import Path

from fastprompt.errors import ConfigError
from fastprompt.interchange import CONFIG_FILE, TENSOR_FILE

METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
BEST = "best"  # folder of the best prompt so far, while training goes on
RUN_FILES = (CONFIG_FILE, TENSOR_FILE, METRICS_FILE, HISTORY_FILE, EVALUATIONS_FILE, PREDICTIONS_FILE)


def make_folder(directory: Path, files: tuple[str, ...], overwrite: bool) -> None:
    """Make a folder for `files`.

    Raises:
        ConfigError: it holds one of them and may not be overwritten, or it cannot be made.
    """
    held = [name for name in files if (directory / name).exists()]
    if held and not overwrite:
        raise ConfigError(
            f"{directory} holds another run ({held[0]}); add --overwrite_output_dir or choose another folder."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made ({error.strerror}); name another --output_dir.") from error
