"""Uploading a saved prompt to the hub: its two files and its card, and nothing of this machine."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastprompt.errors import ConfigError
from fastprompt.models.card import CARD_FILE, is_ours, make_card
from fastprompt.pretrained.checkpoint import read_json
from fastprompt.pretrained.hub import fetch_files, hub_errors
from fastprompt.saving.prompt_file import CONFIG_FILE, TENSOR_FILE, SavedPrompt, read_prompt, write_saved
from fastprompt.saving.run_folder import METRICS_FILE

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PATH = re.compile(r"(/|~|[A-Za-z]:[\\/]|\\\\)[^/\\\s]*[/\\].*")


def push_to_hub(
    directory: str | Path,
    repo_id: str,
    *,
    base_model: str | None = None,
    private: bool = False,
    overwrite: bool = False,
) -> str:
    """Upload a saved prompt's two files with its model card; returns the address of the commit.

    A run's folder brings its scores, as metrics.json holds them, into the card. The token is that of `hf auth login` or
    HF_TOKEN. A card on the hub or in the folder that is somebody else's is left as it is.

    Args:
        directory: the prompt's folder.
        repo_id: "user/name"; the repository is made where it is not there.
        base_model: the backbone's hub id, which a prompt needs whose backbone lies in a local folder.
        private: make a new repository private.
        overwrite: replace a prompt of another method or another backbone.

    Raises:
        CheckpointError: there is no whole prompt, or the hub refuses or cannot be reached.
        ConfigError: the backbone has no hub id, a path of this machine would be uploaded, or the repository holds
            something else.
    """
    from huggingface_hub import HfApi

    directory = Path(directory).expanduser()
    saved = read_prompt(directory)
    if base_model is not None:
        if not _HUB_ID.fullmatch(base_model) or Path(base_model).expanduser().exists():
            raise ConfigError(f"base_model is {base_model!r}; it is the backbone's hub id, and no local folder.")
        saved.backbone_name = base_model
    if saved.has_local_backbone:
        raise ConfigError(
            f"{directory} was tuned on the local folder {saved.backbone_name}, which nobody else has; name the "
            f"backbone's hub id: base_model=."
        )
    metrics = read_json(directory / METRICS_FILE) if (directory / METRICS_FILE).exists() else {}
    card = (directory / CARD_FILE).read_bytes() if (directory / CARD_FILE).exists() else None
    if card is None or is_ours(card):
        card = make_card(saved, metrics, repo_id).encode()
    with tempfile.TemporaryDirectory() as folder:
        write_saved(saved, Path(folder))
        (Path(folder) / CARD_FILE).write_bytes(card)
        _refuse_paths(Path(folder))
        api = HfApi()
        with hub_errors(repo_id):
            files = api.list_repo_files(repo_id) if api.repo_exists(repo_id) else []
        _check_remote(repo_id, files, saved, overwrite)
        if CARD_FILE in files:
            remote = fetch_files(repo_id, (CARD_FILE,))
            if remote is not None and not is_ours((remote / CARD_FILE).read_bytes()):
                (Path(folder) / CARD_FILE).unlink()
        with hub_errors(repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=f"{saved.config.method} prompt"
            )
    return str(done.commit_url)


def _check_remote(repo_id: str, files: list[str], saved: SavedPrompt, overwrite: bool) -> None:
    """Raises: ConfigError: the repository holds another method's prompt, one of another backbone, or a model."""
    if overwrite:
        return
    if CONFIG_FILE not in files:
        others = [name for name in files if name not in (CARD_FILE, TENSOR_FILE) and not name.startswith(".")]
        if others:
            raise ConfigError(f"{repo_id} holds {others[0]} and no prompt; choose another name, or overwrite=True.")
        return
    folder = fetch_files(repo_id, (CONFIG_FILE,))
    content = read_json(folder / CONFIG_FILE) if folder else {}
    for what, there, here in (
        ("method", content.get("method"), saved.config.method),
        ("backbone", (content.get("backbone") or {}).get("fingerprint"), saved.fingerprint),
    ):
        if there != here:
            raise ConfigError(
                f"{repo_id} holds a prompt of another {what} ({there}, this one's is {here}); choose another name, or "
                f"overwrite=True."
            )


def _refuse_paths(folder: Path) -> None:
    """Raises: ConfigError: what is to be uploaded names a path of this machine."""
    for where, text in _texts(json.loads((folder / CONFIG_FILE).read_bytes()), ""):
        if _PATH.fullmatch(text):
            raise ConfigError(
                f"{CONFIG_FILE} holds the path {text!r} under {where[1:]!r}; it is not uploaded: remove it."
            )
    home = str(Path.home())
    if len(home) > 1 and home in (folder / CARD_FILE).read_text(encoding="utf-8"):
        raise ConfigError(f"{CARD_FILE} names {home}, a folder of this machine; it is not uploaded: remove it.")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(where it stands, the text) of all texts in a JSON value, keys too."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{where}.{key}", str(key)
            yield from _texts(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, where)
