"""The tasks by the names that P-Tuning v2's command gives them, and the user's own data."""

from collections.abc import Sequence

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.examples import Instructions, LabelledTexts, MultipleChoices, SquadData, TaggedTokens
from fastprompt.data.readers.conll import load_ner, load_srl
from fastprompt.data.readers.glue import GLUE, load_glue
from fastprompt.data.readers.instruction import load_instructions
from fastprompt.data.readers.squad import VERSION_2, load_squad
from fastprompt.data.readers.sst2 import load_reviews
from fastprompt.data.readers.superglue import SUPERGLUE, load_superglue
from fastprompt.data.readers.tabular import load_own
from fastprompt.errors import ConfigError

_BENCHMARKS = {"glue": load_glue, "superglue": load_superglue, "qa": load_squad}
_OF_HUB = {"glue": tuple(GLUE), "superglue": (*SUPERGLUE, "copa"), "qa": tuple(VERSION_2), "ner": ("conll2003",)}
_OWN = ("classification", "regression")
_WITHOUT_TEST = ("qa", "reviews")  # SQuAD's is not published

TASK_NAMES = (*_OF_HUB, "srl", "reviews", "instruction", *_OWN)

TaskData = LabelledTexts | MultipleChoices | TaggedTokens | SquadData | Instructions


def load_task(
    task_name: str,
    dataset_name: str | None,
    data_dir: str | None,
    split: str,
    *,
    label_names: Sequence[str] | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str = "label",
    tag_column: int | None = None,
    chat_template: str = CHAT_TEMPLATES[0],
) -> TaskData:
    """A split of a task, as the dataclass of its kind.

    Args:
        task_name: glue, superglue, qa, ner, srl, reviews (embedded), instruction, or classification and regression
            for the user's own texts.
        dataset_name: which data set of the task; what is read from `data_dir` by ner and srl needs none.
        data_dir: a folder with the data set's own files; None takes the hub's copy.
        split: "train", "validation" or "test"; glue's mnli has "validation_mismatched" too. The labels of a test split
            are not those of its examples.
        label_names: the classes or tags of training, for another split of data that do not fix them.
        text_columns, label_column: see `load_own`; tag_column: see `read_conll`.
        chat_template: how instructions are written, one of `chat.CHAT_TEMPLATES`.

    Raises:
        ConfigError: there is no such task or data set, or an option is missing.
        DataError: its files or the hub cannot be read.
    """
    check_task(task_name, dataset_name, data_dir)
    if split == "test" and task_name in _WITHOUT_TEST:
        raise ConfigError(f"{task_name} has no test split to predict; leave --do_predict off.")
    if task_name == "reviews":
        return load_reviews(split)
    if task_name == "instruction":
        return load_instructions(data_dir, split, chat_template)
    if task_name in _OWN:
        regression = task_name == "regression"
        return load_own(data_dir, split, text_columns, label_column, label_names, regression)
    if task_name == "ner":
        return load_ner(split, data_dir, label_names, tag_column)
    if task_name == "srl":
        return load_srl(split, data_dir, label_names)
    return _BENCHMARKS[task_name](dataset_name, split, data_dir)


def check_task(task_name: str, dataset_name: str | None, data_dir: str | None) -> None:
    """Raises: ConfigError: there is no such task or data set, or it lies in no folder."""
    if task_name == "lama":
        raise ConfigError(
            "lama is trained and tested at once, relation by relation: fastprompt train --task_name lama."
        )
    if task_name not in TASK_NAMES:
        raise ConfigError(f"The task is {task_name or 'none'}; there are --task_name {', '.join(TASK_NAMES)}.")
    if task_name == "reviews" and (dataset_name or data_dir):
        raise ConfigError("reviews is embedded; it takes neither --dataset_name nor --data_dir.")
    if task_name in _BENCHMARKS or (task_name == "ner" and data_dir is None):
        known = _OF_HUB[task_name]
        if dataset_name not in known:
            own = " (others: --data_dir)" if task_name == "ner" else ""
            given = dataset_name or "missing"
            raise ConfigError(f"--dataset_name is {given}; {task_name} has {', '.join(known)}{own}.")
    elif task_name != "reviews" and data_dir is None:
        raise ConfigError(f"{task_name} needs --data_dir, the folder with its files.")
