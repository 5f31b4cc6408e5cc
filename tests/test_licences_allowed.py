"""Licences that are not allowed block, down the chain of bases; what lets an unknown one through is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import eval_run, spec

from luthier.errors import SpecError
from luthier.models.licence import Link, bases_of, chain_of
from luthier.report.verdict import decide
from luthier.task.licences import allows, canonical
from luthier.task.parse import parse
from luthier.types import Candidate, CandidateResult, Constraints, Target


def card(folder: Path, head: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n", encoding="utf-8")
    return folder


def decided(found: dict[str, str | None], **constraints: Any) -> tuple[CandidateResult, str]:
    target, rules = Target("accuracy", 0.85), Constraints(**constraints)
    run = replace(eval_run([1.0] * 200), candidate=Candidate("zero-shot", None, 40), licences=found)
    verdict = decide([run], {}, target, rules, task=spec(target, rules))
    return verdict.candidates[0], " ".join(verdict.reasons)


# ---------------------------------------------------------------- the chain


def test_an_adapter_is_followed_to_its_base_and_to_the_base_of_that(tmp_path: Path) -> None:
    adapter = card(tmp_path / "adapter", "license: mit\nbase_model: maker/tuned")
    card(tmp_path / "tuned", "license: apache-2.0\nbase_model:\n- maker/base-1b\n- maker/other")
    card(tmp_path / "base-1b", "license: gemma")
    assert chain_of(adapter, "adapter") == (
        Link("adapter", "mit"),
        Link("maker/tuned", "apache-2.0", "adapter"),
        Link("maker/base-1b", "gemma", "maker/tuned"),
        Link("maker/other", None, "maker/tuned"),
    )


def test_a_base_is_named_by_the_card_or_by_the_adapters_config_and_a_circle_ends(tmp_path: Path) -> None:
    folder = card(tmp_path / "a", 'license: mit\nbase_model: "b"')
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "maker/c"}), encoding="utf-8")
    assert bases_of(folder) == ("b", "maker/c")
    card(tmp_path / "b", "base_model: a")
    assert [link.name for link in chain_of(folder, "a")] == ["a", "b", "maker/c"]
    alone = card(tmp_path / "alone", "license: mit\nbase_model:\nlanguage: en")
    assert chain_of(alone, "alone") == (Link("alone", "mit"),)
    assert chain_of(tmp_path / "nowhere", "nowhere") == (Link("nowhere", None),)


# ---------------------------------------------------------------- what is allowed

ADAPTER: dict[str, str | None] = {"adapter": "mit", "maker/base, the base of adapter": None}


def test_a_base_of_unknown_licence_blocks_what_is_built_on_it() -> None:
    found, _ = decided(ADAPTER, licences=("MIT",))
    assert (found.eligible, found.blocked_by) == (
        "no",
        ("licences: nobody knows that of maker/base, the base of adapter",),
    )
    found, _ = decided({**ADAPTER, "maker/base, the base of adapter": "gemma"}, licences=("MIT",))
    assert found.blocked_by == ("licences: maker/base, the base of adapter has gemma, allowed are MIT",)
    found, _ = decided(ADAPTER)
    assert found.eligible == "yes", "without a list, any licence will do"


def test_what_lets_it_through_stands_in_the_verdict() -> None:
    found, reasons = decided(ADAPTER, licences=("MIT",), allow_unknown_licence=True)
    assert found.eligible == "yes"
    assert "nobody knows that of maker/base, the base of adapter, which allow_unknown_licence lets through" in reasons
    found, reasons = decided(ADAPTER, licences=("MIT",), licence_of={"maker/base": "mit"})
    assert found.eligible == "yes"
    assert "maker/base, the base of adapter has mit by [constraints] licence_of alone" in reasons
    found, _ = decided(ADAPTER, licences=("MIT",), licence_of={"maker/base": "gemma"}, allow_unknown_licence=True)
    assert found.eligible == "no", "what is known to be another one is not let through"
    assert found.blocked_by[0].endswith("has gemma, allowed are MIT")
    _, reasons = decided({"adapter": "mit"}, licences=("MIT",), allow_unknown_licence=True)
    assert "lets through" not in reasons


@pytest.mark.parametrize(
    ("allowed", "said", "covered"),
    [
        (["apache-2.0"], "Apache License", True),
        (["apache-2.0"], "Apache-2.0", True),
        (["apache-2.0"], "mit", False),
        (["mit"], "MIT OR GPL-3.0-only", True),
        (["mit", "apache-2.0"], "(MIT OR GPL-3.0-only) AND Apache-2.0", True),
        (["gpl-3.0-only"], "GPL-3.0-only WITH GCC-exception-3.1", False),
        (["GPL-3.0-only WITH GCC-exception-3.1"], "gpl-3.0-only with gcc-exception-3.1", True),
        (["gemma"], "Gemma Terms of Use", True),
        (["LicenseRef-house"], "house", True),
        (["mit"], "MIT-style, see below", False),
        (["mit"], "", False),
    ],
)
def test_a_list_covers_a_licence_by_its_spdx_name(allowed: list[str], said: str, covered: bool) -> None:
    assert allows(allowed, said) is covered


def test_a_misspelt_licence_on_the_list_is_an_error_and_not_a_list_that_blocks_everything() -> None:
    text = (
        '[task]\nname = "t"\ninstruction = "x"\n[data]\npath = "d.csv"\ninput = "a"\nreference = "b"\n'
        "[target]\nat_least = 0.8\n[constraints]\n"
    )
    with pytest.raises(SpecError, match=r"'apache2' is no name of a licence(.|\n)*did you mean Apache-2.0"):
        parse(f'{text}licences = ["apache2"]')
    with pytest.raises(SpecError, match=r"LicenseRef-our-own-terms"):
        parse(f'{text}licences = ["our own terms"]')
    with pytest.raises(SpecError, match=r"'nonsense' is no name of a licence"):
        parse(f'{text}licence_of = {{"maker/base" = "nonsense"}}')
    found = parse(f'{text}licences = ["apache-2.0", "LicenseRef-house"]\nlicence_of = {{"maker/base" = "gemma"}}')
    assert found.constraints.licence_of == {"maker/base": "gemma"}
    assert canonical("apache2") is None
