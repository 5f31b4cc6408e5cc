"""The map in luthier's docstring, the tree and the import contract say the same."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from luthier.rungs import LADDER
from luthier.task.kinds import RULES, rungs_for
from luthier.task.spec import RUNG_NAMES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "luthier"


def map_names() -> list[str]:
    docstring = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or ""
    return [name.removesuffix(".py").rstrip("/") for name in re.findall(r"^    ([a-z_]+(?:\.py|/)) ", docstring, re.M)]


def tree_names() -> set[str]:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    return folders | files


def layers() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    return [{name.strip().removeprefix("luthier.") for name in layer.split("|")} for layer in contracts[0]["layers"]]


def test_the_rungs_a_task_may_name_are_those_of_the_ladder() -> None:
    assert [rung.name for rung in LADDER] == list(RUNG_NAMES)
    for kind in RULES:
        assert rungs_for(kind, RUNG_NAMES) == tuple(rung.name for rung in LADDER if kind in rung.kinds)


def test_the_map_shows_the_tree() -> None:
    assert set(map_names()) == tree_names()
    assert len(map_names()) == len(set(map_names()))


def test_the_contract_orders_every_module() -> None:
    assert set().union(*layers()) == tree_names()


def test_the_map_stands_in_the_order_of_the_contract() -> None:
    floor = {name: at for at, layer in enumerate(reversed(layers())) for name in layer}
    floors = [floor[name] for name in map_names()]
    assert floors == sorted(floors)
