"""Slices: which there are, where a candidate is worse, the targets of slices, and what each keeps from being chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import colour_rows
from why_sample import PHONE, examples, raced, sliced

from luthier import stats
from luthier.climb import Options, run
from luthier.errors import DataError, LuthierError, PowerError, SpecError
from luthier.evaluate import outlook
from luthier.evaluate.race import judge
from luthier.evaluate.slices import compared, judged, looks, rows_compared, share_of_alpha, undecided
from luthier.report.slices import slices_of
from luthier.report.verdict import decide
from luthier.task import load_task
from luthier.task.slices import belongs, name_of, settled
from luthier.types import Example, Message, Outcome, Slice, SliceTarget, Target

TOML = """
[task]
name = "colours"
[data]
path = "data.csv"
input = "text"
reference = "label"
[split]
test = 200
dev = 60
[target]
at_least = 0.8
[ladder]
rungs = ["majority", "tfidf"]
"""


def write(folder: Path, toml: str = "", *, count: int = 500, channel: Any = None) -> Path:
    """A task whose file has a column `channel`; what came by phone is labelled by a coin."""
    rng = np.random.default_rng(5)
    lines = ["text,label,channel,age"]
    for at, (text, label) in enumerate(colour_rows(count)):
        way = channel(at) if channel else "phone" if at % 4 == 3 else "web"
        heard = str(rng.choice(["warm", "cold"])) if way == "phone" else label
        lines.append(f'"{text}",{heard},{way},{at % 60}')
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "luthier.toml"
    path.write_text(TOML + toml, encoding="utf-8")
    return path


# ---------------------------------------------------------------- which slices there are


def test_a_task_has_slices_by_class_by_length_and_by_each_named_column(tmp_path: Path) -> None:
    rules = load_task(write(tmp_path, '[slices]\ncolumns = ["channel", "age"]')).spec.slices
    assert [name_of(each) for each in rules.slices if each.by == "class"] == ["class cold", "class warm"]
    assert [name_of(each) for each in rules.slices if each.column == "channel"] == ["channel = web", "channel = phone"]
    assert len([each for each in rules.slices if each.column == "age"]) == 4
    assert 2 <= len([each for each in rules.slices if each.by == "length"]) <= 4
    for by in ("class", "length"):
        assert sum(each.population for each in rules.slices if each.by == by) == 200
    for column in ("channel", "age"):
        assert sum(each.population for each in rules.slices if each.column == column) == 200


def test_columns_travel_with_the_examples_and_change_no_fingerprint(tmp_path: Path) -> None:
    plain, told = (
        load_task(write(tmp_path / "a", count=320)),
        load_task(write(tmp_path / "b", '[slices]\ncolumns = ["channel"]', count=320)),
    )
    assert {dict(each.columns)["channel"] for each in told.test.order} == {"web", "phone"}
    assert all(each.columns == () for each in plain.test.order)
    assert plain.fingerprint == told.fingerprint
    assert [each.id for each in plain.test.order] == [each.id for each in told.test.order]


def test_copies_that_came_by_several_ways_count_for_the_most_frequent_one(tmp_path: Path) -> None:
    path = write(tmp_path, '[slices]\ncolumns = ["channel"]')
    lines = (tmp_path / "data.csv").read_text(encoding="utf-8").splitlines()
    body = [line.replace(",web,", ",fax,") if at % 3 else line for at, line in enumerate(lines[1:])]
    (tmp_path / "data.csv").write_text("\n".join([lines[0], *body, *body, *lines[1:]]) + "\n", encoding="utf-8")
    test = load_task(path).test.order
    assert "fax" in {dict(each.columns)["channel"] for each in test}
    shuffled = [lines[0], *lines[1:], *body, *body]
    (tmp_path / "data.csv").write_text("\n".join(shuffled) + "\n", encoding="utf-8")
    assert [each.columns for each in load_task(path).test.order] == [each.columns for each in test]


def test_values_too_rare_to_be_compared_are_one_slice_together(tmp_path: Path) -> None:
    path = write(tmp_path, '[slices]\ncolumns = ["channel"]', channel=lambda at: "web" if at % 2 else f"shop {at % 40}")
    found = [each for each in load_task(path).spec.slices.slices if each.column == "channel"]
    assert [name_of(each) for each in found] == ["channel = web", "channel: any of 20 rarer values"]


@pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "null", "-"])
def test_words_for_a_missing_number_are_one_slice_beside_the_quarters(tmp_path: Path, word: str) -> None:
    path = write(
        tmp_path, '[slices]\ncolumns = ["channel"]', channel=lambda at: str(at) if at % 4 else ("", word)[at // 4 % 2]
    )
    found = [each for each in load_task(path).spec.slices.slices if each.column == "channel"]
    assert len(found) == 5
    assert name_of(found[-1]) == "channel is missing"
    assert sum(each.population for each in found) == 200


def test_a_chat_is_as_long_as_what_was_said_in_it() -> None:
    chat = Example("1", (Message("system", "x" * 900), Message("user", "hello")), ("a",))
    assert belongs(chat, Slice("length", high=5))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("toml", "error", "says"),
    [
        ('[slices]\ncolumns = ["chanel"]', DataError, "did you mean 'channel'"),
        ('[[slices.target]]\ncolumn = "channel"\nvalue = "fone"\nat_least = 0.7', DataError, "did you mean 'phone'"),
        ('[[slices.target]]\nclass = "warn"\nat_least = 0.7', SpecError, "did you mean 'warm'"),
        ("[[slices.target]]\nlonger_than = 900\nat_least = 0.7", DataError, "the longest input has"),
        ("[[slices.target]]\nat_least = 0.7", SpecError, "no slice is named"),
        ('[[slices.target]]\nclass = "warm"\nshorter_than = 9\nat_least = 0.7', SpecError, "several things"),
        ('[[slices.target]]\ncolumn = "channel"\nat_least = 0.7', SpecError, "go together"),
        ('[[slices.target]]\nclass = "warm"\nat_least = 80', SpecError, r"did you mean 0\.8\?"),
        ('[[slices.target]]\nclass = "warm"', SpecError, r"\[\[slices.target\]\] number 1 at_least: is missing"),
        ('[[slices.target]]\nclas = "warm"\nat_least = 0.7', SpecError, "did you mean 'class'"),
        ("[[slices.target]]\nshorter_than = 10\nlonger_than = 9\nat_least = 0.7", SpecError, "no input is shorter"),
        ('[slices]\ncolumns = ["a", "a"]', SpecError, "twice"),
        ("[slices]\nleast = 2", SpecError, "least"),
        ('[slices]\ntarget = "phone"', SpecError, "not a list"),
        ("[slices]\ntarget = [3]", SpecError, "number 1"),
    ],
)
def test_a_mistake_about_slices_names_its_place_and_its_fix(
    tmp_path: Path, toml: str, error: type[LuthierError], says: str
) -> None:
    with pytest.raises(error, match=says):
        load_task(write(tmp_path, toml, count=320))


def test_too_few_examples_of_a_slice_are_refused_with_the_number_that_it_takes(tmp_path: Path) -> None:
    toml = '[[slices.target]]\ncolumn = "channel"\nvalue = "rare"\nat_least = 0.9'
    path = write(tmp_path, toml, channel=lambda at: "rare" if at % 20 == 0 else "web")
    task = load_task(path)
    needed = stats.fewest_to_prove(0.9, share_of_alpha(task.spec, 0.025))
    with pytest.raises(PowerError, match=rf"that takes {needed}"):
        outlook.slice_lines(task, 0.025)
    with pytest.raises(PowerError, match="slice channel = rare"):
        run(task)


# ---------------------------------------------------------------- against the rest


def test_the_difference_has_fishers_p_and_newcombes_interval() -> None:
    """Newcombe (1998), method 10, for 56 of 70 against 48 of 80."""
    scores = [1.0] * 56 + [0.0] * 14 + [1.0] * 48 + [0.0] * 32
    (found,) = stats.apart(scores, [[True] * 70 + [False] * 80])
    assert [round(end, 4) for end in (found.low, found.high)] == [0.0524, 0.3339]
    assert found.p == pytest.approx(0.0118, abs=2e-3)


def test_real_scores_are_compared_by_permutation_and_groups_count_once() -> None:
    rng = np.random.default_rng(1)
    part = np.arange(80) < 30
    scores = np.clip(rng.normal(np.where(part, 0.55, 0.7), 0.15), 0, 1)
    (found,) = stats.apart(scores, [part])
    assert found.exact
    assert found.p < 0.01
    assert found.low < found.difference < found.high < 0
    units = np.repeat(np.arange(80), 3)
    (grouped,) = stats.apart(np.repeat(scores, 3), [np.repeat(part, 3)], units)
    assert grouped == found
    both = np.tile([True, False, False], 80)
    (mixed,) = stats.apart(np.repeat(scores, 3), [both], units)
    assert not mixed.exact
    assert mixed.difference == pytest.approx(0.0)


def test_a_slice_that_is_worse_stands_first_and_is_named() -> None:
    test = examples(600)
    spec = sliced(test)
    found = compared(raced(spec, test, "lora", rank=70, rate=0.95, by_phone=0.6, stop=False), spec)
    assert [name_of(each.slice) for each in found if each.worse] == ["channel = phone"]
    assert found[0].slice.values == ("phone",)
    assert found[0].found is not None
    assert found[0].found.high < 0
    assert found[0].missed == round((1 - found[0].found.inside) * found[0].scored)


def test_slices_of_a_task_without_any_are_named_worse_in_at_most_alpha_of_the_races() -> None:
    """Races that stop when their target is settled, on tasks where no slice matters: the stop looks at scores alone."""
    test = examples(240)
    spec = sliced(test, least=5)
    named = peeking = 0
    for seed in range(200):
        found = compared(raced(spec, test, "lora", rank=70, rate=0.82, by_phone=0.82, seed=seed), spec)
        named += any(each.worse for each in found)
        peeking += any(each.found is not None and each.found.p <= 0.05 for each in found)
    assert named <= 0.05 * 200
    assert peeking > 0.15 * 200  # what comes of naming each slice whose own p-value is small


def test_a_race_that_went_on_for_a_slice_is_compared_where_its_own_target_was_settled() -> None:
    test = examples(640)
    spec = sliced(test, [SliceTarget(PHONE, 0.8)])
    whole = raced(spec, test, "lora", rank=70, rate=0.97, by_phone=0.97, stop=False)
    longer = replace(whole, rows=whole.rows[:400])
    settled_at = judge(longer, spec.target, spec.label_names).decided_at
    assert settled_at is not None
    assert settled_at <= len(rows_compared(longer, spec)) < settled_at + 16
    assert len(rows_compared(whole, spec)) == 640
    assert (looks(longer, spec), looks(longer, sliced(test))) == (2, 1)


def test_a_group_counts_once_in_a_slice_and_a_half_seen_one_not_at_all() -> None:
    test = [replace(each, group=f"g{at // 4}") for at, each in enumerate(examples(400))]
    spec = sliced(test)
    whole = raced(spec, test, "lora", rank=70, rate=0.9, by_phone=0.5, stop=False)
    grouped = replace(whole, rows=whole.rows[:202], groups=100, grouped=True)
    found = {name_of(each.slice): each for each in compared(grouped, spec)}
    phone = found["channel = phone"]
    assert (phone.rest, phone.scored) == (50, len({row.example.group for row in whole.rows[:200] if phone_row(row)}))
    assert phone.found is not None
    assert not phone.found.exact  # groups lie on both sides
    assert phone.worse


def phone_row(row: Any) -> bool:
    return dict(row.example.columns)["channel"] == "phone"


@pytest.mark.parametrize("metric", ["macro_f1", "recall", "bleu"])
def test_other_metrics_are_compared_by_what_they_are_about(metric: Any) -> None:
    test = examples(500)
    label = "HUM" if metric == "recall" else None
    target = Target(metric, 0.8, label=label)
    spec = replace(sliced(test), target=target)
    spec = replace(spec, slices=settled(spec.slices, test, (), spec.labels, target, where=""))
    run = raced(spec, test, "lora", rank=70, rate=0.9, by_phone=0.9, stop=False)
    found = {name_of(each.slice): each for each in compared(run, spec)}
    if metric == "bleu":
        assert not found
        told = slices_of((), [run], None, spec)
        assert told == {}
        return
    assert found["channel = web"].scored + found["channel = web"].rest == sum(
        label in (None, each.reference) for each in test
    )
    assert any(name.startswith("class") for name in found) == (metric == "macro_f1")


def test_a_column_that_tells_nothing_apart_is_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, '[slices]\ncolumns = ["channel", "text"]', channel=lambda at: "web")
    task = load_task(path)
    assert {each.by for each in task.spec.slices.slices} == {"class", "length"}
    assert [line for line in task.findings["warnings"] if "tells no test examples apart" in line and "'text'" in line]
    assert len([line for line in task.findings["warnings"] if "[slices]" in line]) == 2


# ---------------------------------------------------------------- the targets of slices


def phone_verdict(by_phone: float, *, at_least: float = 0.8, rows: int = 1000) -> Any:
    test = examples()
    spec = sliced(test, [SliceTarget(PHONE, at_least)])
    first = raced(spec, test, "tfidf", rank=20, rate=0.99, by_phone=by_phone, stop=False)
    second = raced(spec, test, "lora", rank=70, rate=0.97, by_phone=0.97, stop=False)
    runs = [replace(first, rows=first.rows[:rows]), second]
    return decide(runs, {}, spec.target, spec.constraints, task=spec)


def test_a_candidate_that_provably_misses_a_slice_is_not_chosen_and_the_reason_is_said() -> None:
    found = phone_verdict(0.6)
    first = found.candidates[0]
    assert first.outcome is Outcome.MEETS
    assert (first.eligible, found.chosen) == ("no", "lora")
    assert "channel = phone" in first.blocked_by[0]
    assert "provably below 80 %" in first.blocked_by[0]
    assert [each["standing"] for each in first.slice_targets] == ["missed"]
    assert "It is shown to meet the target of each slice." in found.sentence


def test_what_is_not_shown_is_told_apart_from_what_is_missed() -> None:
    found = phone_verdict(0.84)
    first = found.candidates[0]
    assert (first.eligible, found.chosen) == ("unknown", "tfidf")
    assert "NOT SHOWN" in first.unsettled[0]
    assert first.slice_targets[0]["standing"] == "not shown"
    assert first.slice_targets[0]["more_examples"]["median"] > 0
    assert "channel = phone is not shown" in found.sentence
    assert "forgot" not in found.sentence
    assert "not shown" in json.dumps(found.to_dict())


@pytest.mark.parametrize("about", ["inputs to come", "split"])
def test_a_target_in_recall_is_judged_on_the_examples_of_its_class_alone(about: Any) -> None:
    test = examples(600)
    target = Target("recall", 0.7, label="HUM", about=about)
    spec = sliced(test, [SliceTarget(PHONE, 0.7)])
    spec = replace(spec, target=target)
    spec = replace(spec, slices=settled(spec.slices, test, (), spec.labels, target, where=""))
    (found,) = judged(raced(spec, test, "tfidf", rank=20, rate=0.97, by_phone=0.97, stop=False), spec)
    assert found.seen == found.target.slice.population < 60
    assert found.estimate is not None
    assert found.estimate.n == found.seen
    assert found.estimate.method == ("census" if about == "split" else "ppr")


def test_where_all_are_blocked_by_a_slice_the_verdict_says_which() -> None:
    test = examples()
    spec = sliced(test, [SliceTarget(PHONE, 0.8)])
    only = raced(spec, test, "tfidf", rank=20, rate=0.99, by_phone=0.6, stop=False)
    found = decide([only], {}, spec.target, spec.constraints, task=spec)
    assert found.chosen is None
    assert "would meet it but may not be used" in found.sentence
    assert "channel = phone" in found.sentence


def test_a_value_that_is_personal_is_masked_in_verdict_and_report() -> None:
    test = [replace(each, columns=(("channel", "ada@example.org"),)) for each in examples(400)]
    target = SliceTarget(Slice("column", "channel", ("ada@example.org",)), 0.8)
    spec = sliced(test, [target])
    only = raced(spec, test, "tfidf", rank=20, rate=0.5, by_phone=0.5, stop=False)
    text = json.dumps(decide([only], {}, spec.target, spec.constraints, task=spec).to_summary())
    assert "ada@example.org" not in text
    assert "[EMAIL]" in text


def test_a_target_of_a_slice_is_wrongly_missed_in_at_most_its_share_of_races() -> None:
    """The truth is exactly the slice's bar, and the first crossing counts wherever it is: as if each row was a look."""
    test = examples(320)
    spec = sliced(test, [SliceTarget(PHONE, 0.7)], confidence=0.9)
    wrong = 0
    for seed in range(120):
        rows = raced(spec, test, "lora", rank=70, rate=0.97, by_phone=0.7, seed=seed, stop=False)
        wrong += judged(replace(rows, alpha=0.05), spec)[0].outcome is not Outcome.INCONCLUSIVE
    assert wrong <= 2 * 0.1 * 120  # alpha on each of its two sides


