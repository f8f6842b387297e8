"""Batches that are mappings but no dicts in fastNLP's drivers."""

import functools
from collections.abc import Mapping
from typing import Any


def take_mappings(driver: type) -> None:
    """Let a driver of fastNLP's take a batch that is any mapping: transformers' collators make a BatchEncoding.

    fastNLP hands the values of a dict to `train_step` by their names, and any other batch as the one argument. Can go
    when it asks whether the batch is a Mapping.
    """
    move = driver.move_data_to_device

    @functools.wraps(move)
    def move_data_to_device(self: Any, batch: Any) -> Any:
        return move(self, dict(batch) if isinstance(batch, Mapping) and not isinstance(batch, dict) else batch)

    driver.move_data_to_device = move_data_to_device
