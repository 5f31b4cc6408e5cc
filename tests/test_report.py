"""The report: one dict, from which alone HTML and Markdown are drawn."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import report_sample as sample
from report_sample import ALPHA, LABELS, facts, questions, raced, row, task

from luthier.errors import StoreError
from luthier.report.render import axis, html, markdown
from luthier.report.summary import summarise, verdict_json
from luthier.types import (
    Candidate,
    Estimate,
    EvalRun,
    Example,
    Label,
    Message,
    Outcome,
    Row,
    Target,
    VerdictFacts,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
TEMPLATES = Path(__file__).parent.parent / "src" / "luthier" / "report" / "templates"


@pytest.fixture(scope="module")
def full() -> VerdictFacts:
    return sample.sample()


@pytest.fixture(scope="module")
def summary(full: VerdictFacts) -> dict[str, Any]:
    return summarise(full)


@pytest.fixture(scope="module")
def page(summary: dict[str, Any]) -> str:
    return html(summary)


def run_of(rows: Sequence[Row], *, name: str = "tfidf", rank: int = 20, **more: Any) -> EvalRun:
    return EvalRun(
        candidate=Candidate(name, more.pop("model", None), rank),
        split="test",
        rows=tuple(rows),
        fingerprint="f",
        alpha=more.pop("alpha", 0.05),
        population=more.pop("population", max(len(rows), 1)),
        groups=more.pop("groups", max(len(rows), 1)),
        **more,
    )


def not_raced(name: str, rank: int = 30) -> EvalRun:
    return run_of(
        [], name=name, rank=rank, population=100, groups=100, not_measured="a simpler candidate already meets it"
    )


# ---------------------------------------------------------------- snapshots


def rounded(value: Any) -> Any:
    """Floats to four digits, since the last bits differ between machines; a list of numbers on one line."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        return " ".join(f"{item:.4g}" for item in value)
    return [rounded(item) for item in value] if isinstance(value, list) else value


def same_as_snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("LUTHIER_UPDATE_SNAPSHOTS") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        "if this is wanted: LUTHIER_UPDATE_SNAPSHOTS=1, and look at the diff"
    )


def test_the_dict_is_the_one_of_the_snapshot(summary: dict[str, Any]) -> None:
    text = json.dumps(rounded(summary), indent=1, ensure_ascii=False, allow_nan=False)
    same_as_snapshot("report.json", text + "\n")


def test_the_markdown_is_the_one_of_the_snapshot(summary: dict[str, Any]) -> None:
    same_as_snapshot("report.md", markdown(summary))


def test_the_same_facts_give_the_same_report(summary: dict[str, Any], page: str) -> None:
    again = summarise(sample.sample())
    assert again == summary
    assert html(again) == page


def test_a_report_can_be_drawn_from_the_stored_json_of_the_dict(summary: dict[str, Any], page: str) -> None:
    stored = json.loads(json.dumps(summary, allow_nan=False))
    assert html(stored) == page
    assert markdown(stored) == markdown(summary)


def test_a_dict_of_another_version_is_a_clear_error(summary: dict[str, Any]) -> None:
    for draw in (html, markdown):
        with pytest.raises(StoreError, match="luthier run"):
            draw({**summary, "report": 0})


# ---------------------------------------------------------------- the verdict as JSON, schema 1

USAGE = {"fresh_tokens": int, "cached_tokens": int, "cache_write_tokens": int, "output_tokens": int}
SCHEMA: dict[str, Any] = {
    "schema": int,
    "task": str,
    "sentence": str,
    "outcome": str,
    "chosen": (str, type(None)),
    "target": {"metric": str, "at_least": float, "confidence": float},
    "candidates": [
        {
            "name": str,
            "rung": str,
            "model": (str, type(None)),
            "rank": int,
            "outcome": str,
            "eligible": str,
            "blocked_by": [str],
            "alpha": float,
            "estimate": {"mean": float, "low": float, "high": float, "n": int, "method": str},
            "population": int,
            "reasons": [str],
            "usage": USAGE,
            "seconds": float,
        }
    ],
    "spend": {"examples_scored": int, "examples_available": int, "usage": USAGE, "seconds": float},
    "flips": [str],
    "provenance": {},
}


