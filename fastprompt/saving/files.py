"""Files are written whole or not at all, and none is lost that was there before."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.launch.world import is_first


def make_folder(directory: Path) -> None:
    """Make a folder and those above it.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made ({error.strerror}); name another folder.") from error


def same_folder(one: str | Path, other: str | Path) -> bool:
    """Whether two names are of the same folder, be it there or not."""
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def refuse_to_replace(directory: Path, files: tuple[str, ...], overwrite: bool) -> None:
    """Raises: ConfigError: a folder holds one of `files`, which may not be overwritten."""
    existing = [name for name in files if (directory / name).exists()]
    if existing and not overwrite:
        raise ConfigError(
            f"{directory} holds {existing[0]} already; add --overwrite_output_dir or choose another folder."
        )


def as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def write_whole(contents: dict[Path, bytes]) -> None:
    """Write files so that each appears whole, and none before all are on the disk; a failure leaves the old ones.

    Of several processes the first writes; to the others this is nothing to do.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    if not is_first():
        return
    finished: list[tuple[str, Path]] = []
    os.umask(umask := os.umask(0))  # mkstemp makes files for their owner alone
    try:
        for path, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            finished.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in finished:
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or next(iter(contents))} cannot be written ({error.strerror}); nothing was changed there."
        ) from error
    finally:
        for temporary, _ in finished:
            Path(temporary).unlink(missing_ok=True)
