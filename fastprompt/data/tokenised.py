"""The rows of token ids that a data set's batches are made of: in memory, or of large data in the cache."""

from fastprompt.data.encoding import READ, Encodable, encode_rows
from fastprompt.data.examples import Selectable, TaggedTokens
from fastprompt.data.packed import Column, PackedRows, in_chunks
from fastprompt.data.squad_windows import SquadWindows, StoredWindows
from fastprompt.pretrained.tokenizer import Tokenizer

import tokenizers

# So many examples are tokenised in the time that the cache's library takes to be imported, or in little more.
STORED_FROM = 50_000


def tokenised(data: Encodable, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> PackedRows:
    """The rows of `encode`, packed.

    Those of `STORED_FROM` examples or more are memory-mapped from an entry of `fastprompt.data.store`, whose key is the
    examples, the tokenizer, the length and the code; it holds the notes too.
    """
    if isinstance(data, Selectable) and len(data) >= STORED_FROM:
        found = _from_store(data, tokenizer, max_length, notes)
        if found is not None:
            return found
    if isinstance(data, SquadWindows) and isinstance(data.windows, StoredWindows):
        notes += data.notes
        return PackedRows(_without(["questions", "begins", "ends"], data.windows.rows.chunks))
    chunks = list(in_chunks(encode_rows(data, tokenizer, max_length, notes)))
    rows = PackedRows(_without(_constant(data, chunks), chunks))
    if isinstance(data, SquadWindows):
        data.share(rows)
    return rows


def _constant(data: Encodable, chunks: list[dict[str, Column]]) -> list[str]:
    """The columns that say nothing: "unread_tags" where all tags are read."""
    read = isinstance(data, TaggedTokens) and all((chunk["unread_tags"].values == READ).all() for chunk in chunks)
    return ["unread_tags"] if read else []


def _without(names: list[str], chunks: list[dict[str, Column]]) -> list[dict[str, Column]]:
    return [{name: column for name, column in chunk.items() if name not in names} for chunk in chunks]


def _from_store(data: Selectable, tokenizer: Tokenizer, max_length: int, notes: list[str]) -> PackedRows | None:
    from fastprompt.data import store

    def write(add) -> dict[str, list[str]]:
        found: list[str] = []
        constant = ["unread_tags"] * isinstance(data, TaggedTokens)
        for chunk in in_chunks(encode_rows(data, tokenizer, max_length, found)):
            constant = constant and _constant(data, [chunk])
            add(chunk)
        return {"notes": found, "constant": constant}

    key = {"data": data.identity, "tokenizer": tokenizer.fingerprint, "max_length": max_length}
    entry = store.stored("tokens", {**key, "tokenizers": tokenizers.__version__}, write, notes)
    if entry is None:
        return None
    notes += entry.about["notes"]
    return PackedRows(_without(entry.about["constant"], [store.unpacked(batch) for batch in entry.batches]))
