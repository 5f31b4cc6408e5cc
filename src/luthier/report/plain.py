"""Plain values: any noun as something JSON can hold, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

ELLIPSIS = "…"


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, finite numbers, booleans and None; what is no number becomes None.

    >>> plain({"a": (1, float("nan")), 2: {"x"}})
    {'a': [1, None], '2': ['x']}
    """
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
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
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    head = flat[: limit - 1]
    at = head.rfind(" ")
    return (head[:at] if at > limit // 2 else head).rstrip() + ELLIPSIS


def percent(value: float, *, unit: bool = True) -> str:
    """A share as per cent with one decimal; more where rounding would claim "all" or "none" for what is neither.

    >>> percent(0.9214), percent(0.99996), percent(0.0), percent(1.0, unit=False)
    ('92.1 %', '99.996 %', '0.0 %', '100.0')
    """
    hundredfold = 100 * value
    digits = 1
    while digits < 4 and 0 < value < 1 and round(hundredfold, digits) in (0.0, 100.0):
        digits += 1
    return f"{hundredfold:.{digits}f}" + (" %" if unit else "")


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


def count(value: float) -> str:
    """
    >>> count(1234567)
    '1,234,567'
    """
    return f"{round(value):,}"


def duration(seconds: float) -> str:
    """
    >>> duration(0.0123), duration(4.2), duration(65), duration(3725)
    ('0.01 s', '4.2 s', '1 min 5 s', '1 h 2 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.5:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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
        return ", ".join(phrase(item) for item in value) or "none"
    return str(value)


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
