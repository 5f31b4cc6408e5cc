"""Money in a climb: the verdict joins cost, constraints decide, and the calculator gives what the run measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from builders import eval_run, spec
from test_cli import call
from test_climb import TOML, models, task_at

import luthier
from luthier.economics.book import Book
from luthier.economics.measured import Measured, measured
from luthier.economics.ways import Setting, nothing, raced_way, ways
from luthier.errors import SpecError
from luthier.models.scripted import ScriptedModel
from luthier.report.calculator import Calculated, calculate
from luthier.report.verdict import decide
from luthier.task import load_task
from luthier.types import Candidate, Constraints, Economics, Option, Outcome, Price, Target

TODAY = date(2026, 11, 22)
NUMBERS = """
[economics]
monthly_requests = 300000
usd_per_label = 0.5
preparation_share = 0.0

[option.prompt]
model = "gpt-4.1-mini"
prompt_tokens = 1500
output_tokens = 50

[option.tuned]
model = "ft-mini"
prompt_tokens = 300
output_tokens = 50
labels = 1000
training_tokens = 1050000
training_model = "mini-base"
{host}
[price."gpt-4.1-mini"]
input = 0.40
output = 1.60

[price.mini-base]
training = 3.00

[price.ft-mini]
input = 0.30
output = 1.20
as_of = 2026-04-15
"""
MONEY = """
[economics]
monthly_requests = 1e6
usd_per_error = 0.05
engineering_hours = {prompt = 8}
usd_per_hour = 90

