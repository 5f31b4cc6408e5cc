"""Change: what it costs when the task changes, or the model is shut down: labels, people, fitting, judging again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from luthier.economics.money import Line, usd
from luthier.economics.service import people
from luthier.types import Economics, Family


def change_lines(
    family: Family, fitting: Iterable[Line], economics: Economics, *, learns: bool, people_too: bool = True
) -> list[Line]:
    """What is due at each change: fitting and evaluation as before, the team's hours, labels to learn from."""
    lines = [replace(line, what=f"{line.what}, again") for line in fitting]
    if people_too:
        lines += people("engineering, again", economics.change_hours.get(family, 0.0), economics)
    if learns and economics.labels_per_change and economics.usd_per_label:
        how = f"{economics.labels_per_change:,} examples at ${economics.usd_per_label:g}"
        sum_ = usd(economics.usd_per_label) * economics.labels_per_change
        lines.append(Line("labels, again", sum_, "once", "stated", "people", how))
    return [replace(line, due="a change") for line in lines]
