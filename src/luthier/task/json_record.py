"""JSON records: read strictly, compared by value, written in one way.

From the text `{"total": 12.50, "items": ["tea"]}` to the record with these two keys; `{"a": 1, "a": 2}`, `{"a": NaN}`,
`{"a": 1} Done.` and a Markdown fence around a record are not JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 32  # levels of a record: what walks through it must not run out of stack on what a model wrote


class NotARecord(Exception):
    """Why a text is no record, in a few words."""


def read_record(text: str) -> dict[str, Any]:
    """The JSON object that the text is, and nothing beside it but white space. Raises NotARecord.

    Refused, although Python's json takes them: a key that stands twice, NaN and Infinity, a number that no float holds,
    half a surrogate pair.
    """
    try:
        found = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_number, parse_float=_float)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as mistake:
        raise NotARecord(f"{mistake.msg} at character {mistake.pos + 1}") from None
    except UnicodeEncodeError:
        raise NotARecord("half of a surrogate pair") from None
    except RecursionError:
        raise NotARecord("nested too deeply") from None
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise NotARecord("a number with too many digits") from None
    if not isinstance(found, dict):
        raise NotARecord("JSON, but no object")
    if _deeper_than(found, DEEPEST):
        raise NotARecord("nested too deeply")
    return found


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotARecord(f"the key '{key}' stands twice")
        found[key] = value
    return found


def _no_number(name: str) -> Any:
    raise NotARecord(f"{name} is no JSON number")


def _float(source: str) -> float:
    value = float(source)
    if not math.isfinite(value):
        raise NotARecord(f"{source} is too large a number")
    return value


def record_text(record: Any) -> str:
    """A record as one line of JSON, in the order of its keys."""
    return json.dumps(record, ensure_ascii=False)


def canonical(text: str) -> str:
    """The text of a record with its keys sorted: two references are the same record where these are equal."""
    return json.dumps(read_record(text), ensure_ascii=False, sort_keys=True)


def ordered(value: Any, schema: Any) -> Any:
    """The value with the keys of each object in the order of the schema's properties; unknown keys come last."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        known = [key for key in properties if key in value]
        keys = [*known, *(key for key in value if key not in properties)]
        return {key: ordered(value[key], properties.get(key)) for key in keys}
    if isinstance(value, list):
        return [ordered(each, schema.get("items")) for each in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: numbers by value (1 is 1.0, and is not true), objects whatever their order."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(type(one) is type(other) or _numbers(one, other)) and bool(one == other)


def _numbers(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)