[option.clerks]
today = true
usd_per_request = 0.30
accuracy = 0.97
"""


def numbers_at(folder: Path, host: str = "") -> Path:
    path = folder / "luthier.toml"
    path.write_text(NUMBERS.format(host=host), encoding="utf-8")
    return path


def priced_task(folder: Path, more: str = MONEY, **options: Any) -> Path:
    path = task_at(folder, **options)
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    return path


# ---------------------------------------------------------------- the calculator without a run


def test_the_golden_case_from_a_file_of_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = numbers_at(tmp_path)
    assert call("cost", str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    months = {way["name"]: way["usd_per_month"] for way in found["ways"]}
    assert (months["prompt"], months["tuned"]) == pytest.approx((204.0, 45.0))
    (pair,) = found["break_even"]
    assert (pair["of"], pair["against"]) == ("tuned", "prompt")
    assert pair["months"] == pytest.approx(3.1645, rel=1e-4)
    assert [each["months"] for each in pair["scales"]] == pytest.approx([3.1645, 0.31645, 0.031645], rel=1e-4)
    assert 0 < pair["p_within_6_months"]["error"] < 0.01 < pair["p_within_6_months"]["value"] < 1
    assert found["cheapest"] == "tuned"
    low = next(flip for flip in found["flips"] if flip["key"] == "requests")
    assert low["threshold"] == pytest.approx(503.15 / 12 / (0.00068 - 0.00015), rel=1e-6)
    assert low["sentence"] == "At 79,100 requests a month or less, prompt is the cheapest (today 300,000)"
    hosted = calculate(
        numbers_at(tmp_path, 'host = "azure-hosting"\n[price.azure-hosting]\nhour = 1.70\n'), today=TODAY
    )
    (pair,) = hosted.told["break_even"]
    assert pair["months"] is None
    assert "$1,082.00 more a month" in pair["reason"]


def test_a_change_on_the_command_line_is_a_change_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = numbers_at(tmp_path)
    assert call("cost", str(path), "--set", "economics.monthly_requests=3e6", "--json") == 0
    assert json.loads(capsys.readouterr().out)["monthly_requests"] == 3_000_000
    assert call("cost", str(path), "--set", "option.tuned.output_tokens=100") == 0
    out = capsys.readouterr().out
    assert "Break-even:" in out
    assert "What would flip it:" in out
    assert "What moves the $" in out
    assert "what starting tuned takes" in out.split("What moves")[1], "the tornado, in words"
    assert "Not counted:" in out
    assert "nan" not in out.lower()
    assert " inf" not in out.lower()


BAD = [
    ("economics.monthly_requests=0", "0 requests a month cost nothing"),
    ("economics.monthly_requests=-5", "-5 requests a month"),
    ("economics.monthly_requests=nan", "finite"),
    ("economics.monthly_requests=inf", "finite"),
    ("economics.horizon_months=0", "0 months are no horizon"),
    ("economics.monthly_request=3", "did you mean 'monthly_requests'"),
    ("economics.requests_range=[5, 1]", "no range"),
    ("economics.requests_range=[1, 5]", "lies outside requests_range"),
    ("economics.engineering_hours={tune=4}", "add usd_per_hour"),
    ("option.tuned.host='nowhere'", "is no machine with a known price"),
    ("option.prompt.model='gpt-4o-minni'", "did you mean gpt-4o-mini"),
    ("option.prompt.accuracy_range=[0.1, 0.2]", "accuracy_range without accuracy"),
    ("option.prompt.prefix_tokens=2000", "the prefix has 2000 tokens"),
    ("option.empty.accuracy=0.5", "it says nothing about cost"),
    ("price.ft-mini.input=0.0003", "is it for 1,000 tokens"),
    ("price.ft-mini.currency='EUR'", "add usd_per_unit"),
    ("constraints.usd_per_month=-1", "greater than 0"),
    ("nonsense", "changes nothing"),
]


@pytest.mark.parametrize(("change", "says"), BAD, ids=[change for change, _ in BAD])
def test_bad_numbers_are_one_clear_line(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        calculate(numbers_at(tmp_path), [change], today=TODAY)
    assert says in str(caught.value)


def test_accuracies_at_the_ends_and_huge_volumes_give_finite_figures(tmp_path: Path) -> None:
    changes = [
        "economics.monthly_requests=1e12",
        "economics.usd_per_error=1",
        "option.prompt.accuracy=0.0",
        "option.prompt.accuracy_range=[0.0, 0.4]",
        "option.tuned.accuracy=1.0",
        "option.tuned.accuracy_range=[0.9, 1.0]",
    ]
    found = calculate(numbers_at(tmp_path), changes, today=TODAY)
    text = json.dumps(found.told, allow_nan=False)
    assert "Infinity" not in text
    prompt = next(way for way in found.told["ways"] if way["name"] == "prompt")
    assert prompt["usd_per_accurate_answer"] is None


def test_contradictory_constraints_leave_nothing_and_say_so(tmp_path: Path) -> None:
    found = calculate(numbers_at(tmp_path), ["constraints.local_only=true", "constraints.usd_per_month=1"], today=TODAY)
    assert found.told["cheapest"] is None
    assert found.told["sentences"] == ["No way may be chosen, so there is nothing to compare by cost."]
    reasons = {way["name"]: way["excluded"] for way in found.told["ways"]}
    assert reasons["tuned"] == "local_only: inputs would leave this machine"


def test_a_price_in_another_currency_or_unit_is_the_same_price(tmp_path: Path) -> None:
    plain = calculate(numbers_at(tmp_path), today=TODAY)
    changes = ["price.ft-mini={input=0.0006, output=0.0024, unit='1K tokens', currency='EUR', usd_per_unit=0.5}"]
    again = calculate(numbers_at(tmp_path), changes, today=TODAY)
    exact = [[line["exact"] for line in way["lines"]] for found in (plain, again) for way in found.told["ways"]]
    assert exact[: len(exact) // 2] == exact[len(exact) // 2 :]


def test_prices_shows_where_a_price_is_from_and_warns_when_it_is_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prices", "gpt-4o-mini", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["input"], found["output"], found["unit"]) == ("0.15", "0.6", "1M tokens")
    assert found["retires"] == "2027-01-14"
    assert {origin["what"] for origin in found["origins"]} == {"tokens", "prompt cache", "training", "shutdown"}
    assert any("days old" in warning for warning in found["warnings"])
    assert call("prices", "no-such-model") == 2
    assert '[price."no-such-model"] with input' in capsys.readouterr().err
    assert call("prices", "ft-mini", "--task", str(numbers_at(tmp_path))) == 0
    assert "as of 2026-04-15" in capsys.readouterr().out
    assert call("prices", "hosts") == 0
    assert "modal-l4" in capsys.readouterr().out


def test_every_price_of_the_tables_has_a_source_and_a_date() -> None:
    book = Book.of((), TODAY)
    assert len(book.hosts()) >= 8
    for host in book.hosts():
        assert host.origin.source
        assert host.origin.as_of is not None
        assert host.usd_per_hour > 0
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"):
        _, origin = book.training(model)
        assert origin.as_of is not None
    sonnet = book.model("claude-sonnet-4-5")
    assert sonnet.cache is not None
    assert (sonnet.cache.write, sonnet.cache.minimum_tokens) == (1.25, 1024)
    assert sonnet.rates_for(200_001).input == 2 * sonnet.rates_for(200_000).input


# ---------------------------------------------------------------- in a climb


def test_the_verdict_prices_what_was_raced_and_names_what_it_assumed(tmp_path: Path) -> None:
    verdict = luthier.run(priced_task(tmp_path), models=models())
    costs = verdict.to_dict()["costs"]
    ways = {way["name"]: way for way in costs["ways"]}
    assert set(ways) == {"majority", "tfidf", "clerks", "do nothing"}
    assert costs["cheapest"] == verdict.chosen == "tfidf"
    assert ways["majority"]["excluded"] == "DOES NOT MEET"
    assert [host["name"] for host in ways["tfidf"]["hosts"]] == ["this machine", "modal-l4"]
    assert ways["clerks"]["usd_per_month"] == pytest.approx(300_000)
    assert any("this machine costs" in line for line in costs["assumed"])
    assert any("hours of upkeep" in line for line in costs["not_counted"])
    assert any("Today's process (clerks) costs" in line for line in costs["sentences"])
    assert any("Doing nothing costs" in line for line in costs["sentences"])
    again = load_task(tmp_path / "luthier.toml")
    assert again.fingerprint == load_task(task_at(tmp_path)).fingerprint, "money changes nothing that is measured"
    text = verdict.to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What it costs" in text
    assert "Does it pay?" in text
    assert "## What it costs" in verdict.to_markdown(tmp_path / "r.md").read_text(encoding="utf-8")


def test_a_second_run_says_what_moved_and_why(tmp_path: Path) -> None:
    first = luthier.run(priced_task(tmp_path), models=models())
    assert first.changes == ()
    assert luthier.run(tmp_path, models=models()).changes == (), "nothing moved"
    dearer = MONEY.replace("usd_per_request = 0.30", "usd_per_request = 0.60")
    priced_task(tmp_path, dearer + "\n[constraints]\nusd_per_month = 1\n")
    again = luthier.run(tmp_path, models=models())
    assert again.changes[0] == "Chosen is nothing, and was tfidf"
    assert any(each.startswith("tfidf is MEETS, blocked by usd_per_month") for each in again.changes)
    assert any("the same predictor" in each for each in again.changes)
    assert "clerks costs $600,000 a month, and did $300,000 (price a request: $0.30 then $0.60)" in again.changes
    assert "What moved since the last run" in again.to_html(tmp_path / "r.html").read_text(encoding="utf-8")


def test_where_nothing_is_chosen_the_next_steps_stand_in_the_order_of_their_worth(tmp_path: Path) -> None:
    more = MONEY.replace("monthly_requests = 1e6", "monthly_requests = 1e6\nusd_per_label = 0.5")
    more += "[option.large]\nusd_per_request = 0.001\naccuracy = 0.95\naccuracy_range = [0.90, 0.99]\nusd_once = 100\n"
    verdict = luthier.run(priced_task(tmp_path, more, rungs=("majority",), at_least=0.9), models=models())
    assert verdict.chosen is None
    steps = verdict.to_dict()["costs"]["next_steps"]
    worth = [step["worth"] for step in steps if step["worth"] is not None]
    assert worth == sorted(worth, reverse=True)
    assert len(worth) >= 2
    assert all(step["worth"] is None for step in steps[len(worth) :]), "what nobody measured stands last"
    large = next(step for step in steps if "large" in step["what"])
    gain = 0.95 - next(result for result in verdict.candidates).estimate.mean  # type: ignore[union-attr]
    rows = {way["name"]: way for way in verdict.to_dict()["costs"]["ways"]}
    cheaper = rows["majority"]["usd_total"] - rows["large"]["usd_total"]
    assert large["worth"] == pytest.approx(gain * 1e6 * 12 * 0.05 + cheaper)
    clerks = next(step for step in steps if "clerks" in step["what"])
    assert clerks["worth"] < large["worth"], "$0.30 a request is no bargain, however little it costs to start"
    assert "a month more than majority" in clerks["sentence"]
    assert steps[-1]["p_target"] is None, "what nobody measured comes last, and says so"
    assert "was not measured" in steps[-1]["sentence"]
    assert 0.9 < large["p_target"] < 1
    assert any(step["what"].startswith("lower the target to") for step in steps)
    assert "What to do next" in verdict.to_html(tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_calculator_takes_what_the_last_run_measured(tmp_path: Path) -> None:
    path = priced_task(tmp_path)
    verdict = luthier.run(path, models=models())
    found = calculate(path, today=datetime.now(UTC).date())
    assert found.run is not None
    of_run = {way["name"]: way["usd_total"] for way in verdict.to_dict()["costs"]["ways"]}
    assert {way["name"]: way["usd_total"] for way in found.told["ways"]} == pytest.approx(of_run)
    other = calculate(path, ["economics.monthly_requests=1e7"], today=TODAY)
    assert other.told["ways"][0]["usd_per_month"] >= found.told["ways"][0]["usd_per_month"]


class Away(ScriptedModel):
    remote = True


def far(name: str) -> dict[str, Any]:
    return {**models(), "prompted": Away(lambda messages: "warm", name=name)}


def test_after_a_winner_the_climb_goes_on_only_to_what_could_be_cheaper(tmp_path: Path) -> None:
    rungs = ("tfidf", "zero-shot")
    cheap = "\n[economics]\nmonthly_requests = 1000\n[price.far]\ninput = 0.1\noutput = 0.1\n"
    verdict = luthier.run(priced_task(tmp_path / "a", cheap, rungs=rungs), models=far("far"))
    assert verdict.candidates[1].outcome is not Outcome.NOT_MEASURED, "tokens may be cheaper than a machine: raced"
    dear = cheap + "[option.x]\nusd_once = 1\n"
    dear = dear.replace(
        "monthly_requests = 1000", "monthly_requests = 1000\nengineering_hours = {prompt = 80}\nusd_per_hour = 100"
    )
    verdict = luthier.run(priced_task(tmp_path / "b", dear, rungs=rungs), models=far("far"))
    assert verdict.candidates[1].outcome is Outcome.NOT_MEASURED
    assert "could not be cheaper: at the very least $8,000 over 12 months" in verdict.candidates[1].reasons[0]


def test_a_remote_model_without_a_price_stops_before_it_is_asked(tmp_path: Path) -> None:
    model = far("nobody-knows-me")
    with pytest.raises(SpecError, match="nobody knows what nobody-knows-me costs"):
        luthier.run(priced_task(tmp_path, rungs=("majority", "zero-shot")), models=model)
    assert model["prompted"].requests == [] if hasattr(model["prompted"], "requests") else True


def test_a_price_ceiling_and_a_list_of_licences_block(tmp_path: Path) -> None:
    path = priced_task(tmp_path, MONEY + "\n[constraints]\nusd_per_month = 1\n")
    verdict = luthier.run(path, models=models())
    tfidf = verdict.candidates[1]
    assert tfidf.outcome is Outcome.MEETS
    assert tfidf.eligible == "no"
    assert tfidf.blocked_by[0].startswith("usd_per_month: $")
    assert verdict.chosen is None
    assert load_task(path).fingerprint == load_task(task_at(tmp_path)).fingerprint, "it chooses, and measures nothing"


# ---------------------------------------------------------------- decide is pure


def runs(*names: str) -> list[Any]:
    found = [eval_run([1.0] * 200, name=name, rank=10 * (at + 1)) for at, name in enumerate(names)]
    return [replace(run, candidate=Candidate(run.candidate.rung, None, run.candidate.rank)) for run in found]


def money(**usd: float) -> dict[str, Any]:
    return {
        name: {"usd_total": total, "usd_per_month": total / 12, "usd_per_1k_requests": 1.0, "usd_to_start": 0.0}
        | {"months": 12, "p_cheapest": 0.9}
        for name, total in usd.items()
    }


def test_of_several_that_meet_the_target_the_cheapest_is_chosen() -> None:
    target = Target("accuracy", 0.85)
    raced = runs("tfidf", "zero-shot")
    decided = decide(raced, {}, target, Constraints(), task=spec(target))
    assert decided.chosen == "tfidf", "without costs: the simplest"
    priced = decide(raced, money(tfidf=900.0, **{"zero-shot": 100.0}), target, Constraints(), task=spec(target))
    assert priced.chosen == "zero-shot"
    assert (
        "cheapest of 2 that do: $100 over 12 months, against $900 for tfidf, with a probability of 90.0 %"
        in priced.sentence
    )
    even = decide(raced, money(tfidf=100.0, **{"zero-shot": 100.0}), target, Constraints(), task=spec(target))
    assert even.chosen == "tfidf", "of two that cost the same: the simpler"
    capped = Constraints(usd_per_month=10.0)
    blocked = decide(raced, money(tfidf=900.0, **{"zero-shot": 100.0}), target, capped, task=spec(target, capped))
    assert [result.eligible for result in blocked.candidates] == ["no", "yes"]


@pytest.mark.parametrize(
    ("licences", "known", "unknown_allowed", "blocked"),
    [
        ((), {"m": "gemma"}, False, False),
        (("apache-2.0",), {"m": "Apache-2.0"}, False, False),
        (("apache-2.0", "mit"), {"m": "gemma"}, False, True),
        (("mit",), {"m": None}, False, True),
        (("mit",), {"m": None}, True, False),
        (("mit",), {}, False, False),
        (("mit",), {"m": "mit", "e": "gpl-3.0"}, False, True),
    ],
)
def test_licences_that_are_not_on_the_list_block(
    licences: Sequence[str], known: dict[str, str | None], unknown_allowed: bool, blocked: bool
) -> None:
    target, rules = (
        Target("accuracy", 0.85),
        Constraints(licences=tuple(licences), allow_unknown_licence=unknown_allowed),
    )
    run = replace(runs("zero-shot")[0], licences=known)
    (result,) = decide([run], {}, target, rules, task=spec(target, rules)).candidates
    assert (result.eligible == "no") is blocked
    assert any(reason.startswith("licences: ") for reason in result.blocked_by) is blocked


def test_a_remote_judge_does_not_make_a_local_model_pay_by_the_token() -> None:
    run = replace(runs("zero-shot")[0], remote=True)
    judged = measured(run, Target("accuracy", 0.85), None)
    paid = measured(replace(run, by_token=True), Target("accuracy", 0.85), None)
    assert judged is not None
    assert paid is not None
    assert (judged.remote, paid.remote) == (False, True)
    assert Measured.read(json.loads(json.dumps(paid.plain()))) == paid


def test_errors_may_cost_more_in_one_class() -> None:
    found = measured(
        eval_run([1.0] * 60 + [0.0] * 40, references=["a"] * 80 + ["b"] * 20), Target("accuracy", 0.5), None
    )
    assert found is not None
    assert (found.wrong_by_class, found.classes) == ({"a": 0.2, "b": 0.2}, {"a": 0.8, "b": 0.2})
    economics = Economics(monthly_requests=1_000, usd_per_error=1.0, error_by_class={"b": 10.0})
    way = raced_way(found, Setting.of(economics, TODAY))
    assert way.error_usd == pytest.approx(0.2 * 1.0 + 0.2 * 10.0)
    assert nothing(economics, [found]).error_usd == pytest.approx(0.8 * 1.0 + 0.2 * 10.0)


def test_the_sections_without_economics_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "luthier.toml"
    base = TOML.format(rungs='["majority"]', at_least=0.8)
    path.write_text(base + "[option.x]\nusd_once = 1\n", encoding="utf-8")
    with pytest.raises(SpecError, match="says nothing without"):
        calculate(path, today=TODAY)
    path.write_text(base + "[constraints]\nusd_per_month = 5\n", encoding="utf-8")
    with pytest.raises(SpecError, match="needs to know how much is asked"):
        calculate(path, today=TODAY)
    path.write_text(base, encoding="utf-8")
    with pytest.raises(SpecError, match=r"no \[economics\] section"):
        calculate(path, today=TODAY)


# ---------------------------------------------------------------- figures as people write them

AS_WRITTEN = [
    ("economics.monthly_requests=300,000", "monthly_requests = 300000"),
    ("economics.monthly_requests=300.000", "write 300000 if a point parts thousands, else 300"),
    ("economics.monthly_requests=1 250 000", "monthly_requests = 1250000"),
    ("economics.monthly_requests=many", "write a number such as 300000"),
    ("economics.horizon_months=1 year", "such as 12"),
    ("economics.usd_per_error=€0.05", "usd_per_error = 0.05"),
    ("economics.usd_per_error=0,05", "usd_per_error = 0.05"),
    ("economics.growth_per_month=20 %", "growth_per_month = 0.2"),
    ("economics.discount_per_year=8", "discount_per_year = 0.08 for 8 %"),
    ("option.prompt.accuracy=90", "accuracy = 0.9 for 90 %"),
    ("price.ft-mini.retires='2026-11-30'", "retires = 2026-11-30"),
    ("price.ft-mini.currency='€'", 'currency = "EUR"'),
    ("price.ft-mini.cached_input=0.00003", "is the unit the same"),
    ("price.ft-mini.cache_write=300", "is the unit the same"),
    ("economics.monthly_requests=0.4", "fewer than one"),
    ("economics.monthly_requests=1e300", "more than anybody has"),
    ("economics.requests_range=[1e-300, 1e300]", "is no range"),
    ("economics.peak=1e300", "less than or equal to"),
    ("economics.utilisation=1e-300", "greater than or equal to"),
    ("economics.active_hours=1e-300", "greater than or equal to"),
    ("economics.months_between_changes=1e-300", "more than one a day"),
    ("economics.replicas=1000000000000", "less than or equal to"),
    ("economics.deployment_days={prompt=1e300}", "is no amount"),
    ("economics.error_by_class={a=1e308}", "is no amount"),
    ("option.tuned.training_tokens=1e300", "less than or equal to"),
    ("option.tuned.days=1e308", "less than or equal to"),
    ("option.tuned.training_host='aws-g5-xlarge'", "add training_tokens and parameters"),
]


@pytest.mark.parametrize(("change", "says"), AS_WRITTEN, ids=[change for change, _ in AS_WRITTEN])
def test_figures_as_people_write_them_are_answered_with_how_to_write_them(
    tmp_path: Path, change: str, says: str
) -> None:
    with pytest.raises(SpecError) as caught:
        calculate(numbers_at(tmp_path), [change], today=TODAY)
    assert says in str(caught.value)


OWN_GPU = {
    "option.tuned.training_tokens": "3e6",
    "option.tuned.training_host": "'box'",
    "option.tuned.parameters": "7e9",
    "price.box.hour": "2.0",
    "price.box.tflops": "165",
}


def trained_on(tmp_path: Path, **more: str) -> Calculated:
    changes = OWN_GPU | {key.replace("__", "."): value for key, value in more.items()}
    file = numbers_at(tmp_path)
    file.write_text(file.read_text("utf-8").replace('training_model = "mini-base"\n', ""), encoding="utf-8")
    return calculate(file, [f"{key}={value}" for key, value in changes.items()], today=TODAY)


def test_training_on_a_machine_of_ones_own_is_estimated(tmp_path: Path) -> None:
    """economics.md: 4 x 7e9 x 3e6 operations at 35 % of 165 TFLOPS take 0.404 hours."""
    told = trained_on(tmp_path).told
    way = next(each for each in told["ways"] if each["name"] == "tuned")
    (line,) = [each for each in way["lines"] if each["what"] == "training"]
    assert line["usd"] == pytest.approx(2.0 * 8.4e16 / (165e12 * 0.35 * 3600), rel=1e-6)
    assert line["basis"] == "assumed"
    assert "0.404 hours on box" in line["how"]
    assert any(row["name"] == "box" for row in told["prices"])
    full = trained_on(tmp_path, option__tuned__training_method="'full'").told
    longer = next(each for each in full["ways"] if each["name"] == "tuned")
    assert next(each["usd"] for each in longer["lines"] if each["what"] == "training") == pytest.approx(
        1.5 * line["usd"]
    )


def test_training_that_fits_no_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"takes 112 GB and more, and 'aws-g5-xlarge' has 24"):
        trained_on(tmp_path, option__tuned__training_host="'aws-g5-xlarge'", option__tuned__training_method="'full'")
    with pytest.raises(SpecError, match="no GPU in the table"):
        trained_on(tmp_path, option__tuned__training_host="'aws-m7g-large'")


def test_a_cached_token_that_is_stated_to_be_free_is_free() -> None:
    free = Price("m", input=Decimal(1), cached_input=Decimal(0), output=Decimal(2))
    assert Book.of([free], TODAY).model("m").rates.cached_input == 0


# ---------------------------------------------------------------- what would have made the wrong way the cheapest


def test_a_price_by_label_counts_for_what_was_only_stated_too() -> None:
    by_label = {"rare": 3.0}
    found = measured(
        eval_run([1.0] * 90 + [0.0] * 10, references=["common"] * 90 + ["rare"] * 10), Target("accuracy", 0.5), None
    )
    assert found is not None
    economics = Economics(
        monthly_requests=1_000,
        usd_per_error=0.02,
        error_by_class=by_label,
        options=(Option("stated", usd_per_request=0.01, accuracy=0.9),),
    )
    raced, stated, nothing_done = ways([found], Setting.of(economics, TODAY))
    each = 0.9 * 0.02 + 0.1 * 3.0
    assert raced.error_usd == pytest.approx(0.1 * 3.0)
    assert stated.error_usd == pytest.approx(0.1 * each), "as the labels are asked for: nobody knows which it misses"
    assert nothing_done.error_usd == pytest.approx(each)


def test_prices_by_label_count_for_nothing_until_a_run_has_measured_labels(tmp_path: Path) -> None:
    found = calculate(
        numbers_at(tmp_path), ["economics.error_by_class={urgent=3}", "option.prompt.accuracy=0.9"], today=TODAY
    )
    assert found.told["counts_errors"] is False
    assert any("error_by_class counts once a run" in line for line in found.told["not_counted"])


def test_a_price_for_a_label_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = priced_task(tmp_path, MONEY.replace("usd_per_error", "error_by_class = {spma = 3}\nusd_per_error"))
    with pytest.raises(SpecError, match="'spma' is no label of this task"):
        luthier.run(load_task(path), models=models())


def test_an_option_may_not_have_the_name_of_a_rung(tmp_path: Path) -> None:
    path = priced_task(tmp_path, MONEY + '[option."lora@smollm2-135m"]\nusd_per_request = 1\n')
    with pytest.raises(SpecError, match="has the name of a rung"):
        load_task(path)


def test_a_model_that_is_shut_down_may_not_be_chosen_and_a_fine_tune_ends_with_its_base(tmp_path: Path) -> None:
    path = numbers_at(tmp_path)
    gone = calculate(path, ["option.prompt.model='claude-sonnet-4-20250514'"], today=TODAY).told
    assert {way["name"]: way["excluded"] for way in gone["ways"]}["prompt"] == "its model was shut down on 2026-06-15"
    assert gone["cheapest"] == "tuned"
    based = calculate(path, ["option.tuned.training_model='gpt-4o-mini'"], today=TODAY)
    assert based.calculation.way("tuned").retires == pytest.approx(53 / 30.4375)
    (pair,) = based.told["break_even"]
    assert "shut down" in pair["reason"], "3.2 months to pay back, and the base is gone after 1.7"


def test_an_unknown_machine_is_an_error_before_anything_is_priced_on_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'azure' is no machine with a known price"):
        calculate(numbers_at(tmp_path), ["economics.host='azure'"], today=TODAY)


def test_ways_that_cost_the_same_share_the_probability(tmp_path: Path) -> None:
    path = tmp_path / "luthier.toml"
    same = "".join(f"[option.{name}]\nusd_per_request = 0.1\n" for name in "ab")
    path.write_text(f"[economics]\nmonthly_requests = 1000\n{same}", encoding="utf-8")
    found = calculate(path, today=TODAY).told
    assert [way["p_cheapest"]["value"] for way in found["ways"] if way["p_cheapest"]] == [0.5, 0.5]


def test_prices_that_fall_by_nearly_all_in_a_year_are_drawn_without_a_warning(tmp_path: Path) -> None:
    found = calculate(numbers_at(tmp_path), ["economics.price_fall_per_year=0.99"], today=TODAY)
    assert max(found.calculation.draws["price fall"]) <= 0.99


def test_another_target_than_the_runs_is_said(tmp_path: Path) -> None:
    path = priced_task(tmp_path)
    luthier.run(load_task(path), models=models())
    assert not any("judged by" in line for line in calculate(path, today=TODAY).told["warnings"])
    moved = calculate(path, ["target.at_least=0.99"], today=TODAY).told["warnings"]
    assert any("and luthier.toml says accuracy of at least 99 %" in line for line in moved)


# ---------------------------------------------------------------- what a reader is told


def test_numbers_alone_need_no_file_and_a_missing_one_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "luthier.toml"
    assert call("cost", str(path)) == 2
    assert "monthly_requests = 300000" in capsys.readouterr().err
    changes = ["economics.monthly_requests=3e5", "option.a.usd_per_request=0.1"]
    assert call("cost", str(path), *(part for change in changes for part in ("--set", change))) == 0
    out = capsys.readouterr().out
    assert "Over 12 months, a costs $360,000" in out
    assert "do nothing" not in out, "it costs nothing where wrong answers have no price, and that says nothing"
    assert not path.exists()


def test_a_break_even_is_told_with_its_spread_and_with_what_is_in_it(tmp_path: Path) -> None:
    changes = ["economics.usd_per_error=0.02", "option.prompt.accuracy=0.9", "option.tuned.accuracy=0.9"]
    (pair,) = calculate(numbers_at(tmp_path), changes, today=TODAY).told["break_even"]
    low, high = (pair["quantiles"][key]["value"] for key in ("p10", "p90"))
    assert low < pair["months"] < high
    assert f"({low:.1f} months to {high:.1f} months in 8 of 10 cases)" in pair["sentence"]
    assert "from the draws" in pair["sentence"]
    (worse,) = calculate(numbers_at(tmp_path), [*changes, "option.tuned.accuracy=0.8"], today=TODAY).told["break_even"]
    assert worse["reason"] == "it costs $441.00 more a month, wrong answers included"


def test_prices_of_what_is_no_answering_model_say_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name, says in (
        ("smollm2-135m", "costs by the hour"),
        ("text-embedding-3-small", "embedding_model"),
    ):
        assert call("prices", name) == 2
        err = capsys.readouterr().err
        assert says in err
        assert "did you mean" not in err
    assert call("prices", "claude-sonnet-4-20250514") == 0
    assert "was shut down on 2026-06-15" in capsys.readouterr().out
    assert call("prices", "hosts") == 0
    assert "STALE: older than 90 days" in capsys.readouterr().out


def test_a_stated_price_that_is_old_or_dated_ahead_is_said_too(tmp_path: Path) -> None:
    for day, says in (("2026-01-02", "days old"), ("2027-05-01", "still to come")):
        found = calculate(numbers_at(tmp_path), [f"price.ft-mini.as_of={day}"], today=TODAY)
        assert any(line.startswith("ft-mini") and says in line for line in found.told["warnings"])
