"""Render: the summary dict as one self-contained HTML file or as Markdown, and nothing but that dict."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier.errors import StoreError
from luthier.report import plain
from luthier.report.amounts import days_in_words, dollars, months_in_words
from luthier.report.shapes import frontier_shape, tornado_shape, totals_shape
from luthier.report.waiting import milliseconds
from luthier.report.why import estimate_of, place

NUMBERS: tuple[Callable[..., str], ...] = (
    *(plain.percent, plain.small_share, plain.level, plain.interval, plain.points),
    *(plain.count, plain.duration, plain.moment),
)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MOST_STEPS = 6
TOGETHER = re.compile(r" (?=%)|(?<=%) (?=\[)|(?<=\d,) (?=[\d.]+\])")
NO_BREAK = "\N{NO-BREAK SPACE}"
# what Markdown would read as markup; a line break would end a table row
MARKUP = re.compile(r"([\\`*_\[\]|~#])")


def html(summary: Mapping[str, Any]) -> str:
    """The report as one HTML file: no script, no request, all text from the task escaped. Errors: StoreError."""
    _check(summary)
    return environment(escape=True).get_template("report.html").render(**summary, axis=axis(summary))


def calculator(name: str, run: str | None, costs: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    """The interactive page of costs as one HTML file: works offline, calculates by a script in it.

    `costs` is what `luthier.report.worth.told` gave, `numbers` what the script calculates with (`page_numbers`).
    """
    # inside a script element only the end of it is markup
    data = Markup(json.dumps(numbers, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))
    template = environment(escape=True).get_template("calculator.html")
    return template.render(name=name, run=run, costs=costs, data=data)


def markdown(summary: Mapping[str, Any]) -> str:
    """The same report as Markdown. Errors: StoreError."""
    _check(summary)
    escaped = _each_text(summary, markdown_text)
    text = environment(escape=False).get_template("report.md").render(**escaped)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _check(summary: Mapping[str, Any]) -> None:
    if summary.get("report") != plain.REPORT:
        raise StoreError(
            "this summary was kept by another version of luthier",
            where="the report",
            fix="run `luthier run` again: what was measured is in the store and is not measured twice",
        )


@cache  # compiling the templates takes longer than filling them
def environment(*, escape: bool) -> Environment:
    """The templates with the filters for numbers; `escape`: for HTML."""
    environment = Environment(
        loader=PackageLoader("luthier.report", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for one in NUMBERS:
        environment.filters[one.__name__] = _joined(one) if escape else one
    environment.filters["anchor"] = anchor
    environment.filters["tight"] = tight
    environment.filters["label_shift"] = _label_shift
    environment.filters["narrowing_shape"] = narrowing_shape
    environment.filters["training_shape"] = training_shape
    environment.filters["learning_shape"] = learning_shape
    for shape in (totals_shape, frontier_shape, tornado_shape, months_in_words):
        environment.filters[shape.__name__] = shape
    environment.filters["dollars"] = dollars
    environment.filters["place"] = place
    environment.filters["signed"] = lambda value: f"{round(value):+d}".replace("-", "\N{MINUS SIGN}") if value else "0"
    environment.filters["unsigned"] = lambda value: f"{round(value)}".replace("-", "\N{MINUS SIGN}")
    environment.filters["estimate_of"] = estimate_of
    environment.filters["days"] = days_in_words
    environment.filters["milliseconds"] = milliseconds
    environment.globals["tokens_in"] = tokens_in
    return environment


def _joined(number: Callable[..., str]) -> Callable[..., str]:
    """A number that no line break divides from its unit."""
    return lambda *given, **options: number(*given, **options).replace(" ", NO_BREAK)


def tight(text: str) -> str:
    """A sentence in which no line break divides a number from its per cent sign or an interval in two."""
    return TOGETHER.sub(NO_BREAK, text)


def anchor(name: str) -> str:
    """
    >>> anchor("lora@smollm2-135m")
    'rung-lora-smollm2-135m'
    """
    return "rung-" + re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def tokens_in(usage: Mapping[str, int]) -> int:
    """All tokens that a model read, computed or taken from its cache."""
    return usage["fresh_tokens"] + usage["cached_tokens"] + usage["cache_write_tokens"]


def axis(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The scale of the ladder's picture: start, end and ticks in shares, the finest that has at most six steps."""
    estimates = [candidate["estimate"] for candidate in summary["candidates"] if candidate["estimate"]]
    target = summary["verdict"]["target"]["at_least"]
    low = min([target, *(estimate["low"] for estimate in estimates)]) if estimates else 0.0
    high = max([target, *(estimate["high"] for estimate in estimates)]) if estimates else 1.0
    for step in STEPS:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first <= MOST_STEPS:
            break
    start, end = first * step, last * step
    ticks = [
        {"share": round(at * step, 10), "x": round(100 * (at - first) / (last - first), 3)}
        for at in range(first, last + 1)
    ]
    return {"start": start, "end": end, "ticks": ticks, "at": lambda share: _place(share, start, end)}


