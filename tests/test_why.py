"""The pages "why" and "where": what people read about misses, from a diagnosis as plain values and from slices."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import report_sample
import why_sample

from luthier.report import why
from luthier.report.render import html, markdown
from luthier.report.summary import summarise
from luthier.report.verdict import Verdict

SNAPSHOT = Path(__file__).parent / "snapshots" / "why.md"


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return why_sample.verdict()


@pytest.fixture(scope="module")
def page(verdict: Verdict) -> str:
    return html(verdict.to_summary())


@cache  # drawing and judging eight races takes longer than the page
def plain() -> tuple[Verdict, dict[str, Any]]:
    """A verdict of three candidates without a diagnosis, and its summary."""
    found = report_sample.sample()
    few = (3, 6, 7)
    found = replace(
        found, runs=tuple(found.runs[at] for at in few), candidates=tuple(found.candidates[at] for at in few)
    )
    return found, summarise(found)  # type: ignore[return-value]


def told(**changes: Any) -> dict[str, Any]:
    return summarise(replace(plain()[0], diagnosis={**why_sample.diagnosis(), **changes}))


def part(page: str, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, re.S)
    return found[0] if found else ""


def test_the_markdown_of_both_pages_is_the_one_of_the_snapshot(verdict: Verdict) -> None:
    text = markdown(verdict.to_summary())
    pages = text[text.index("## Why zero-shot") : text.index("\n## ", text.index("## Where it is weaker"))]
    if os.environ.get("LUTHIER_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(pages, encoding="utf-8")
    assert pages == SNAPSHOT.read_text(encoding="utf-8")


def test_the_page_tells_causes_examples_and_what_to_do_next_in_words(page: str) -> None:
    said = part(page, "misses").replace("\N{NO-BREAK SPACE}", " ")
    assert "It can do it once it is shown examples: that explains 44.0 % [31.0, 57.0] of the wrong answers." in said
    assert "Expected: +26.0 points [+17.0, +34.0], from 40.0 % to about 66.0 % [57.0, 74.0]" in said
    assert "What it would bring was not measured." in said
    assert "What is the Danube known for ?" in said
    assert said.count("not shown") == 2
    assert "(99 % each by itself)" in said
    assert "the passage that holds the answer sets 1 of 96 wrong answers right" in said
    assert "A stronger model was not asked" in said


def test_where_nothing_is_chosen_the_page_says_what_to_do_next() -> None:
    none = replace(plain()[0], diagnosis=why_sample.diagnosis(), chosen=None)
    said = part(html(summarise(none)), "misses")
    assert "Why it misses, and what to do" in said
    assert "What to do next" in said
    assert "What helps (lora@smollm2-135m is chosen)" in part(html(told()), "misses")


def test_a_verdict_without_diagnosis_and_slices_has_neither_page() -> None:
    _, summary = plain()
    assert summary["why"] == {"diagnosis": None, "slices": None}
    assert "diagnosis" not in summary["verdict"]
    assert not part(html(summary), "misses")
    assert not part(html(summary), "slices")
    assert "Where it is weaker" not in markdown(summary)


def test_a_summary_of_before_there_was_a_page_can_still_be_drawn() -> None:
    old = {key: value for key, value in told().items() if key != "why"}
    assert "<h2" in html(old)
    assert "## The ladder" in markdown(old)


def test_where_it_abstains_the_page_says_why_and_draws_no_bars() -> None:
    summary = told(abstained="12 wrong answers are too few: 30 are needed", causes=[])
    said = part(html(summary), "misses")
    assert "No cause is named: 12 wrong answers are too few: 30 are needed." in said
    assert "What share of the wrong answers" not in said
    assert "No cause is named: 12" in markdown(summary)


def test_causes_that_are_not_shown_lead_to_no_advice() -> None:
    causes = [{**cause, "supported": False} for cause in why_sample.diagnosis()["causes"]]
    summary = told(causes=causes)
    assert summary["why"]["diagnosis"]["steps"] == []
    said = part(html(summary), "misses")
    assert "no cause explains a share that is provably above chance" in said
    assert "What helps" not in said


def test_a_rung_that_could_help_is_shown_with_where_it_stands() -> None:
    step = told()["why"]["diagnosis"]["steps"][0]
    (retrieved, lora) = step["rungs"]
    assert retrieved["candidate"] == "retrieved-shots@smollm2-135m"
    assert lora["standing"].startswith("MEETS, 9")
    step = told()["why"]["diagnosis"]["steps"][1]
    assert step["rungs"] == [{"rung": "instructed", "candidate": None, "standing": "not on the ladder of this task"}]


def test_texts_of_examples_are_escaped_masked_and_cut(verdict: Verdict, page: str) -> None:
    said = part(page, "misses")
    assert "<script>" not in said
    assert "&lt;script&gt;" in said
    for text in (page, json.dumps(verdict.to_dict()), markdown(verdict.to_summary())):
        assert "ada@example.org" not in text
        assert "[EMAIL]" in text.replace("\\", "")
    assert max(len(found) for found in re.findall(r"again and [^<]*", said)) <= 280
    assert why.masked_diagnosis({"a": [{"b": "call (212) 555-0147"}], "n": 3}) == {"a": [{"b": "call [PHONE]"}], "n": 3}


def test_a_hostile_diagnosis_stays_text() -> None:
    evil = "</script><img src=x onerror=alert(1)>|`*"
    cause = {
        **why_sample.diagnosis()["causes"][0],
        "title": evil,
        "remedy": evil,
        "evidence": [evil],
        "cause": "format",
    }
    summary = told(causes=[cause], skips={evil: evil}, not_probed=[evil], candidate=evil)
    assert "<img" not in html(summary)
    assert "<img" not in markdown(summary)


def test_the_bars_stand_on_their_axis() -> None:
    shown = told()["why"]["diagnosis"]
    axis = shown["axis"]
    assert [tick["share"] for tick in axis["ticks"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert why.place(axis["start"], axis) == 0.0
    assert why.place(axis["end"], axis) == 100.0
    assert why.place(9.0, axis) == 100.0


def test_a_share_stays_a_share_whatever_harm_does_to_an_effect() -> None:
    cause = {**why_sample.diagnosis()["causes"][0], "share": 0.94, "low": -0.02, "high": 1.09}
    summary = told(causes=[cause])
    assert "94.0 % [0.0, 100.0]" in part(html(summary), "misses").replace("\N{NO-BREAK SPACE}", " ")
    assert summary["verdict"]["diagnosis"]["causes"][0]["high"] == 1.09


def test_the_page_of_slices_names_the_worst_first_and_the_standing_of_each_target(verdict: Verdict, page: str) -> None:
    said = part(page, "slices").replace("\N{NO-BREAK SPACE}", " ")
    assert said.count('<span class="worse">') == 1
    assert said.index("channel = phone") < said.index("inputs of")
    assert re.search(r"channel = phone, 85.2 % against 94.2 % elsewhere \([\d.]+ to [\d.]+ points lower\)", said)
    for word in ("shown to meet", "missed", "not shown"):
        assert word in said
    assert "class ABBR" in said  # too few of them, and said so
    assert verdict.to_dict()["slices"]["compared"][0]["worse"]


def test_no_slice_is_told_to_be_worse_where_none_is() -> None:
    test = why_sample.examples(400)
    spec = why_sample.sliced(test)
    run = why_sample.raced(spec, test, "tfidf", rank=20, rate=0.95, by_phone=0.95, stop=False)
    from luthier.report.verdict import decide

    found = decide([run], {}, spec.target, spec.constraints, task=spec)
    assert found.slices["sentences"][0].startswith("No slice of tfidf is provably worse than the rest")
    assert '<span class="worse">' not in html(found.to_summary())


def test_the_question_about_knowledge_is_answered_by_the_diagnosis() -> None:
    def asked(**changes: Any) -> dict[str, Any]:
        return next(each for each in told(**changes)["questions"] if each["question"] == "Is knowledge missing?")

    cause = {**why_sample.diagnosis()["causes"][0], "cause": "knowledge"}
    assert asked(causes=[cause])["answer"] == "Yes."
    assert "44.0 % [31.0, 57.0]" in asked(causes=[cause])["because"]
    assert asked(causes=[{**cause, "supported": False}])["answer"] == "Not shown."
    assert asked()["answer"] == "Not measured."
    assert "too few" in asked(causes=[], abstained="too few wrong answers")["because"]
