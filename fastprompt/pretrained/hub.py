"""The Hugging Face hub: its errors in one line each, and files that are fetched by name.

`huggingface_hub` is imported when a hub id is asked for. Its own variables hold here: HF_ENDPOINT names another server
with the hub's interface (a mirror), HF_TOKEN the token of private repositories, HF_HUB_OFFLINE=1 asks no server.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastprompt.errors import CheckpointError, FastpromptError


@contextmanager
def hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """Raises: CheckpointError: for each error of the hub, with the repository, what is wrong and the fix."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its lines about every retry, beside the one that is raised here
    try:
        yield
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a well-formed hub id.") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"The hub's {name!r} has no revision {revision!r}; name a branch, tag or commit."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub has no model {name!r} (or it is private: `hf auth login`), and there is no such folder."
        ) from error
    except FastpromptError:
        raise
    except Exception as error:  # of the HTTP library, which differs by huggingface_hub's version
        status = getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            raise CheckpointError(
                f"The hub refuses {name!r} (status {status}): `hf auth login` with a token that may."
            ) from error
        raise CheckpointError(
            f"{name!r} is no folder here and the hub cannot be reached; go online, or name a downloaded model's folder."
        ) from error
    finally:
        log.setLevel(level)


def is_downloaded(name: str, file: str) -> bool:
    """Whether a file of a repository lies in the local cache; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    with hub_errors(name):
        return isinstance(try_to_load_from_cache(name, file), str)


def fetch_files(name: str, files: tuple[str, ...], revision: str | None = None) -> Path | None:
    """The local folder with these files of a repository's revision, all of one commit; None where it lacks the first.

    Raises:
        CheckpointError: there is no such repository, revision or further file, or the hub cannot be reached and has
            not been before.
    """
    first, *others = files
    with hub_errors(name, revision):
        path = _fetch(name, first, revision)
        if path is None:
            return None
        for other in others:
            if _fetch(name, other, path.parent.name) is None:
                raise CheckpointError(f"The hub's {name!r} has {first} and no {other}; upload it again.")
        return path.parent


def _fetch(name: str, file: str, revision: str | None) -> Path | None:
    """The local copy of a file; None where the repository has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except LocalEntryNotFoundError:  # is an EntryNotFoundError too
        raise
    except EntryNotFoundError:
        return None
