"""The tasks by the names that P-Tuning v2's command gives them, and the user's own data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.data.examples import Instructions, LabelledTexts, MultipleChoices, SquadData, TaggedTokens
from fastprompt.data.readers.conll import load_ner, load_srl
from fastprompt.data.readers.glue import GLUE, load_glue
from fastprompt.data.readers.instruction import load_instructions
from fastprompt.data.readers.squad import VERSION_2, load_squad
from fastprompt.data.readers.sst2 import load_reviews
from fastprompt.data.readers.superglue import COPA_COLUMNS, SUPERGLUE, load_superglue
from fastprompt.data.readers.tabular import load_own
from fastprompt.errors import ConfigError

TaskData = LabelledTexts | MultipleChoices | TaggedTokens | SquadData | Instructions


@dataclass(frozen=True)
class Split:
    """Which split of a task is asked for, and how its files are read; see `load_task`."""

    name: str
    dataset_name: str | None
    data_dir: str | None
    label_names: Sequence[str] | None = None
    text_columns: Sequence[str] | None = None
    label_column: str = "label"
    tag_column: int | None = None
    chat_template: str = CHAT_TEMPLATES[0]


@dataclass(frozen=True)
class TaskSource:
    """A task as the command line names it: where its examples come from, and of what kind they are.

    Attributes:
        load: reads a split.
        kind: what its examples are.
        kinds: the data sets whose examples are something else, with what they are.
        hub: the data sets that the hub has; a task with none reads a folder.
        own_folder: whether other data sets than the hub's can be read from a folder.
        embedded: whether its examples come with this package.
        tested: whether it has a test split.
        columns: what a row of its files has, by data set; under None what a row of every data set's has.
    """

    load: Callable[[Split], TaskData]
    kind: type
    kinds: dict[str, type] = field(default_factory=dict)
    hub: tuple[str, ...] = ()
    own_folder: bool = False
    embedded: bool = False
    tested: bool = True
    columns: dict[str | None, tuple[str, ...]] = field(default_factory=dict)

    def kind_of(self, dataset_name: str | None) -> type:
        return self.kinds.get(dataset_name, self.kind)

    def check(self, task_name: str, dataset_name: str | None, data_dir: str | None) -> None:
        """Raises: ConfigError: there is no such data set, or it lies in no folder."""
        if self.embedded:
            if dataset_name or data_dir:
                raise ConfigError(f"{task_name} is embedded; it takes neither --dataset_name nor --data_dir.")
        elif self.hub and not (self.own_folder and data_dir):
            if dataset_name not in self.hub:
                own = " (others: --data_dir)" if self.own_folder else ""
                given = dataset_name or "missing"
                raise ConfigError(f"--dataset_name is {given}; {task_name} has {', '.join(self.hub)}{own}.")
        elif data_dir is None:
            raise ConfigError(f"{task_name} needs --data_dir, the folder with its files.")


def _own(regression: bool) -> Callable[[Split], LabelledTexts]:
    return lambda split: load_own(
        split.data_dir, split.name, split.text_columns, split.label_column, split.label_names, regression
    )


_OWN_COLUMNS = ("--text_columns", "--label_column")

TASKS: dict[str, TaskSource] = {
    "glue": TaskSource(
        lambda split: load_glue(split.dataset_name, split.name, split.data_dir),
        LabelledTexts,
        hub=tuple(GLUE),
        columns={name: task.columns for name, task in GLUE.items()},
    ),
    "superglue": TaskSource(
        lambda split: load_superglue(split.dataset_name, split.name, split.data_dir),
        LabelledTexts,
        kinds={"copa": MultipleChoices},
        hub=(*SUPERGLUE, "copa"),
        columns={name: task.columns for name, task in SUPERGLUE.items()} | {"copa": COPA_COLUMNS},
    ),
    "qa": TaskSource(  # SQuAD's test split is not published
        lambda split: load_squad(split.dataset_name, split.name, split.data_dir),
        SquadData,
        hub=tuple(VERSION_2),
        tested=False,
        columns={None: ("context", "question", "answers")},
    ),
    "ner": TaskSource(
        lambda split: load_ner(split.name, split.data_dir, split.label_names, split.tag_column),
        TaggedTokens,
        hub=("conll2003",),
        own_folder=True,
        columns={None: ("token", "...", "tag")},
    ),
    "srl": TaskSource(
        lambda split: load_srl(split.name, split.data_dir, split.label_names),
        TaggedTokens,
        columns={None: ("position", "tokens", "|||", "tags")},
    ),
    "reviews": TaskSource(lambda split: load_reviews(split.name), LabelledTexts, embedded=True, tested=False),
    "instruction": TaskSource(
        lambda split: load_instructions(split.data_dir, split.name, split.chat_template),
        Instructions,
        columns={None: ("instruction", "input", "output")},
    ),
    "classification": TaskSource(_own(regression=False), LabelledTexts, columns={None: _OWN_COLUMNS}),
    "regression": TaskSource(_own(regression=True), LabelledTexts, columns={None: _OWN_COLUMNS}),
}


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
    source = find_source(task_name, dataset_name, data_dir)
    if split == "test" and not source.tested:
        raise ConfigError(f"{task_name} has no test split to predict; leave --do_predict off.")
    return source.load(
        Split(
            split,
            dataset_name,
            data_dir,
            label_names=label_names,
            text_columns=text_columns,
            label_column=label_column,
            tag_column=tag_column,
            chat_template=chat_template,
        )
    )


def find_source(task_name: str, dataset_name: str | None, data_dir: str | None) -> TaskSource:
    """A task's record.

    Raises:
        ConfigError: there is no such task or data set, or it lies in no folder.
    """
    if task_name == "lama":
        raise ConfigError(
            "lama is trained and tested at once, relation by relation: fastprompt train --task_name lama."
        )
    if task_name not in TASKS:
        raise ConfigError(f"The task is {task_name or 'none'}; there are --task_name {', '.join(TASKS)}.")
    TASKS[task_name].check(task_name, dataset_name, data_dir)
    return TASKS[task_name]
