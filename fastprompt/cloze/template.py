"""Written templates of cloze prompts: a text, a blank, and the pseudo tokens of a shallow prompt between words.

A template is text with `[X]` for what is asked about, one `[MASK]` for the blank, and `[P]` for each pseudo token
(Liu et al., 2021, arXiv:2103.10385): "[P][P] [X] was born in [MASK] ." A causal model reads from the left, so its blank
is last: "[P][P] [X] was born in [MASK]". There is no framework in it.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastprompt.errors import ConfigError

if TYPE_CHECKING:
    from fastprompt.pretrained.tokenizer import Tokenizer

PSEUDO, TEXT, BLANK = "[P]", "[X]", "[MASK]"
_SLOTS = re.compile(r"(\[P\]|\[MASK\])")
_COUNTS = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")


def written(template: str, causal: bool = False) -> str:
    """`template` as text: "(3, 3, 3)" becomes three pseudo tokens, the blank, three, the text, three.

    That is the order of P-Tuning's own code for LAMA, which also ends in a full stop where the last number is 0. Of a
    causal model it becomes three, the text, six, the blank, and a full stop after a blank is left off.
    """
    counts = _COUNTS.fullmatch(template.strip())
    if counts is None:
        return re.sub(rf"({re.escape(BLANK)})[\s.]*$", BLANK, template) if causal else template
    first, second, third = (PSEUDO * int(count) for count in counts.groups())
    if causal:
        return " ".join(filter(None, (first, TEXT, second + third, BLANK)))
    return " ".join(filter(None, (first, BLANK, second, TEXT, third or ".")))


class Template:
    """A template's parts, and token ids laid out by them.

    Args:
        text: as the module says, or P-Tuning's three numbers.

    Attributes:
        num_pseudo: how many pseudo tokens it has.

    Raises:
        ConfigError: it has no blank, no place for the text, or two of either.
    """

    def __init__(self, text: str) -> None:
        self.text = written(text)
        for slot, name in ((BLANK, "blank"), (TEXT, "place for the text")):
            if (found := self.text.count(slot)) != 1:
                raise ConfigError(f"The template {text!r} has {found or 'no'} {name} ({slot}); write one.")
        self.num_pseudo = self.text.count(PSEUDO)

    @cached_property
    def parts(self) -> list[str]:
        """Pseudo tokens, the blank, and the words between them, one of which holds `[X]`.

        A word's space stands before it, as byte-level vocabularies count it; the first has none.
        """
        parts = [part if _SLOTS.fullmatch(part) else part.rstrip() for part in _SLOTS.split(self.text.lstrip())]
        return [part for part in parts if part]

    def check_blank_is_last(self) -> None:
        """Raises: ConfigError: something stands after the blank, which a causal model would not read."""
        if self.parts[-1] != BLANK:
            raise ConfigError(
                f"The template {self.text!r} goes on behind its blank, which a causal model does not read; end it "
                f"with {BLANK}."
            )

    def lay_out(
        self,
        texts: Sequence[str],
        tokenizer: "Tokenizer",
        max_length: int,
        causal: bool = False,
        cut: list[int] | None = None,
    ) -> list[dict[str, Any]]:
        """One row per text: "input_ids", "token_type_ids", "mask_positions", and "pseudo_tokens" where it has some.

        "mask_positions" is the index of the blank, or of a causal model the last, after which the blank would stand;
        "pseudo_tokens" says of every place which pseudo token stands there, counted from 1, and 0 for the others. Their
        ids are placeholders: the model puts its prompt there.

        Args:
            max_length: cut texts so that a row has so many tokens at most; the template itself is never cut.
            causal: leave off the blank, which is last.
            cut: gets the indices of the texts of which tokens were cut off.

        Raises:
            ConfigError: the template leaves no room for a text.
        """
        before, after = tokenizer.special_tokens_around()
        parts, filler = self.parts, tokenizer.pad_token_id if causal else tokenizer.mask_token_id
        if causal:
            parts, after = parts[:-1], []
        fixed = dict(zip(parts, tokenizer.plain(parts), strict=True))
        taken = len(before) + len(after)
        taken += sum(1 if _SLOTS.fullmatch(part) else len(fixed[part]) for part in parts if TEXT not in part)
        (holder,) = (part for part in parts if TEXT in part)
        filled = self._filled(holder, texts, tokenizer, max_length - taken, [] if cut is None else cut)
        rows = []
        for ids_of_text in filled:
            ids, pseudo, blank = list(before), [0] * len(before), -1
            for part in parts:
                if part == BLANK:
                    blank = len(ids)
                if _SLOTS.fullmatch(part):
                    ids.append(filler)
                    pseudo.append(max(pseudo, default=0) + 1 if part == PSEUDO else 0)
                else:
                    piece = ids_of_text if part == holder else fixed[part]
                    ids += piece
                    pseudo += [0] * len(piece)
            ids += after
            if not ids:
                ids, pseudo = [tokenizer.empty_token_id], [0]
            row = {"input_ids": ids, "token_type_ids": [0] * len(ids), "mask_positions": blank % len(ids)}
            rows.append({**row, "pseudo_tokens": pseudo + [0] * len(after)} if self.num_pseudo else row)
        return rows

    def _filled(
        self, holder: str, texts: Sequence[str], tokenizer: "Tokenizer", room: int, cut: list[int]
    ) -> list[list[int]]:
        """The words around `[X]` with each text among them, cut to `room` tokens."""
        if room <= len(tokenizer.plain([holder.replace(TEXT, "")])[0]):
            raise ConfigError(
                f"The template {self.text!r} alone takes all the tokens that there are for it and a text; "
                f"shorten it, or raise max_length (--max_seq_length) if the model's positions allow."
            )
        filled = tokenizer.plain([holder.replace(TEXT, text) for text in texts])
        too_long = [row for row, ids in enumerate(filled) if len(ids) > room]
        for row in too_long:
            fitting = len(tokenizer.plain([texts[row]])[0]) - (len(filled[row]) - room)
            while len(filled[row]) > room:  # once, but for texts whose words join the template's
                shorter = tokenizer.cut([texts[row]], fitting)[0] if fitting > 0 else ""
                filled[row] = tokenizer.plain([holder.replace(TEXT, shorter)])[0]
                fitting -= 1
        cut += too_long
        return filled
