"""The command `fastprompt evaluate`: a saved prompt's scores."""

from typing import Any, TextIO

from fastprompt.commands.request import require_prompt
from fastprompt.commands.setup import Setup, describe, load_model, load_split, make_loader, print_mapping, score
from fastprompt.options.train import TrainOptions
from fastprompt.saving import prompt_file


def main(options: TrainOptions, results: TextIO) -> int:
    print_mapping(evaluate_prompt(options), results)
    return 0


def evaluate_prompt(options: TrainOptions) -> dict[str, Any]:
    """A saved prompt's metrics on a task's evaluation split."""
    require_prompt(options.model)
    setup = Setup(options)
    data = load_split(setup, "validation", prompt_file.read_description(options.model.model_name_or_path).label_names)
    model = load_model(setup, data)
    scores = score(setup, model, make_loader(setup, model, data))
    return {**scores, "eval_samples": len(data), **describe(model, setup.device)}