def check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, dict):
        assert isinstance(value, dict), where
        for key, inner in shape.items():
            assert key in value, f"{where}.{key}"
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for at, item in enumerate(value):
            check(item, shape[0], f"{where}[{at}]")
    else:
        assert isinstance(value, shape), f"{where}: {value!r}"
        assert type(value) in (shape if isinstance(shape, tuple) else (shape,)), f"{where} is no plain value"


def test_the_verdict_has_the_keys_and_types_of_schema_1(full: VerdictFacts) -> None:
    found = verdict_json(full)
    check(found, SCHEMA, "verdict")
    assert found["schema"] == 1
    assert found["chosen"] == "lora@smollm2-135m"
    assert len(found["candidates"]) == 8


def test_a_candidate_that_was_not_measured_has_no_estimate() -> None:
    found = verdict_json(facts([not_raced("tfidf")], task()))
    assert found["candidates"][0]["estimate"] is None
    assert found["candidates"][0]["outcome"] == "NOT MEASURED"
    assert found["chosen"] is None


# ---------------------------------------------------------------- evidence


def test_wrong_examples_are_spread_over_the_confusions() -> None:
    ask = [
        Example(f"q{at}", f"question {at}", (("HUM", "HUM", "HUM", "HUM", "HUM", "LOC", "NUM")[at],)) for at in range(7)
    ]
    answers = ("DESC", "DESC", "DESC", "ENTY", "ENTY", "HUM", "NUM")
    shown = summarise(facts([run_of([row(e, a) for e, a in zip(ask, answers, strict=True)])], task()))["candidates"][0]
    assert [(wrong["reference"], wrong["answer"], wrong["id"]) for wrong in shown["wrong"]] == [
        ("HUM", "DESC", "q0"),
        ("HUM", "ENTY", "q3"),
        ("LOC", "HUM", "q5"),
        ("HUM", "DESC", "q1"),
    ]
    assert [right["id"] for right in shown["right"]] == ["q6"]
    assert shown["confusions"]["top"][0] == {"reference": "HUM", "answer": "DESC", "count": 3, "of": 5}
    assert (shown["wrong_count"], shown["right_count"]) == (6, 1)


def test_an_unscored_answer_is_shown_as_such_and_never_as_wrong() -> None:
    asked = questions(3)
    rows = [
        row(asked[0], asked[0].reference),
        row(asked[1], None, error="the context is too short"),
        row(asked[2], "LOC"),
    ]
    shown = summarise(facts([run_of(rows)], task()))["candidates"][0]
    assert [example["reason"] for example in shown["not_scored"]] == ["the context is too short"]
    assert asked[1].id not in [example["id"] for example in shown["wrong"]]
    assert shown["wrong_count"] + shown["right_count"] == 2


def test_long_inputs_are_cut_with_an_ellipsis_and_chats_are_told_as_turns() -> None:
    long = Example("long", "word " * 500, ("HUM",))
    chat = Example("chat", (Message("system", "be brief"), Message("user", "who?")), ("HUM",))
    shown = summarise(facts([run_of([row(long, "HUM"), row(chat, "HUM")])], task()))["candidates"][0]
    assert len(shown["right"][0]["input"]) <= 280
    assert shown["right"][0]["input"].endswith("…")
    assert shown["right"][1]["input"] == "system: be brief user: who?"


def test_personal_data_is_masked_wherever_texts_of_examples_are_shown() -> None:
    example = Example("max@example.org", "Call +44 20 7946 0958 or mail eve@example.org", ("a",))
    rows = [row(example, answer) for answer in ("a", "b", "I mailed ivy@example.org", None)]
    run = run_of(rows, fit={"prompt": "typical: mail kim@example.org"})
    shown = summarise(facts([run], task([Label("a"), Label("b")])))
    for text in (json.dumps(shown["candidates"]), html(shown), markdown(shown)):
        for secret in ("max@", "7946", "eve@", "kim@", "ivy@"):
            assert secret not in text, secret
    assert shown["candidates"][0]["wrong"][0]["input"] == "Call [PHONE] or mail [EMAIL]"


