"""Saved prompts on the hub: fetched as the two files that they are, JSON and safetensors, and read as local ones."""

from pathlib import Path

from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.checkpoint import check_name
from fastprompt.pretrained.hub import fetch_files, is_downloaded
from fastprompt.saving.prompt_file import CONFIG_FILE, TENSOR_FILE

_MODEL_FILE = "config.json"  # which a model's repository has and a prompt's has not


def fetch_prompt(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder of a saved prompt: of the hub's prompt "user/name" the local copy, any other `name_or_path` itself.

    Args:
        revision: of the hub's prompt, a branch, a tag or a commit; None: its newest.

    Raises:
        CheckpointError: the hub has no such prompt, or cannot be reached and has not been before.
        ConfigError: a revision is asked of what is not on the hub, or the hub's repository holds no prompt.
    """
    if not _may_be_on_hub(name_or_path):
        if revision is not None:
            raise ConfigError(f"revision goes with a prompt's hub id, user/name; {name_or_path} is none: leave it off.")
        return Path(name_or_path).expanduser()
    check_name(name_or_path)
    folder = fetch_files(str(name_or_path), (CONFIG_FILE, TENSOR_FILE), revision)
    if folder is None:
        raise ConfigError(f"The hub's {str(name_or_path)!r} holds no prompt ({CONFIG_FILE}); is it a model?")
    return folder


def prompt_or_model(name_or_path: str | Path, revision: str | None = None) -> str | Path:
    """The folder of a saved prompt, as `fetch_prompt` finds it; `name_or_path` as it is where that is a model's.

    Raises:
        CheckpointError, ConfigError: as `fetch_prompt` does, where a revision is asked for.
    """
    if revision is not None:
        return fetch_prompt(name_or_path, revision)
    if not _may_be_on_hub(name_or_path):
        return name_or_path
    check_name(name_or_path)
    if is_downloaded(str(name_or_path), _MODEL_FILE):
        return name_or_path
    try:
        return fetch_files(str(name_or_path), (CONFIG_FILE, TENSOR_FILE)) or name_or_path
    except CheckpointError:
        return name_or_path  # a model that was downloaded before opens without the hub; else it says what is wrong


def _may_be_on_hub(name_or_path: str | Path) -> bool:
    """Whether it may be the hub id of a prompt, which has its owner's name before it."""
    return "/" in str(name_or_path) and not Path(name_or_path).expanduser().exists()
