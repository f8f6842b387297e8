"""Sentences of words, each with a tag."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX, READ
from fastprompt.data.examples import TaggedTokens
from fastprompt.data.readers.conll import split_words
from fastprompt.data.readers.files import Record
from fastprompt.inference.lines import all_or_none
from fastprompt.inference.model_task import ModelTask, encoded, logits_of
from fastprompt.inference.reading import Reading
from fastprompt.models.token_classification import PromptForTokenClassification


class Tags(ModelTask):
    """Answers: "tags", one a word; null where a word is cut off after `max_length` of the model's tokens, or leaves
    none, as a zero-width space does."""

    model = PromptForTokenClassification
    kind = TaggedTokens
    line = ("tokens", lambda text: split_words(text.replace("\t", " ")))
    skips_blank_lines = True

    def outputs(self, data: TaggedTokens) -> dict[str, Any]:
        return {"label_names": data.label_names}

    def read(self, records: Sequence[Record], reading: Reading) -> TaggedTokens:
        sentences = []
        for record in records:
            tokens = record.get("tokens", list)
            if not tokens or not all(isinstance(token, str) and token for token in tokens):
                raise record.wrong("it has no words; a tagger takes one or more")
            sentences.append(tokens)
        predicates = all_or_none(records, "predicate", str)
        tags = [[0] * len(tokens) for tokens in sentences]
        return TaggedTokens(sentences, tags, reading.model.label_names, predicates and [[word] for word in predicates])

    def answer(self, data: TaggedTokens, reading: Reading) -> list[dict[str, Any]]:
        answers, rows = [], encoded(data, reading)
        for index, (row, found) in enumerate(zip(rows, logits_of(rows, reading), strict=True)):
            tokens = data.tokens[index]
            tags: list[str | None] = [None] * len(tokens)
            read = [word for word, tag in enumerate(row.get("unread_tags", [READ] * len(tokens))) if tag == READ]
            firsts = [i for i, label in enumerate(row["labels"]) if label != IGNORE_INDEX]  # the first token of each
            for word, position in zip(read, firsts, strict=True):
                tags[word] = reading.model.label_names[found[position].argmax()]
            given = {"tokens": tokens} | ({"predicate": data.pairs[index][0]} if data.pairs else {})
            answers.append({**given, "tags": tags})
        return answers