def test_the_narrowing_ends_in_the_estimate_of_the_verdict(summary: dict[str, Any]) -> None:
    for candidate in summary["candidates"]:
        points, estimate = candidate["narrowing"]["points"], candidate["estimate"]
        assert 2 <= len(points) <= 60
        assert points[0][0] == 1
        assert points[-1] == pytest.approx([estimate[key] for key in ("n", "mean", "low", "high")], abs=2e-6)
        lows, highs = [point[2] for point in points], [point[3] for point in points]
        assert lows == sorted(lows)
        assert highs == sorted(highs, reverse=True)


@pytest.mark.parametrize("about", ["inputs to come", "split"])
def test_the_narrowing_follows_the_race_with_groups_and_unscored_answers(about: Any) -> None:
    asked = [replace(example, group=f"g{at // 2}") for at, example in enumerate(questions(60))]
    rows = [row(e, None if at == 7 else e.reference if at % 3 else "LOC", error="lost") for at, e in enumerate(asked)]
    spec = task(target=Target("accuracy", 0.85, about=about))
    shown = summarise(facts([run_of(rows, population=200, groups=100, grouped=True)], spec))["candidates"][0]
    estimate = shown["estimate"]
    expected = [estimate[key] for key in ("n", "mean", "low", "high")]
    assert shown["narrowing"]["points"][-1] == pytest.approx(expected, abs=1e-6)


def test_a_metric_that_is_no_mean_has_no_running_interval_and_is_marked_approximate() -> None:
    run = replace(raced(Candidate("tfidf", None, 20), questions(300), 0.9), exhaustive=True, population=300)
    run = replace(run, rows=run.rows[:300], population=len(run.rows[:300]), groups=len(run.rows[:300]))
    found = summarise(facts([run], task(target=Target("macro_f1", 0.5))))
    assert found["candidates"][0]["narrowing"]["points"] == []
    assert "approximate" in " ".join(found["limits"])
    assert "No picture of the interval narrowing: macro-f1" in html(found)


# ---------------------------------------------------------------- the five questions


def answers(found: VerdictFacts) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = summarise(found)["questions"]
    return listed


def test_there_are_five_questions_and_each_says_what_was_measured(summary: dict[str, Any]) -> None:
    assert [item["measured"] for item in summary["questions"]] == ["yes", "no", "in part", "no", "yes"]
    assert all(item["because"] for item in summary["questions"])


def test_a_prompt_that_meets_the_target_answers_the_first_question_with_yes() -> None:
    runs = [raced(Candidate("zero-shot", "m", 40), questions(300), 1.0), not_raced("few-shot", 60)]
    first = answers(facts(runs, task()))[0]
    assert first["answer"] == "Yes."
    assert first["measured"] == "in part"
    assert "zero-shot@m is the simplest that does: 100.0 % [" in first["because"]
    assert "Not raced: few-shot." in first["because"]


def test_prompts_that_were_not_raced_leave_the_first_question_not_measured() -> None:
    met = raced(Candidate("tfidf", None, 20), questions(300), 1.0)
    later = replace(not_raced("zero-shot", 40), not_measured="tfidf already meets the target, and it is simpler")
    first = answers(facts([met, later], task()))[0]
    assert (first["measured"], first["answer"]) == ("no", "Not measured.")
    assert "the climb ended at tfidf" in first["because"]
    missing = replace(later, not_measured="a local model needs the extra 'local': pip install 'luthier[local]'")
    assert "needs the extra 'local'" in answers(facts([met, missing], task()))[0]["because"]


