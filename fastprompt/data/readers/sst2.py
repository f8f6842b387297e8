"""Labelled sentences: GLUE's SST-2, and the reviews embedded in this package."""

from importlib.resources import as_file, files
from pathlib import Path

from fastprompt.data.examples import LabelledTexts
from fastprompt.data.readers.glue import load_glue, read_glue


def load_sst2(split: str, data_dir: str | Path | None = None) -> LabelledTexts:
    """SST-2 (Socher et al., 2013), split "train" or "validation".

    Args:
        data_dir: a folder with GLUE's train.tsv and dev.tsv; None takes the hub's copy through `datasets`.

    Raises:
        DataError: a file or the hub cannot be read, or a row is not a sentence and a label.
    """
    return load_glue("sst2", split, data_dir)


def load_reviews(split: str) -> LabelledTexts:
    """The embedded review sentences, written for this project: split "train" or "validation" (the held-out ones)."""
    name = "train.tsv" if split == "train" else "heldout.tsv"
    with as_file(files("fastprompt.data") / "reviews" / name) as path:
        return read_labelled_tsv(path)


def read_labelled_tsv(path: Path) -> LabelledTexts:
    """A file in SST-2's form: a header with `sentence` and `label`, tabs between, no quoting, UTF-8.

    Raises:
        DataError: with the file, the line and the fix.
    """
    return read_glue("sst2", path)
