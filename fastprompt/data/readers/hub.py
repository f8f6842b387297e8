"""Data sets of the Hugging Face hub, through `datasets`."""

from typing import Any

from fastprompt.errors import DataError


def load_from_hub(title: str, name: str, configuration: str | None, split: str, revision: str | None = None) -> Any:
    """The rows of one split; a column is `rows[column]`.

    Args:
        title: what people call the data set.
        revision: "refs/convert/parquet" for a data set that is published as a script, which `datasets` no longer runs:
            the hub keeps what the script makes there.

    Raises:
        DataError: the hub cannot be reached, or has no such data set, configuration or split.
    """
    import datasets

    try:
        return datasets.load_dataset(name, configuration, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"The hub's copy of {title} cannot be reached; go online, or name its own files' folder with --data_dir."
        ) from error
