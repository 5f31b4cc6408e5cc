"""The page with sliders, in a real browser: whatever a slider says, it calculates what Python does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path

import pytest

from luthier.economics.breakeven import break_even
from luthier.economics.calculation import Calculation
from luthier.economics.cost import total_cost
from luthier.report.calculator import Calculated, calculate, page_numbers
from luthier.report.render import calculator

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page's sliders are not tested"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
MORE_FLAGS = ("--disable-component-update", "--disable-sync", "--virtual-time-budget=2000", "--dump-dom")
TODAY = date(2026, 11, 22)
TOML = """
[economics]
monthly_requests = 300000
usd_per_error = 0.02
usd_per_label = 0.5
usd_per_hour = 90
engineering_hours = {prompt = 2, tune = 9}
upkeep_hours = {tune = 1}
price_fall_per_year = 0.3
growth_per_month = 0.02
discount_per_year = 0.1
months_between_changes = 6
tasks = 5
tasks_per_tune = 3
retry_rate = 0.02

[option.prompt]
model = "big"
prompt_tokens = 1500
output_tokens = 50
accuracy = 0.90

[option.tuned]
model = "small"
prompt_tokens = 300
output_tokens = 50
labels = 1000
training_tokens = 1050000
accuracy = 0.91

[option.hosted]
host = "box"
seconds_per_request = 0.6
usd_once = 2500
accuracy = 0.93

[price.big]
input = 2.0
output = 8.0
[price.small]
input = 0.30
output = 1.20
training = 3.0
[price.box]
hour = 1.1
"""
# sliders by id and where they are moved to: volumes and prices stand as powers of ten
MOVES: list[tuple[str, str, dict[str, float]]] = [
    ("tuned", "prompt", {}),
    ("tuned", "prompt", {"volume": 6.25}),
    ("tuned", "prompt", {"volume": 4.4}),
    ("tuned", "prompt", {"price": 0.3}),
    ("tuned", "prompt", {"price": -0.75, "volume": 6.0}),
    ("tuned", "prompt", {"accuracy": 0.95}),
    ("tuned", "prompt", {"horizon": 30, "errors": 0.5}),
    ("hosted", "tuned", {"volume": 7.1, "accuracy": 0.99, "price": 0.2, "horizon": 24}),
    ("hosted", "prompt", {"volume": 6.6}),
]


def moving(of: str, against: str, sliders: dict[str, float]) -> str:
    """A script that moves sliders as a hand does, and keeps what the page then shows of its break-even."""
    steps = [
        f"get('{name}').value = '{way}'; get('{name}').dispatchEvent(new Event('change'));"
        for name, way in (("of", of), ("against", against))
    ]
    steps += [
        f"get('{name}').value = '{value}'; get('{name}').dispatchEvent(new Event('input', {{bubbles: true}}));"
        for name, value in sliders.items()
    ]
    return f"get('reset').click(); {' '.join(steps)} seen.push({{...get('break-even').dataset}});"


def seen(page: str, tmp_path: Path) -> list[dict[str, str]]:
    """What the page shows after each of the moves, as the browser has it."""
    script = " ".join(moving(*move) for move in MOVES)
    kept = "const pre = document.createElement('pre'); pre.id = 'seen'; pre.textContent = JSON.stringify(seen);"
    kept += " document.body.append(pre);"
    file = tmp_path / "page.html"
    file.write_text(
        page.replace("</body>", f"<script>const seen = []; {script} {kept}</script></body>"), encoding="utf-8"
    )
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [BROWSER, *FLAGS, *MORE_FLAGS, f"--user-data-dir={profile}", file.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=240).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[:2000]
    return list(json.loads(unescape(found.group(1))))


def expected(
    found: Calculated, of: str, against: str, sliders: dict[str, float], shown: dict[str, str]
) -> tuple[float | None, float, str | None]:
    """(months, total of the first way, the cheapest) as Python has them, at the values where the page stands."""
    at = {
        "requests": float(shown["requests"]),
        "token price": float(shown["price"]),
        "error price": float(shown["errors"]),
    }
    at["horizon"] = sliders.get("horizon", found.calculation.world.months)
    if "accuracy" in sliders:
        at[f"accuracy:{of}"] = sliders["accuracy"]
    calculation: Calculation = found.calculation
    (new, world), (old, _) = (calculation.applied(calculation.way(name), at) for name in (of, against))
    pays = break_even(new, old, world, errors=True, until=calculation.way(of).retires or None)
    among = [way["name"] for way in found.told["ways"] if way["may_be_chosen"]]
    return pays.months, float(total_cost(new, world, errors=True)), calculation.cheapest(among, at)


def test_moving_a_slider_changes_the_break_even_as_python_computes_it(tmp_path: Path) -> None:
    (tmp_path / "luthier.toml").write_text(TOML, encoding="utf-8")
    found = calculate(tmp_path, today=TODAY)
    page = calculator(found.name, found.run, found.told, page_numbers(found))
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", ""), "nothing is asked of any network"
    assert "https://" not in page
    answers = set()
    for (of, against, sliders), shown in zip(MOVES, seen(page, tmp_path), strict=True):
        if "volume" in sliders:
            assert float(shown["requests"]) == pytest.approx(10 ** sliders["volume"], rel=0.02), "the slider was moved"
        months, total, cheapest = expected(found, of, against, sliders, shown)
        assert float(shown["total"]) == pytest.approx(total, rel=1e-6)
        assert shown["cheapest"] == cheapest
        assert (
            shown["months"] == "never" if months is None else float(shown["months"]) == pytest.approx(months, rel=1e-6)
        )
        answers.add(shown["months"])
    assert len(answers) >= 6, "the sliders move something"
    wrong = replace(found.calculation, world=replace(found.calculation.world, peak=30.0))
    assert expected(replace(found, calculation=wrong), *MOVES[-1], shown)[0] != pytest.approx(
        float(shown["months"]), rel=1e-6
    )
