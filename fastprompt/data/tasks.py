"""The tasks by the names that P-Tuning v2's command gives them."""

from fastprompt.data.sst2 import LabelledTexts, load_reviews, load_sst2
from fastprompt.errors import ConfigError


def load_task(task_name: str, dataset_name: str | None, data_dir: str | None, split: str) -> LabelledTexts:
    """Split "train" or "validation" of a task.

    Raises:
        ConfigError: there is no such task or data set.
        DataError: its files or the hub cannot be read.
    """
    if task_name == "reviews":
        if dataset_name or data_dir:
            raise ConfigError("reviews is embedded; it takes neither --dataset_name nor --data_dir.")
        return load_reviews(split)
    if (task_name, dataset_name) == ("glue", "sst2"):
        return load_sst2(split, data_dir)
    named = f"{task_name}/{dataset_name}" if dataset_name else task_name or "none"
    raise ConfigError(f"The task is {named}; there are --task_name glue --dataset_name sst2 and --task_name reviews.")
