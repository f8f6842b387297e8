"""What a run is about, looked up once: where the examples come from, what model reads them, how it is scored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastprompt.data.readers.files import Record
from fastprompt.data.tasks import TaskData, TaskSource, find_source
from fastprompt.errors import ConfigError, DataError
from fastprompt.inference.choices import Choices
from fastprompt.inference.instructions import Instructions, TextToText
from fastprompt.inference.lines import Line, parsed, text_of
from fastprompt.inference.model_task import ModelTask
from fastprompt.inference.questions import Questions
from fastprompt.inference.reading import Reading
from fastprompt.inference.tags import Tags
from fastprompt.inference.texts import Clozes, Texts
from fastprompt.metrics.tasks import Scores, scores_of
from fastprompt.models.base import PromptModel
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file

# Every task of a model by the name that prompt files give it.
MODEL_TASKS: dict[str, ModelTask] = {
    task.name: task for task in (Texts(), Clozes(), Choices(), Tags(), Questions(), Instructions(), TextToText())
}


@dataclass(frozen=True)
class Task:
    """A task of the command line.

    Attributes:
        name, dataset_name: as the command line has them.
        source: where its examples come from.
        model_task: the task of the model that reads them.
        scores: how the model is scored.
    """

    name: str
    dataset_name: str | None
    source: TaskSource
    model_task: ModelTask
    scores: Scores


def find_task(options: TrainOptions) -> Task:
    """The task that the options name, for the saved prompt or the fresh model that they name.

    Raises:
        ConfigError: there is no such task or data set, the saved prompt is for another, the method trains nothing, or a
            cloze lacks its template or its verbalizer.
    """
    name, dataset_name = options.data.task_name, options.data.dataset_name
    source = find_source(name, dataset_name, options.data.data_dir)
    fitting = [task for task in MODEL_TASKS.values() if task.kind is source.kind_of(dataset_name)]
    if options.model.is_prompt:
        saved = prompt_file.saved_task(options.model.model_name_or_path)
        chosen = next((task for task in fitting if task.name == saved), None)
        if chosen is None:
            raise ConfigError(f"{options.model.model_name_or_path} was tuned for {saved}; {name} is {fitting[0].name}.")
    else:
        chosen = _fresh(fitting, options)
    return Task(name, dataset_name, source, chosen, scores_of(name, dataset_name))


def _fresh(fitting: list[ModelTask], options: TrainOptions) -> ModelTask:
    """Of the tasks that read such examples the one of a model yet to be tuned."""
    if not options.config.trains:
        raise ConfigError(f"{options.config.method} trains nothing; it is there for --task_name lama.")
    template, verbalizer = options.config.template, options.config.verbalizer
    cloze = bool(template or verbalizer)
    if cloze and not any(task.model.fills_blanks for task in fitting):
        raise ConfigError(
            f"--template and --verbalizer make a cloze of single texts; {options.data.task_name} has others."
        )
    if cloze and not (template and verbalizer):
        raise ConfigError("A cloze needs both: --template with a blank, and --verbalizer with each label's words.")
    fitting = [task for task in fitting if task.model.fills_blanks == cloze]
    if len(fitting) > 1:
        family = Checkpoint(options.model.model_name_or_path).family
        fitting = [task for task in fitting if task.model.encoder_decoder == family.encoder_decoder]
    return fitting[0]


def task_of(model: PromptModel) -> ModelTask:
    return MODEL_TASKS[model.task]


def read_lines(lines: Iterable[Line], reading: Reading, structured: bool = False) -> TaskData:
    """Lines of input as the examples that the model reads; what is to be answered is left open.

    A line is a text, or words with spaces between them for a tagger. With `structured`, and always for questions and
    choices, it is a JSON object: {"text", "text_pair"}, {"tokens", "predicate"}, {"text", "choices"}, {"question",
    "context", "id"}, or {"instruction", "input"}; text_pair, predicate, id and input may be left off.

    Raises:
        DataError: with the line: it is not UTF-8, is not such an object, or differs from the others.
    """
    task = task_of(reading.model)
    if structured or task.line is None:
        return task.read([parsed(line) for line in lines], reading)
    key, value_of = task.line
    return task.read([Record(line[0], "", {key: value_of(text_of(line))}) for line in lines], reading)


def answer_lines(lines: Sequence[Line], reading: Reading, structured: bool = False) -> list[dict[str, Any]]:
    """What the model answers to each line; {"error": what is wrong} to one that `read_lines` refuses, which leaves the
    answers to the others as they are."""
    wrong: dict[int, dict[str, Any]] = {}
    try:
        data = read_lines(lines, reading, structured)
    except DataError:
        right: list[Line] = []
        for index, line in enumerate(lines):
            try:
                data = read_lines([*right, line], reading, structured)
                right.append(line)
            except DataError as error:
                wrong[index] = {"error": str(error)}
    answers = iter(answer(data, reading) if len(wrong) < len(lines) else ())
    return [wrong[index] if index in wrong else next(answers) for index in range(len(lines))]


def answer(data: TaskData, reading: Reading) -> list[dict[str, Any]]:
    """What the model answers to each example; see `ModelTask.answer`."""
    return task_of(reading.model).answer(data, reading)
