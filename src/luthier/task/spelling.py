"""Spelling: when two names count as the same, and which known name a misspelt one was meant to be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches


def fold(text: str) -> str:
    """The form in which two spellings of a label or a column name count as the same, however they are encoded.

    >>> fold("Cafe\u0301") == fold("caf\u00e9\u200b")
    True
    """
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    return " ".join(seen.split()).casefold()


def suggest(name: str, known: Sequence[str]) -> str:
    """'did you mean X? ' when a known name is close, else nothing.

    >>> suggest("lorra", ["tfidf", "lora"])
    "did you mean 'lora'? "
    """
    close = get_close_matches(fold(name), [fold(each) for each in known], n=1)
    found = [each for each in known if close and fold(each) == close[0]]
    return f"did you mean {found[0]!r}? " if found else ""
