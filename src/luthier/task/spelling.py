"""Spelling: when two names count as the same, and which known name a misspelt one was meant to be."""

from __future__ import annotations

import re
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


def number_fix(key: str, text: str, example: str) -> str:
    """How to write a number that somebody wrote as people do: with a currency, a per cent sign, or their separators.

    >>> number_fix("at_least", "85 %", "0.85"), number_fix("input", "€ 0.05", "1")
    ('write a share as a number: at_least = 0.85', 'write the number alone, in US dollars: input = 0.05')
    >>> number_fix("monthly_requests", "300,000", "1")
    'a comma stands for nothing in TOML: monthly_requests = 300000, or 300.000 if the comma parts decimals'
    >>> number_fix("usd", "0,05", "1"), number_fix("usd", "1.250.000", "1")
    ('decimals stand after a point: usd = 0.05', 'write it without separators: usd = 1250000')
    >>> number_fix("usd", "many", "3")
    'write a number such as 3'
    """
    bare = text.strip().strip("$€£¥ \u00a0\u202f")
    if bare.endswith("%") and _NUMBER.fullmatch(share := bare[:-1].strip()):
        return f"write a share as a number: {key} = {float(share) / 100:g}"
    if bare != text.strip() and _NUMBER.fullmatch(bare):
        return f"write the number alone, in US dollars: {key} = {bare}"
    if _NUMBER.fullmatch(bare):
        return f"write it without quotes: {key} = {bare}"
    joined = re.sub(r"[ '\u00a0\u202f]", "", bare)
    if re.fullmatch(r"[1-9]\d{0,2},\d{3}", joined):
        whole, parted = joined.replace(",", ""), joined.replace(",", ".")
        return f"a comma stands for nothing in TOML: {key} = {whole}, or {parted} if the comma parts decimals"
    if re.fullmatch(r"-?\d+,\d+", joined):
        return f"decimals stand after a point: {key} = {joined.replace(',', '.')}"
    plain = joined.replace(",", "").replace(".", "")
    return f"write it without separators: {key} = {plain}" if plain.isdecimal() else f"write a number such as {example}"


_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
