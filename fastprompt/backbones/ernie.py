"""ERNIE 1 to 3 (Sun et al., 2019 to 2021, arXiv:1904.09223, 1907.12412, 2107.02137), portable: BERT, from ERNIE 2 on
with an embedding of the pretraining task."""

from typing import Any

from fastprompt.backbones import bert
from fastprompt.framework import nn


class ErnieEmbeddings(bert.BertEmbeddings):
    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__(config, width)
        self.has_tasks = config.get("use_task_id", False)
        if self.has_tasks:
            self.task_type_embeddings = nn.Embedding(config.get("task_type_vocab_size", 3), width)

    def forward(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        if self.has_tasks:  # task 0, the stock model's default
            inputs_embeds = inputs_embeds + self.task_type_embeddings(position_ids * 0)
        return super().forward(inputs_embeds, token_type_ids, position_ids)


class Backbone(bert.Backbone):
    def make_embeddings(self, config: dict[str, Any]) -> ErnieEmbeddings:
        return ErnieEmbeddings(config, config["hidden_size"])