def _label_shift(x: float) -> str:
    """Centred over its place, except near an end, where it would stick out."""
    return f"-{x if x > 88 or x < 12 else 50:g}%"


def _place(share: float, start: float, end: float) -> float:
    return round(100 * min(1.0, max(0.0, (share - start) / (end - start))), 3)


def narrowing_shape(points: Sequence[Sequence[float]]) -> dict[str, str]:
    """The band between low and high and the line of the mean, as SVG points in a box of 100 by 100."""
    last = points[-1][0]
    xs = [round(100 * point[0] / last, 2) for point in points]

    def line(column: int) -> list[str]:
        return [f"{x},{round(100 - 100 * point[column], 2)}" for x, point in zip(xs, points, strict=True)]

    return {"band": " ".join(line(3) + line(2)[::-1]), "mean": " ".join(line(1))}


def training_shape(training: Mapping[str, Any]) -> dict[str, Any]:
    """The lines of a fine-tune as SVG points in a box of 100 by 100: losses from 0 to the highest, shares from 0 to 1.

    The dev checks are shares of right answers, or losses where answers are written.
    """
    steps, checks = training["steps"], training["checks"]
    losses = [loss for _, loss in training["points"]] + [check["loss"] for check in checks]
    top = max(losses) or 1.0
    shares = bool(checks) and all(check["accuracy"] is not None for check in checks)
    marks = [
        {
            "x": round(100 * check["step"] / steps, 2),
            "y": round(100 - 100 * (check["accuracy"] if shares else check["loss"] / top), 2),
            "best": check["step"] == training["best"],
        }
        for check in checks
    ]
    line = [f"{round(100 * step / steps, 2)},{round(100 - 100 * loss / top, 2)}" for step, loss in training["points"]]
    dev = " ".join(f"{mark['x']},{mark['y']}" for mark in marks)
    best = next((check for check in checks if check["step"] == training["best"]), None)
    return {"loss": " ".join(line), "dev": dev, "marks": marks, "top": top, "shares": shares, "best": best}


def learning_shape(forecast: Mapping[str, Any]) -> dict[str, Any]:
    """A forecast's picture in per cent of its box: band and middle as SVG points, dots, and where the labels stand.

    Sizes are spaced by their logarithms. The box spans whole tenths around all that is drawn, the target with it.
    """
    points, target = forecast["curve"], forecast["target"]
    shares = [share for point in points for share in point[1:]] + [point["score"] for point in forecast["points"]]
    bottom = math.floor(10 * min(*shares, target) + 1e-9) / 10
    top = math.ceil(10 * max(*shares, target) - 1e-9) / 10
    first, last = math.log(points[0][0]), math.log(points[-1][0])

    def x(size: float) -> float:
        return float(round(100 * (math.log(size) - first) / (last - first), 2))

    def y(share: float) -> float:
        return float(round(100 * (top - share) / (top - bottom), 2))

    def line(column: int) -> list[str]:
        return [f"{x(point[0])},{y(point[column])}" for point in points]

    return {
        "band": " ".join(line(3) + line(2)[::-1]),
        "mean": " ".join(line(1)),
        "dots": [{"x": x(point["examples"]), "y": y(point["score"])} for point in forecast["points"]],
        "ticks": [{"examples": each["examples"], "x": x(each["examples"])} for each in forecast["ahead"]],
        "target": y(target),
        "top": top,
        "bottom": bottom,
    }


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, on one line.

    >>> print(markdown_text("<b>*a*|b</b>"))
    &lt;b>\\*a\\*\\|b&lt;/b>
    """
    return MARKUP.sub(r"\\\1", " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;"))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value
