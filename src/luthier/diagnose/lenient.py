"""Lenient: whether an answer says what a reference says, whatever form it has.

One example: the reference is "<answer>Oslo</answer>", as all references of the task are written, and the answer "It is
Oslo." Without what all references share, "oslo" stands among the words of the answer: right in substance.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 60  # words: an answer that says so much may say anything
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_NUMBER = re.compile(r"^\d[\d,]*(?:\.\d+)?$")


@dataclass(frozen=True)
class Lenient:
    """Compares answers with references in substance: words alone, in order, without the frame all references share.

    `before` and `after` are that frame: the longest text with which all training references begin and end. Records are
    compared value by value. It forgives case, punctuation, markup, how numbers are grouped, words around a short right
    answer, and a missing frame. It does not know synonyms, translations, or units.
    """

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, references: Sequence[str]) -> Lenient:
        """The frame that all references share, where there are at least two different ones."""
        texts = list(dict.fromkeys(reference.strip() for reference in references))
        if len(texts) < 2:
            return cls()
        before = _shared(texts)
        after = _shared([text[len(before) :][::-1] for text in texts])[::-1]
        # a frame ends where a word ends: "colour-red" and "colour-rose" share no "r"
        before = before[: len(before) - len(_trailing_word(before))]
        after = after[len(_leading_word(after)) :]
        return cls(before, after)

    def same(self, answer: str, reference: str) -> bool:
        """Whether the answer says what the reference says.

        >>> Lenient().same("**Oslo.**", "oslo"), Lenient().same("It is Oslo", "Oslo"), Lenient().same("Rome", "Oslo")
        (True, True, False)
        """
        record = _record(reference)
        if record is not None:
            return _same_record(answer, record)
        core = words(self.core(reference))
        said = words(self.core(answer))
        if not core or not said or len(said) > max(LONGEST, 2 * len(core)):
            return False
        return f" {' '.join(core)} " in f" {' '.join(said)} "

    def core(self, text: str) -> str:
        """A text without the frame that all references share, or as much of it as it has."""
        inner = text.strip()
        if self.before.strip() and inner.startswith(self.before.strip()):
            inner = inner[len(self.before.strip()) :]
        if self.after.strip() and inner.endswith(self.after.strip()):
            inner = inner[: -len(self.after.strip())]
        return inner


def words(text: str) -> list[str]:
    """The words of a text in lower case, numbers without grouping and trailing zeros.

    >>> words("In 1,500.0 B.C. -- *Oslo*!")
    ['in', '1500', 'b', 'c', 'oslo']
    """
    return [_plain(word) for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def _plain(word: str) -> str:
    if not _NUMBER.match(word):
        return word
    number = word.replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number


def _shared(texts: Sequence[str]) -> str:
    """The longest text that all of them begin with."""
    first, last = min(texts), max(texts)
    same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:same]


def _trailing_word(text: str) -> str:
    found = re.search(r"\w+$", text)
    return found.group(0) if found else ""


def _leading_word(text: str) -> str:
    found = re.match(r"\w+", text)
    return found.group(0) if found else ""


def _record(text: str) -> Any:
    """The JSON object or list that a text is; None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) and found else None


def _same_record(answer: str, wanted: Any) -> bool:
    """Whether an answer holds a record with the same values, or, as a text, every one of them."""
    begin, end = min((at for at in map(answer.find, "{[") if at >= 0), default=-1), max(map(answer.rfind, "}]"))
    found = _record(answer[begin : end + 1]) if 0 <= begin < end else None
    if found is not None:
        return _leaves(found) == _leaves(wanted)
    said = f" {' '.join(words(answer))} "
    return len(said.split()) <= LONGEST and all(f" {value} " in said for _, value in _leaves(wanted) if value)


def _leaves(value: Any, path: str = "") -> set[tuple[str, str]]:
    """The values of a record as plain words with their keys, in any order."""
    if isinstance(value, Mapping):
        found = [_leaves(each, f"{path}.{' '.join(words(str(key)))}") for key, each in value.items()]
        return set().union(*found)
    if isinstance(value, list):
        return set().union(*(_leaves(each, path) for each in value))
    return {(path, " ".join(words("" if value is None else str(value))))}
