"""Examples of every kind, more than the data are chunked by."""

from fastprompt.data.examples import (
    ClozeTexts,
    Instructions,
    LabelledTexts,
    MultipleChoices,
    TaggedTokens,
    TextToText,
)
from fastprompt.data.packed import CHUNK

ROWS = CHUNK + 50  # more than a chunk
TEXTS = [" ".join(["w1"] * (1 + row % 7)) for row in range(ROWS)]
WORDS = [text.split() for text in TEXTS]
LABELS = [row % 2 for row in range(ROWS)]
CONTEXTS = [""] * ROWS

KINDS = {
    "texts": LabelledTexts(TEXTS, LABELS),
    "numbers": LabelledTexts(TEXTS, [row / 3 for row in range(ROWS)], None),
    "pairs in groups": LabelledTexts(TEXTS, LABELS, pairs=TEXTS[::-1], groups=[row // 3 for row in range(ROWS)]),
    "blanks": ClozeTexts(TEXTS, LABELS, "[P][P] [X] is [MASK]"),
    "choices": MultipleChoices([[("w1 w2", text), (text, "w3")] for text in TEXTS], LABELS),
    "tags": TaggedTokens(WORDS, [[1] * len(words) for words in WORDS], ["O", "B-A"]),
    "unread tags": TaggedTokens([[*w, "\u200b"] for w in WORDS], [[1] * len(w) + [0] for w in WORDS], ["O", "B-A"]),
    "instructions": Instructions(TEXTS, CONTEXTS, TEXTS[::-1], "human-assistant"),
    "text to text": TextToText(TEXTS, TEXTS[::-1]),
}