def test_the_comparison_is_paired_on_the_examples_that_both_answered() -> None:
    asked = questions(40)
    zero = run_of([row(e, "LOC" if e.reference != "LOC" else "NUM") for e in asked[:30]], name="zero-shot", model="m")
    lora = run_of([row(e, e.reference) for e in asked], name="lora", model="m", rank=80)
    third = answers(facts([zero, lora], task()))[2]
    assert len(third["comparisons"]) == 1
    step = third["comparisons"][0]
    assert (step["one"], step["other"], step["n"], step["mean"]) == ("zero-shot", "lora", 30, 1.0)
    assert (step["only_other_right"], step["only_one_right"]) == (30, 0)
    assert step["low"] > 0
    assert third["answer"] == "Examples change the behaviour."
    assert "1,000 training examples" in third["because"]


def test_no_gain_is_claimed_where_the_interval_holds_zero() -> None:
    asked = questions(40)
    ones = run_of(
        [row(e, e.reference if at % 2 else "ABBR") for at, e in enumerate(asked)], name="zero-shot", model="m"
    )
    same = replace(ones, candidate=Candidate("lora", "m", 80))
    third = answers(facts([ones, same], task()))[2]
    assert third["answer"] == "Examples were not shown to change the behaviour."


def test_what_leaves_the_machine_is_counted() -> None:
    usage = sample.Usage(10, 5, 0, 1)
    asked = questions(20)
    here = run_of([row(e, e.reference, usage=usage) for e in asked])
    away = replace(here, candidate=Candidate("zero-shot", "m", 40), remote=True)
    assert answers(facts([here], task(local_only=True)))[4]["answer"] == "Yes, and it did."
    assert "Input tokens that left this machine: 0." in answers(facts([here], task()))[4]["because"]
    last = answers(facts([here, away], task()))[4]
    assert last["answer"] == "Not all of it did."
    assert (
        "zero-shot@m sent the inputs to another machine. Input tokens that left this machine: 300." in last["because"]
    )


def test_a_fine_tune_says_that_the_forgetting_guard_was_not_measured(summary: dict[str, Any], page: str) -> None:
    assert any("Forgetting guard: NOT MEASURED" in limit for limit in summary["limits"])
    assert "Forgetting guard: NOT MEASURED" in page
    without = summarise(facts([raced(Candidate("tfidf", None, 20), questions(300), 1.0)], task()))
    assert not any("Forgetting" in limit for limit in without["limits"])


# ---------------------------------------------------------------- HTML


class Reader(HTMLParser):
    """The tags of a page, its visible text, and what stands open at its end."""

    VOID = frozenset({"meta", "link", "br", "circle", "path", "line", "polygon", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> out of place"

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1] == "style"):
            self.text.append(data)


def reads_well(text: str) -> Reader:
    """What holds for every report: one small, whole, self-contained, accessible page without a number that is none."""
    read = Reader(text)
    assert read.open == []
    assert len(text.encode()) < 3_000_000
    visible = " ".join(read.text)
    assert not re.search(r"\b([Nn]a[Nn]|[Ii]nf|[Ii]nfinity|undefined|None)\b", visible)
    assert "script" not in {tag for tag, _ in read.tags}
    for tag, attrs in read.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,")), (tag, attrs)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style
    names = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(names) == len(set(names))
    used = [attrs["href"] for tag, attrs in read.tags if tag == "a"]
    used += [f"#{attrs['aria-labelledby']}" for _, attrs in read.tags if "aria-labelledby" in attrs]
    assert {link[1:] for link in used if link} <= set(names)
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    pictures = [attrs for tag, attrs in read.tags if tag == "svg" and ("class" in attrs or "viewbox" in attrs)]
    for attrs in pictures:
        assert attrs.get("aria-hidden") == "true" or "aria-label" in attrs or "preserveaspectratio" in attrs
    return read


