"""ELECTRA (Clark et al., 2020, arXiv:2003.10555), portable: BERT with embeddings of a width of their own."""

from typing import Any

from fastprompt.backbones import bert
from fastprompt.framework import nn


class Backbone(bert.Backbone):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.projects = self.geometry.embedding_size != self.geometry.hidden_size
        if self.projects:
            self.embeddings_project = nn.Linear(self.geometry.embedding_size, self.geometry.hidden_size)

    def make_embeddings(self, config: dict[str, Any]) -> bert.BertEmbeddings:
        return bert.BertEmbeddings(config, self.geometry.embedding_size)

    def embed_inputs(self, inputs_embeds: Any, token_type_ids: Any | None, position_ids: Any) -> Any:
        embedded = super().embed_inputs(inputs_embeds, token_type_ids, position_ids)  # (B, T, embedding_size)
        return self.embeddings_project(embedded) if self.projects else embedded
