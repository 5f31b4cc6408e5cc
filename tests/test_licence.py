"""A student of unknown licence is not fine-tuned unless the task allows it, and then the report says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import RECIPE
from tiny_models import tiny_module, tiny_tokenizer

from luthier.errors import ModelError
from luthier.models.licence import licence_of
from luthier.models.local import LocalModel
from luthier.rungs.lora import Lora
from luthier.testing import RungContract
from luthier.types import Constraints, FitContext, Rung


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_module().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


class _Contract(RungContract):
    def make_rung(self) -> Rung:
        return Lora(replace(RECIPE, epochs=1))

    def make_models(self) -> dict[str, Any]:
        return {}


def fit(folder: Path, workdir: Path, constraints: Constraints = Constraints()) -> Any:
    spec, train, dev = _Contract().make_task()
    context = FitContext({"student": LocalModel.load(folder, name="mine")}, 0, workdir)
    return _Contract().make_rung().fit(replace(spec, constraints=constraints), train, dev, context).describe()


def test_an_unknown_licence_stops_a_fine_tune_unless_the_task_allows_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nobody knows the licence(.|\n)*allow_unknown_licence = true"):
        fit(folder, tmp_path)
    told = fit(folder, tmp_path, Constraints(allow_unknown_licence=True))
    assert told["licence of the student"] == "unknown, and allowed by the task"


def test_a_known_licence_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    try:
        assert fit(folder, tmp_path)["licence of the student"] == "apache-2.0"
    finally:
        (folder / "README.md").unlink()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("README.md", "---\nlicense: mit\n---\n", "mit"),
        ("README.md", "# No head\nlicense: mit", None),
        ("config.json", json.dumps({"license": "bsd-3-clause"}), "bsd-3-clause"),
        ("config.json", json.dumps({"license": "other"}), None),
        ("config.json", "[]", None),
        ("LICENSE", "\n   Apache License\nVersion 2.0", "Apache License"),
        ("COPYING", "", None),
    ],
)
def test_where_a_licence_is_found(tmp_path: Path, name: str, text: str, found: str | None) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert licence_of(tmp_path) == found
