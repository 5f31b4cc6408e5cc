"""Plain values: any noun as something JSON can hold, and numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

REPORT = 1  # the shape of the summary dict; the store keeps such dicts, so a renderer must know which it was given
ELLIPSIS = "…"
# control characters, and those that reorder the text around them; the joiners within emoji and scripts stay
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)  # strftime would follow the locale


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, finite numbers, booleans and None; what is no number becomes None.

    >>> plain({"a": (1, float("nan")), 2: {"x"}})
    {'a': [1, None], '2': ['x']}
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair could not be written to any file
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy here
        return plain(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return str(value)


def shorten(text: str, limit: int) -> str:
    """The text on one line, cut after `limit` characters at a word's end where there is one.

    >>> shorten("What is the capital of France?", 14)
    'What is the…'
    """
    flat = UNSEEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    if len(flat) <= limit:
        return flat
    head = flat[: limit - 1]
    at = head.rfind(" ")
    return (head[:at] if at > limit // 2 else head).rstrip() + ELLIPSIS


def percent(value: float, *, unit: bool = True) -> str:
    """A measured share as per cent with one decimal.

    >>> percent(0.9214), percent(0.0), percent(1.0, unit=False)
    ('92.1 %', '0.0 %', '100.0')
    """
    return f"{100 * value:.1f}" + (" %" if unit else "")


def small_share(value: float) -> str:
    """A share far below one, with two digits that count.

    >>> small_share(0.00625), small_share(0.0)
    ('0.62 %', '0 %')
    """
    return f"{100 * value:.2g} %"


def level(value: float) -> str:
    """A bar somebody chose, with the digits they gave it and no more.

    >>> level(0.85), level(0.995), level(1)
    ('85 %', '99.5 %', '100 %')
    """
    return f"{100 * value:.10g} %"


def interval(estimate: Mapping[str, Any]) -> str:
    """
    >>> interval({"mean": 0.921, "low": 0.89, "high": 0.946})
    '92.1 % [89.0, 94.6]'
    """
    low, high = percent(estimate["low"], unit=False), percent(estimate["high"], unit=False)
    return f"{percent(estimate['mean'])} [{low}, {high}]"


def points(share: float) -> str:
    """A difference of two shares in percentage points, always with its sign.

    >>> points(0.3125), points(-0.04)
    ('+31.2', '−4.0')
    """
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def count(value: float) -> str:
    """
    >>> count(1234567)
    '1,234,567'
    """
    return f"{round(value):,}"


def duration(seconds: float | None) -> str:
    """
    >>> duration(0), duration(0.0123), duration(4.2), duration(65), duration(3725)
    ('0 s', '0.01 s', '4.2 s', '1 min 5 s', '1 h 2 min')
    """
    if seconds is None:
        return "unknown"
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.5:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(text: str) -> str:
    """A time stamp for people; other text stays as it is.

    >>> moment("2030-01-02T09:08:41.5+00:00"), moment("soon")
    ('2 January 2030, 09:08 UTC', 'soon')
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}, {at:%H:%M}{zone}"


def phrase(value: Any) -> str:
    """A plain value as a person reads it: no braces, no quotes, numbers with as many digits as they deserve.

    >>> phrase({"epochs": 2, "rate": 0.001}), phrase([True, None, 12000]), phrase(0.123456789)
    ('epochs 2, rate 0.001', 'yes, none, 12,000', '0.1235')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(key))} {phrase(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(phrase(item) for item in value) or "none"
    return str(value) or "(empty)"


def words(key: str) -> str:
    """
    >>> words("split_hash")
    'split hash'
    """
    return key.replace("_", " ")


def flat(values: Mapping[str, Any], *, before: str = "") -> list[dict[str, str]]:
    """A nested mapping as rows of `what` and `value`, in its own order; short nested mappings stay on one row.

    >>> flat({"seed": 7, "split": {"train": 10}})
    [{'what': 'seed', 'value': '7'}, {'what': 'split', 'value': 'train 10'}]
    """
    rows = []
    for key, value in values.items():
        what = f"{before}{words(str(key))}"
        if isinstance(value, Mapping) and len(phrase(value)) > 72:
            rows += flat(value, before=f"{what}: ")
        else:
            rows.append({"what": what, "value": phrase(value)})
    return rows
