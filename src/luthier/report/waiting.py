"""Waiting: what a probe of latency found, against what is demanded, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.types import Constraints

PERCENT = {"p50": "50 %", "p95": "95 %", "p99": "99 %"}


def milliseconds(value: float | None) -> str:
    """
    >>> milliseconds(3.14159), milliseconds(812.3), milliseconds(12345.0), milliseconds(None)
    ('3.1 ms', '812 ms', '12.3 s', 'unknown')
    """
    if value is None:
        return "unknown"
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


def quantile_in_words(found: Mapping[str, Any]) -> str:
    """A quantile with its interval; an end that could not be shown is "unknown".

    >>> quantile_in_words({"value": 812.0, "low": 760.0, "high": None})
    '812 ms [760 ms, unknown]'
    """
    if found["value"] is None:
        return "no answer"
    return f"{milliseconds(found['value'])} [{milliseconds(found['low'])}, {milliseconds(found['high'])}]"


def load_in_words(latency: Mapping[str, Any]) -> str:
    """
    >>> load_in_words({"requests_per_s": 0.342, "together": 1}), load_in_words({"requests_per_s": 2.0, "together": 4})
    ('0.342 requests a second', '2 requests a second, 4 at a time')
    """
    together = f", {latency['together']} at a time" if latency["together"] > 1 else ""
    return f"{latency['requests_per_s']:.3g} requests a second{together}"


def too_slow(latency: Mapping[str, Any] | None, constraints: Constraints) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which limits of latency are broken, and which are not shown to hold, in words.

    A limit is broken where the whole interval lies above it, and holds where the whole interval lies below.
    """
    limits = constraints.latency_ms
    if not limits:
        return (), ()
    if latency is None:
        return (), ("latency: NOT MEASURED",)
    if not latency["keeps_up"]:
        why = f"latency: {load_in_words(latency)} arrive faster than they are answered, so the wait has no end"
        return ((), (f"{why} on this machine",)) if latency.get("elsewhere") else ((why,), ())
    broken, unshown = [], []
    for name, most in limits.items():
        found = latency["ms"][name]
        limit = f"at most {milliseconds(most)}"
        at = f"latency_{name}_ms: {quantile_in_words(found)} at {load_in_words(latency)}"
        if latency.get("elsewhere"):
            unshown.append(f"{at}, measured here and not on {latency['elsewhere']}, against {limit}")
        elif (found["low"] is not None and found["low"] > most) or found["value"] is None:
            broken.append(f"{at} against {limit}")
        elif found["high"] is None or found["high"] > most:
            unshown.append(f"{at} is not shown to be {limit} ({latency['requests']:,} requests)")
    return tuple(broken), tuple(unshown)


def latency_sentence(latency: Mapping[str, Any] | None) -> str:
    """What the probe found, with what asking one after the other would have hidden; nothing where there was none."""
    if latency is None:
        return ""
    quantiles = ", ".join(f"{PERCENT[name]} within {quantile_in_words(each)}" for name, each in latency["ms"].items())
    text = f"At {load_in_words(latency)} it answers {quantiles} ({latency['requests']:,} requests"
    text += f", {latency['failed']:,} without an answer)" if latency["failed"] else ")"
    if not latency["keeps_up"]:
        text += "; requests arrive faster than they are answered, so the wait has no end"
    alone = latency["alone_ms"]["p99"]["value"]
    waited = latency["ms"]["p99"]["value"]
    if alone is not None and waited is not None and waited > 1.2 * alone:
        text += f"; answering alone takes {milliseconds(alone)} at the 99 % quantile, the rest is waiting in line"
    if latency.get("elsewhere"):
        text += f"; on this machine, and not on {latency['elsewhere']}"
    return f"{text}."