def test_the_shares_of_all_candidates_stay_within_the_slices_own_alpha() -> None:
    spec = sliced(examples(200), [SliceTarget(PHONE, 0.7), SliceTarget(Slice("class", values=("HUM",)), 0.7)])
    shares = [share_of_alpha(spec, 0.05 / 8) for _ in range(8)]
    assert 2 * sum(shares) == pytest.approx(0.05)


# ---------------------------------------------------------------- in a climb


def climbed(folder: Path, toml: str, **how: Any) -> Any:
    return run(load_task(write(folder, toml, count=900)), options=Options(**how))


def test_a_climb_goes_past_a_candidate_that_misses_a_slice_and_replays_when_the_target_is_lowered(
    tmp_path: Path,
) -> None:
    toml = '[slices]\ncolumns = ["channel"]\n[[slices.target]]\ncolumn = "channel"\nvalue = "phone"\nat_least = {}\n'
    found = climbed(tmp_path, toml.format(0.85))
    tfidf = found.candidates[1]
    assert tfidf.outcome is Outcome.MEETS
    assert tfidf.eligible == "no"
    assert found.chosen is None
    scored = found.spend["examples_scored"]
    again = climbed(tmp_path, toml.format(0.3))
    assert again.chosen == "tfidf"
    assert again.provenance["task_fingerprint"] == found.provenance["task_fingerprint"]
    assert again.candidates[1].alpha == tfidf.alpha
    assert again.spend["examples_scored"] <= scored + 200


