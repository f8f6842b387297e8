"""What a command's options ask for, checked before a framework is imported: a mistake is answered at once."""

from pathlib import Path

from fastprompt.data.tasks import find_source
from fastprompt.errors import ConfigError, DataError
from fastprompt.metrics.tasks import scores_of
from fastprompt.options.groups import DataOptions, ModelOptions
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import check_name
from fastprompt.saving import prompt_file
from fastprompt.saving.files import refuse_to_replace
from fastprompt.saving.run_folder import RUN_FILES

_LAMA = "lama"  # which goes on in a folder that holds its run, and looks its data up by itself


def require_prompt(options: ModelOptions) -> None:
    """Raises: ConfigError: the model is no saved prompt."""
    if not options.is_prompt:
        raise ConfigError(f"{options.model_name_or_path} holds no prompt ({prompt_file.CONFIG_FILE}); train one first.")


def check_training(options: TrainOptions) -> None:
    """Raises: FastpromptError: there is no such model, task, data or score, or the run's folder holds another run."""
    run = options.run
    if not run.do_train:
        require_prompt(options.model)
    check_inputs(options)
    _check_start(options.model)
    going_on = options.data.task_name == _LAMA or (run.do_train and run.resume_from_checkpoint)
    if not going_on:
        refuse_to_replace(Path(run.output_dir).expanduser(), RUN_FILES, run.overwrite_output_dir)


def _check_start(options: ModelOptions) -> None:
    """Raises: ConfigError: there is no prompt to start from, or the model is a prompt itself."""
    if options.init_prompt is None:
        return
    if not prompt_file.is_prompt(options.init_prompt):
        raise ConfigError(f"--init_prompt is {options.init_prompt}, which holds no prompt ({prompt_file.CONFIG_FILE}).")
    if options.is_prompt:
        raise ConfigError(f"{options.model_name_or_path} is a saved prompt; leave --init_prompt off.")


def check_inputs(options: TrainOptions) -> None:
    """Raises: FastpromptError: there is no such model, task, data or score."""
    data, metric = options.data, options.evaluation.metric_for_best_model
    check_name(options.model.model_name_or_path)
    if data.task_name == _LAMA:
        _check_lama(options)
        return
    check_data(data)
    if metric is not None:
        scores_of(data.task_name, data.dataset_name).check_name(metric)


def _check_lama(options: TrainOptions) -> None:
    """Raises: ConfigError: an option cannot work with LAMA."""
    data, model = options.data, options.model
    if data.data_dir is None:
        raise ConfigError("lama needs --data_dir, the folder with relations.jsonl.")
    if options.config.verbalizer or data.dataset_name:
        raise ConfigError("lama takes neither --verbalizer nor --dataset_name: its blanks are filled with words.")
    if model.is_prompt:
        raise ConfigError(f"{model.model_name_or_path} is a saved prompt; lama starts from its backbone.")


def check_evaluation(options: TrainOptions) -> None:
    """Raises: FastpromptError: there is no such prompt, task or data."""
    require_prompt(options.model)
    check_data(options.data)


def check_data(options: DataOptions) -> None:
    """Raises: FastpromptError: there is no such task or data set, or its folder is not there."""
    find_source(options.task_name, options.dataset_name, options.data_dir)
    if options.data_dir is not None and not Path(options.data_dir).expanduser().exists():
        raise DataError(
            f"There is no folder {options.data_dir}; --data_dir names the folder with the data set's files."
        )


def check_prediction(options: TrainOptions, source: str | None) -> None:
    """Raises: FastpromptError: there is no such prompt, or no such file of lines."""
    require_prompt(options.model)
    if source is not None and not Path(source).exists():
        raise DataError(f"{source} cannot be read (No such file or directory).")
