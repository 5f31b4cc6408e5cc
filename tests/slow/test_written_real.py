"""The real small model where answers are written: prompts and a fine-tune on records that this test makes up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import luthier
from luthier.climb import Options
from luthier.types import Outcome

pytestmark = pytest.mark.slow

NAMES = ("Ada", "Ben", "Carla", "Dov", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jan", "Kim", "Lars", "Mia")
GOODS = ("lamps", "chairs", "tables", "clocks", "mirrors", "carpets", "stools")
CITIES = ("Oslo", "Lima", "Cairo", "Turin", "Quito", "Kyoto", "Porto", "Delhi", "Leeds", "Sofia", "Accra")
ASKED = (
    "{name} from {city} would like to order {count} {goods}.",
    "Please send {count} {goods} to {name}, who lives in {city}.",
    "{count} {goods} for {name} in {city}, as soon as you can.",
)
TOML = """
[task]
name = "orders"
kind = "extraction"
instruction = "Take the order from the message."
max_tokens = 32
[task.schema]
type = "object"
required = ["name", "count", "goods", "city"]
additionalProperties = false
[task.schema.properties]
name = { type = "string" }
count = { type = "integer" }
goods = { type = "string" }
city = { type = "string" }
[data]
path = "orders.jsonl"
input = "text"
reference = "order"
near_duplicates = false
[split]
train = 120
dev = 16
test = 48
[target]
metric = "field_f1"
at_least = 0.7
[training]
replay = 0
epochs = 2
[ladder]
rungs = ["majority", "nearest", "zero-shot", "lora"]
[guard]
required = false
repair = false
documents = 32
prompts = 16
"""


def orders(n: int) -> list[dict[str, object]]:
    found = []
    for at in range(n):
        order = {
            "name": NAMES[at % 13],
            "count": 2 + at * 7 % 89,
            "goods": GOODS[at % 7],
            "city": CITIES[at % 11],
        }
        found.append({"text": ASKED[at % 3].format(**order), "order": order})
    return found


def test_a_fine_tuned_small_model_extracts_records_that_a_copy_cannot(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, orders(200))), encoding="utf-8")
    (tmp_path / "luthier.toml").write_text(TOML, encoding="utf-8")
    verdict = luthier.run(tmp_path / "luthier.toml", options=Options(all_rungs=True))
    by_rung = {result.candidate.rung: result for result in verdict.candidates}
    for result in verdict.candidates:
        print(result.candidate.name, result.outcome, result.estimate, result.rates, f"{result.fit_seconds:.0f} s")
    assert by_rung["majority"].outcome is Outcome.DOES_NOT_MEET
    tuned = by_rung["lora"]
    assert tuned.outcome is Outcome.MEETS
    assert tuned.rates["parses"].mean > 0.9
    assert tuned.estimate is not None
    assert by_rung["nearest"].estimate is not None
    assert tuned.estimate.mean > by_rung["nearest"].estimate.mean
    assert verdict.to_html(tmp_path / "report.html").stat().st_size > 10_000
