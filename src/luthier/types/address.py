"""Content addresses: what tells one content from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no file and no database can hold.

    >>> whole("a\\ud83d") == "a\\ufffd", whole("\\ud83d\\ude00") == "\\U0001f600"
    (True, True)
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def digest(*parts: Any) -> str:
    """A content address: the first 32 hex digits of the SHA-256 of the parts as canonical JSON.

    >>> digest("a", {"b": 1}) == digest("a", {"b": 1})
    True
    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}  # `asdict` would copy all below it
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no content address for a {type(value).__name__}")
