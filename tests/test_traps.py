"""docs/traps.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_test_that_the_page_names_is_in_the_tree() -> None:
    page = (HERE.parent / "docs" / "traps.md").read_text("utf-8")
    named = re.findall(r"`((?:slow/)?test_\w+\.py)::(\w+)`", page)
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (HERE / file).read_text("utf-8"), f"{file} has no {test}"


def test_every_trap_is_on_the_page_once() -> None:
    page = (HERE.parent / "docs" / "traps.md").read_text("utf-8")
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)]
    assert numbers == list(range(1, 24))
