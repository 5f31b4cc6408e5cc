"""Frontier: which ways nobody beats in both cost and accuracy, and what one more right answer costs along them.

One example: $10 a thousand answers at 70 % right and $40 at 90 %: each of the 200 further right answers costs 15
cents. A way at $30 and 75 % is left out although nobody beats it in both: a mix of the other two is cheaper and better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Point:
    """A way with its cost for one answer and its share of right ones."""

    name: str
    usd: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a way stands. On the frontier `usd_per_extra` is what a further right answer costs beside the way before
    it; `beaten_by` names who is no dearer and no worse, or the two whose mix is."""

    point: Point
    place: Literal["frontier", "beaten", "beaten by a mix"]
    usd_per_extra: float | None = None
    beaten_by: tuple[str, ...] = ()


def frontier(points: Sequence[Point]) -> list[Placed]:
    """Each way with its place, the cheapest first (health economics: strong and extended dominance)."""
    ordered = sorted(points, key=lambda point: (point.usd, -point.accuracy))
    placed: dict[str, Placed] = {}
    kept: list[Point] = []
    for point in ordered:
        better = next((other for other in kept if other.accuracy >= point.accuracy), None)
        if better is not None:
            placed[point.name] = Placed(point, "beaten", beaten_by=(better.name,))
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-1], point):
            out = kept.pop()
            placed[out.name] = Placed(out, "beaten by a mix", beaten_by=(kept[-1].name, point.name))
        kept.append(point)
    for at, point in enumerate(kept):
        extra = _slope(kept[at - 1], point) if at else None
        placed[point.name] = Placed(point, "frontier", usd_per_extra=extra)
    return [placed[point.name] for point in ordered]


def _slope(low: Point, high: Point) -> float:
    return (high.usd - low.usd) / (high.accuracy - low.accuracy)
