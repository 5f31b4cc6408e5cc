"""The demos as a new user runs them: real data, real model, the verdicts that the README shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2700)]


def demo(name: str, folder: Path) -> tuple[int, dict[str, Any]]:
    call = [
        sys.executable,
        "-c",
        "from luthier.cli import main; main()",
        "demo",
        name,
        "--folder",
        str(folder),
        "--json",
    ]
    done = subprocess.run(call, capture_output=True, text=True, timeout=2500)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def outcomes(verdict: dict[str, Any]) -> dict[str, str]:
    return {candidate["rung"]: candidate["outcome"] for candidate in verdict["candidates"]}


def test_spam_needs_no_llm(tmp_path: Path) -> None:
    code, verdict = demo("spam", tmp_path)
    assert code == 0
    assert verdict["chosen"].split("@")[0] in ("tfidf", "embedding")
    assert verdict["sentence"].startswith("You don't need an LLM for this")


def test_sentiment_with_few_labels_is_won_by_a_prompt(tmp_path: Path) -> None:
    code, verdict = demo("sentiment", tmp_path)
    assert code == 0
    found = outcomes(verdict)
    assert verdict["chosen"].split("@")[0] in ("zero-shot", "calibrated", "few-shot", "retrieved-shots")
    assert all(found[rung] in ("DOES NOT MEET", "INCONCLUSIVE") for rung in ("majority", "tfidf", "embedding"))


def test_question_routing_needs_the_fine_tune_and_a_rerun_replays_it(tmp_path: Path) -> None:
    code, verdict = demo("question-routing", tmp_path)
    assert code == 0
    found = outcomes(verdict)
    assert verdict["chosen"] == "lora@smollm2-135m"
    assert all(found[rung] == "DOES NOT MEET" for rung in ("majority", "zero-shot"))
    prompts = {rung: found[rung] for rung in ("calibrated", "few-shot", "retrieved-shots")}
    ruled_out = verdict["diagnosis"]["skips"]
    assert prompts == {rung: "NOT MEASURED" if rung in ruled_out else "DOES NOT MEET" for rung in prompts}
    leading = verdict["diagnosis"]["causes"][0]
    assert (leading["cause"], leading["supported"]) == ("elicitation", True)
    assert found["tfidf"] in ("DOES NOT MEET", "INCONCLUSIVE")
    assert found["embedding"] in ("DOES NOT MEET", "INCONCLUSIVE")
    assert verdict["spend"]["examples_scored"] <= 0.4 * verdict["spend"]["examples_available"]
    chosen = next(each for each in verdict["candidates"] if each["name"] == verdict["chosen"])
    assert (chosen["eligible"], chosen["guard"]["answer"]) == ("yes", "passed")
    again_code, again = demo("question-routing", tmp_path)
    assert (again_code, again["chosen"]) == (0, verdict["chosen"])
    assert again["spend"]["test_accesses"] == verdict["spend"]["test_accesses"]