def test_the_page_opens_with_the_verdict_and_names_every_candidate(page: str, summary: dict[str, Any]) -> None:
    read = reads_well(page)
    text = re.sub(r"\s+", " ", " ".join(read.text))
    opening = text.index("meets accuracy of at least 85.0 %, with 93.3 % [84.5, 98.1] on 208 test examples.")
    assert opening < text.index("The ladder") < text.index("Why each rung stands where it stands")
    for candidate in summary["candidates"]:
        assert text.count(candidate["name"]) >= 2
        assert candidate["title"] in text
    assert {"MEETS", "DOES NOT MEET", "INCONCLUSIVE"} <= {candidate["outcome"] for candidate in summary["candidates"]}
    for outcome in Outcome:
        assert outcome.value in text
    for item in summary["questions"]:
        assert item["question"] in text


def test_the_ladder_is_drawn_to_scale(page: str, summary: dict[str, Any]) -> None:
    scale = axis(summary)
    assert (scale["start"], scale["end"]) == (0.0, 1.0)
    plots = re.findall(r'<svg class="plot" role="img".*?</svg>\s*</svg>', page, re.DOTALL)
    assert len(plots) == 8
    for candidate, plot in zip(summary["candidates"], plots, strict=True):
        drawn = re.search(r'class="range" x1="([\d.]+)%" x2="([\d.]+)%"', plot)
        assert drawn
        ends = [100 * candidate["estimate"][end] for end in ("low", "high")]
        assert [float(end) for end in drawn.groups()] == pytest.approx(ends, abs=0.001)
        assert 'class="target" x1="85.0%"' in plot
        assert candidate["outcome"] in plot


def test_the_scale_zooms_in_where_all_is_near_the_target() -> None:
    run = raced(Candidate("tfidf", None, 20), questions(1000), 0.99, target=0.97)
    found = summarise(facts([run], task(target=Target("accuracy", 0.97))))
    scale = axis(found)
    assert scale["start"] > 0.5
    assert [scale["at"](share) for share in (scale["start"], scale["end"])] == [0.0, 100.0]
    middle = (scale["start"] + scale["end"]) / 2
    assert scale["at"](middle) == pytest.approx(50.0, abs=0.001)
    assert [tick["x"] for tick in scale["ticks"]] == [scale["at"](tick["share"]) for tick in scale["ticks"]]
    assert "not at zero" in html(found)


def test_text_from_the_task_is_escaped() -> None:
    evil = "<script>alert('1')</script><img src=http://evil.example/x onerror=alert(1)>"
    labels = (Label(evil, evil), Label("b", "</style>"))
    example = Example("q", evil, (evil,))
    spec = task(labels=labels, name=evil)
    run = run_of([row(example, evil), row(replace(example, id="r"), "b")], fit={evil: evil * 3}, model=evil)
    found = summarise(
        facts([run], spec, findings={evil: evil}, provenance={"luthier": evil, "finished_at": evil}, flips=(evil,))
    )
    page = html(found)
    read = reads_well(page)
    assert "img" not in {tag for tag, _ in read.tags}
    assert "&lt;script&gt;" in page
    text = markdown(found)
    assert "<script" not in text
    assert "<img" not in text


