"""Labelled sentences: GLUE's SST-2 from the hub or from its files, and the reviews embedded in this package."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from fastprompt.errors import DataError

SST2_LABELS = ["negative", "positive"]


@dataclass
class LabelledTexts:
    """A split of a classification data set: texts, class indices, and the classes' names."""

    texts: list[str]
    labels: list[int]
    label_names: list[str] = field(default_factory=lambda: list(SST2_LABELS))

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, count: int | None) -> "LabelledTexts":
        """The first `count` rows; all where it is None."""
        return LabelledTexts(self.texts[:count], self.labels[:count], self.label_names)


def load_sst2(split: str, data_dir: str | Path | None = None) -> LabelledTexts:
    """SST-2 (Socher et al., 2013), split "train" or "validation".

    Args:
        data_dir: a folder with GLUE's train.tsv and dev.tsv; None takes the hub's copy through `datasets`.

    Raises:
        DataError: a file or the hub cannot be read, or a row is not a sentence and a label.
    """
    if data_dir is not None:
        name = "train.tsv" if split == "train" else "dev.tsv"
        return read_labelled_tsv(Path(data_dir) / name)
    import datasets

    try:
        rows = datasets.load_dataset("nyu-mll/glue", "sst2", split=split)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            "The hub's copy of SST-2 cannot be reached; go online, or name GLUE's folder with --data_dir."
        ) from error
    return LabelledTexts(list(rows["sentence"]), list(rows["label"]))


def load_reviews(split: str) -> LabelledTexts:
    """The embedded review sentences, written for this project: split "train" or "validation" (the held-out ones)."""
    name = "train.tsv" if split == "train" else "heldout.tsv"
    with as_file(files("fastprompt.data") / "reviews" / name) as path:
        return read_labelled_tsv(path)


def read_labelled_tsv(path: Path) -> LabelledTexts:
    """A file in GLUE's form: a header with `sentence` and `label`, tabs between, no quoting, UTF-8.

    Raises:
        DataError: with the file, the line and the mend.
    """
    texts, labels = [], []
    for number, row in _rows(path):
        if row["label"] not in ("0", "1"):
            raise DataError(f"{path}, line {number}: the label is {row['label']!r}; SST-2's are 0 and 1.")
        texts.append(row["sentence"])
        labels.append(int(row["label"]))
    if not texts:
        raise DataError(f"{path} has no rows; a header line `sentence<TAB>label` and one line a sentence are wanted.")
    return LabelledTexts(texts, labels)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(reader, [])
            for name in ("sentence", "label"):
                if header and name not in header:
                    raise DataError(f"{path} has the columns {', '.join(header)}; it lacks {name!r}.")
            for values in reader:
                if len(values) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(values)} columns where the header has {len(header)}."
                    )
                yield reader.line_num, dict(zip(header, values, strict=True))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; --data_dir names the folder with train.tsv and dev.tsv.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except csv.Error as error:
        limit = csv.field_size_limit()
        raise DataError(
            f"{path}, line {reader.line_num}: a field of more than {limit:,} characters; is a line end missing?"
        ) from error