def test_a_race_that_has_met_its_target_goes_on_for_a_slice(tmp_path: Path) -> None:
    """With a target of 60 % the race is over early; the slice takes longer, and changes no outcome."""
    toml = '[[slices.target]]\ncolumn = "channel"\nvalue = "phone"\nat_least = 0.3\n'
    path = write(tmp_path, toml, count=900)
    path.write_text(path.read_text(encoding="utf-8").replace("at_least = 0.8", "at_least = 0.6"), encoding="utf-8")
    found = run(load_task(path))
    tfidf = found.candidates[1]
    assert tfidf.outcome is Outcome.MEETS
    assert tfidf.decided_at is not None
    assert len(found.runs[1].rows) >= tfidf.decided_at + 16
    assert len(rows_compared(found.runs[1], found.task)) < tfidf.decided_at + 16
    assert tfidf.slice_targets[0]["scored"] > 10


def test_a_race_goes_on_for_a_slice_only_while_that_can_still_decide_it() -> None:
    test = examples(1000)
    spec = sliced(test, [SliceTarget(PHONE, 0.8)])
    whole = raced(spec, test, "lora", rank=70, rate=0.97, by_phone=0.97, stop=False)
    assert undecided(replace(whole, rows=whole.rows[:64]), spec)
    assert not undecided(whole, spec)
    missed = raced(spec, test, "tfidf", rank=20, rate=0.97, by_phone=0.3, stop=False)
    assert not undecided(replace(missed, rows=missed.rows[:500]), spec)
    assert not undecided(replace(whole, rows=whole.rows[:64]), sliced(test))