def test_markdown_tables_survive_pipes_line_breaks_and_backticks() -> None:
    example = Example("q", "a | b\n\n# c `d` *e* [f](g)", ("HUM",))
    text = markdown(summarise(facts([run_of([row(example, "HUM")])], task())))
    assert "| a \\| b \\# c \\`d\\` \\*e\\* \\[f\\](g) | HUM | HUM |" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_at_least_4_5(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.css").read_text(encoding="utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", blocks[0 if scheme == "light" else 1]))

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper = luminance(colours["paper"])
    for name in ("ink", "soft", "meets", "open", "link"):
        light, dark = sorted((luminance(colours[name]), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


# ---------------------------------------------------------------- odd inputs


def nothing_measured() -> VerdictFacts:
    return facts([not_raced("majority", 10), not_raced("tfidf", 20)], task(), sentence="Nothing was measured.")


def no_candidate() -> VerdictFacts:
    found = facts([], task(), sentence="There was nothing to climb.", findings={}, provenance={})
    return replace(found, spend={"usage": {}})


def one_candidate() -> VerdictFacts:
    return facts([raced(Candidate("tfidf", None, 20), questions(300), 1.0)], task())


def target_of_one() -> VerdictFacts:
    spec = task(target=Target("accuracy", 1.0, about="split"))
    return facts([run_of([row(e, e.reference) for e in questions(20)])], spec)


def target_of_zero() -> VerdictFacts:
    spec = task(target=Target("accuracy", 0.0, about="split"))
    return facts([run_of([row(e, "ABBR") for e in questions(20)])], spec)


def one_row() -> VerdictFacts:
    asked = questions(1)
    return facts([run_of([row(asked[0], asked[0].reference)], population=500, groups=500)], task())


def all_unscored() -> VerdictFacts:
    return facts([run_of([row(e, None, error="out of memory") for e in questions(20)])], task())


def many_labels() -> VerdictFacts:
    labels = tuple(Label(f"label_{at:02}", f"the {at}th thing that customers ask about") for at in range(77))
    asked = [Example(f"q{at}", f"message {at}", (labels[at % 77].name,)) for at in range(400)]
    rows = [row(e, labels[(at * 5) % 77].name) for at, e in enumerate(asked)]
    return facts([run_of(rows)], task(labels=labels))


def other_scripts() -> VerdictFacts:
    labels = (Label("مرحبا بالعالم", "تحية"), Label("שלום", "ברכה"), Label("👩‍👩‍👧 家族", "zero\u200bwidth"))
    asked = [Example(f"q{at}", f"\u202e{labels[at % 3].name} — 你好 {at}", (labels[at % 3].name,)) for at in range(30)]
    return facts(
        [run_of([row(e, labels[at % 2].name) for at, e in enumerate(asked)])], task(labels=labels, name="مهمة")
    )


def unprintable() -> VerdictFacts:
    labels = (Label("half \ud83d"), Label("b"))
    rows = [row(Example("q\udc00", "\x00\x1b[31m \u202e red \ud800", ("b",)), "half \ud83d")]
    return facts([run_of(rows, fit={"sep": "", "cut": "\ud83d"})], task(labels=labels), findings={"odd": "\udfff"})


def long_label() -> VerdictFacts:
    labels = (Label("x" * 900, "y" * 3000), Label("b"))
    return facts([run_of([row(Example("q", "z" * 5000, ("x" * 900,)), "b")])], task(labels=labels))


def numbers_that_are_none() -> VerdictFacts:
    found = one_candidate()
    broken = replace(
        found.candidates[0],
        estimate=Estimate(math.nan, -math.inf, math.inf, 0, "ppr"),
        outcome=Outcome.INCONCLUSIVE,
        seconds=math.inf,
    )
    spend = {**found.spend, "seconds": math.nan}
    return replace(found, candidates=(broken,), chosen=None, spend=spend, findings={"ratio": math.inf})


ODD = (
    *(nothing_measured, no_candidate, one_candidate, target_of_one, target_of_zero, one_row, all_unscored),
    *(many_labels, other_scripts, unprintable, long_label, numbers_that_are_none),
)


@pytest.mark.parametrize("odd", ODD, ids=lambda build: build.__name__)
def test_odd_inputs_make_a_whole_report(odd: Any) -> None:
    found = summarise(odd())
    json.dumps(found, allow_nan=False)
    read = reads_well(html(found))
    text = markdown(found)
    assert not re.search(r"\b([Nn]a[Nn]|[Ii]nf|None)\b", text)
    assert not re.search("[\x00-\x08\x1b\u202e]", html(found) + text)
    assert (html(found) + text).encode()
    for candidate in found["candidates"]:
        assert candidate["name"] in " ".join(read.text)
    assert "The five questions every team asks" in text


def test_the_share_of_alpha_of_each_candidate_is_shown(page: str) -> None:
    assert pytest.approx(0.00625) == ALPHA
    assert page.count("0.62\N{NO-BREAK SPACE}%</td>") == 8
    assert len(LABELS) == 6
