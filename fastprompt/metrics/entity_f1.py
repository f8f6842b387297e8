"""F1 of entities: a prediction counts where its first token, its last token and its type are all right."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.encoding import IGNORE_INDEX, READ
from fastprompt.data.readers.conll import is_entity_tag
from fastprompt.errors import DataError
from fastprompt.framework import ops
from fastprompt.metrics.gathering import GatheredMetric

Entity = tuple[str, int, int]  # type, first and last token


def find_entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence's tags, in BIO (IOB1 or IOB2) or IOBES.

    Wrong sequences are read as conlleval reads them: an I- or E- that goes on with nothing of its type begins an
    entity, and whatever does not go on with an entity ends it. Source: Tjong Kim Sang & Buchholz, CoNLL-2000.
    """
    found: list[Entity] = []
    last, kind, first = "O", "", 0  # the previous tag's letter and type; where its entity began
    for index, tag in enumerate([*tags, "O"]):
        letter, _, name = tag.partition("-")
        if last in ("B", "I") and letter in ("I", "E") and name == kind:
            last = letter
            continue
        if last != "O":
            found.append((kind, first, index - 1))
        last, kind, first = letter, name, index
    return found


class EntityF1(GatheredMetric):
    """{"entity_f1", "precision", "recall"} over all entities of all types (micro average).

    Args:
        label_names: the tags by class index.

    Raises:
        DataError: a tag marks no entity.
    """

    def __init__(self, label_names: Sequence[str]) -> None:
        if wrong := [name for name in label_names if not is_entity_tag(name)]:
            raise DataError(f"The tag {wrong[0]!r} is neither O nor B-TYPE, I-TYPE (BIO), E-TYPE, S-TYPE (IOBES).")
        super().__init__()
        self.label_names = list(label_names)

    def update(self, pred: Any, target: Any, unread_tags: Any = None) -> None:
        """Score a batch of sentences, each as a whole, as conlleval does.

        Args:
            pred, target: (B, T) class indices; positions with target -100 are left out.
            unread_tags: (B, W), where sentences have words that the model did not see: such a word's tag, READ for the
                others, and -100 as padding. Nothing (O) was predicted for it.
        """
        pred, target = ops.to_numpy(pred), ops.to_numpy(target)
        unread = [()] * len(pred) if unread_tags is None else ops.to_numpy(unread_tags).tolist()
        for row, labels, missed in zip(pred, target, unread, strict=True):
            counted = labels != IGNORE_INDEX
            tags = [[self.label_names[i] for i in x[counted]] for x in (row, labels)]
            for word, tag in enumerate(missed):
                if tag not in (READ, IGNORE_INDEX):
                    tags[0].insert(word, "O")
                    tags[1].insert(word, self.label_names[tag])
            predicted, gold = map(find_entities, tags)
            self.rows.append((len(set(predicted) & set(gold)), len(predicted), len(gold)))

    def score(self, rows: list[tuple[int, int, int]]) -> dict[str, float]:
        right, predicted, gold = (sum(column) for column in zip(*rows, strict=True))
        precision, recall = right / predicted if predicted else 0.0, right / gold if gold else 0.0
        both = predicted + gold
        return {"entity_f1": 2 * right / both if both else 0.0, "precision": precision, "recall": recall}
