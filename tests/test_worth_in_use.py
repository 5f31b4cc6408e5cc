"""What a way costs once it is used: machines that tasks share, changes of the task, looking up, judging, the time until
it is in production."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import eval_run, spec

from luthier.economics.calculation import Calculation
from luthier.economics.cost import Accuracy, Numbers, World, month_cost, replicas
from luthier.economics.measured import RETRIEVES, Measured
from luthier.economics.usage import Tokens
from luthier.economics.ways import Setting, raced_way, stated_way, ways
from luthier.errors import SpecError
from luthier.report.calculator import calculate, page_numbers
from luthier.report.next_steps import TUNED, next_steps
from luthier.report.questions import READING_RUNGS, five_questions, trace
from luthier.report.verdict import decide
from luthier.report.worth import flip_sentence
from luthier.rungs import LADDER
from luthier.types import Candidate, Constraints, Economics, Option, Price, Target

TODAY = date(2026, 11, 22)
HOURS = 730


def raced(**changed: Any) -> Measured:
    basic = Measured(
        name="zero-shot@m",
        rung="zero-shot",
        model="smollm2-135m",
        family="prompt",
        remote=False,
        answers=400,
        tokens=Tokens(100, 0, 0, 2),
        seconds=0.5,
        fit_seconds=36.0,
        accuracy=Accuracy(0.9, 0.87, 0.93, 400, "measured"),
        input_chars=400.0,
    )
    return replace(basic, **changed)


TUNE: dict[str, Any] = {"name": "lora@m", "rung": "lora", "family": "tune", "fit_seconds": 3_600.0, "seconds": 0.2}


def setting(train: int = 1_000, **economics: Any) -> Setting:
    given = {"monthly_requests": 300_000.0, "machine_usd_per_hour": 1.0, "preparation_share": 0.0, **economics}
    return Setting.of(Economics(**given), TODAY, {}, train)


# ---------------------------------------------------------------- machines that tasks share


def test_tasks_share_machines_in_equal_parts_and_machines_come_whole() -> None:
    world = World(300_000.0, peak=3.0, active_hours=730.0)
    alone = Numbers(host_hour=2.0, seconds=0.5, least_replicas=1.0, utilisation=0.6)
    assert month_cost(alone, world, 1) == pytest.approx(2.0 * HOURS)
    four = replace(alone, shared=4.0)
    assert month_cost(four, world, 1) == pytest.approx(2.0 * HOURS * 2 / 4), "1.14 machines become two, for four tasks"
    assert replicas(four, world, world.requests) == 2
    for tasks in range(1, 30):  # never dearer than alone, and never below what its own load takes
        cost = month_cost(replace(alone, shared=float(tasks)), world, 1)
        assert cost + 1e-9 >= 300_000 / (730 * 3600) * 3 * 0.5 / 0.6 * 2.0 * HOURS
        assert cost <= 2.0 * HOURS + 1e-9


def test_a_prompt_serves_any_task_and_a_fine_tune_those_it_was_trained_for() -> None:
    given = setting(tasks=4, usd_per_hour=90.0, engineering_hours={"prompt": 8})
    prompt, tune = raced_way(raced(), given), raced_way(raced(**TUNE), given)
    assert (prompt.shared, tune.shared) == (4, 1)
    month = Calculation((prompt, tune), given.world, given.economics).month
    assert month(prompt) == pytest.approx(HOURS * 2 / 4)
    assert month(tune) == pytest.approx(HOURS)
    both = replace(given, economics=replace(given.economics, tasks_per_tune=4))
    assert raced_way(raced(**TUNE), both).shared == 4
    clerks = stated_way(Option("clerks", today=True, usd_per_request=0.1), given)
    assert clerks.shared == 1


def test_how_many_tasks_it_takes_until_the_prompt_is_cheaper_is_found() -> None:
    given = setting(usd_per_hour=100.0, engineering_hours={"prompt": 20})
    found = Calculation(tuple(ways([raced(), raced(**TUNE)], given)), given.world, given.economics)
    among = ["zero-shot@m", "lora@m"]
    assert found.cheapest(among) == "lora@m", "$2,000 of prompting, and both a machine"
    flip = next(flip for flip in found.flips(among) if flip.key == "tasks")
    assert (flip.answer, flip.threshold) == ("zero-shot@m", 2.0)
    assert flip_sentence(flip, found) == (
        "If 2 tasks or more share the machines of what is not fine-tuned, zero-shot@m is the cheapest (now 1)"
    )


# ---------------------------------------------------------------- changes of the task

CHANGES: dict[str, Any] = {
    "usd_per_hour": 100.0,
    "usd_per_label": 0.5,
    "change_hours": {"prompt": 2, "tune": 6},
    "labels_per_change": 200,
    "months_between_changes": 3.0,
}


def test_a_change_costs_fitting_hours_and_labels_again() -> None:
    given = setting(**CHANGES)
    prompt, tune = raced_way(raced(), given), raced_way(raced(**TUNE), given)
    fitting = 36.0 / 3600 * 1.0 + 0.5 * 400 / 3600 * 1.0
    assert float(prompt.retraining) == pytest.approx(fitting + 200.0), "a bare prompt learns from no label"
    assert float(tune.retraining) == pytest.approx(1.0 + 0.2 * 400 / 3600 + 600.0 + 100.0)
    at = [line.what for line in tune.lines if line.due == "a change"]
    assert at == ["fitting, again", "evaluation, again", "engineering, again", "labels, again"]
    found = Calculation((tune,), given.world, given.economics)
    still = Calculation((replace(tune, retrain_every=0.0),), given.world, given.economics)
    assert found.total(tune) - still.total(still.ways[0]) == pytest.approx(4 * float(tune.retraining)), "4 in 12 months"
    assert float(raced_way(raced(), setting()).retraining) == pytest.approx(fitting)


def test_how_often_the_task_may_change_is_found() -> None:
    given = setting(**{**CHANGES, "months_between_changes": 0.0}, tasks=1)
    dear = raced(seconds=12.0)  # 6.8 machines become seven: $5,110 a month against $730
    found = Calculation(tuple(ways([dear, raced(**TUNE)], given)), given.world, given.economics)
    among = ["zero-shot@m", "lora@m"]
    assert found.cheapest(among) == "lora@m"
    assert not [flip for flip in found.flips(among) if flip.key == "change"], "no rhythm makes up for six machines"
    near = raced(seconds=2.0)  # two machines
    found = Calculation(tuple(ways([near, raced(**TUNE)], given)), given.world, given.economics)
    flip = next(flip for flip in found.flips(among) if flip.key == "change")
    assert flip.answer == "zero-shot@m"
    assert 0.25 < flip.threshold < 1.0
    assert found.cheapest(among, {"change": flip.threshold * 1.05}) == "lora@m"
    assert flip_sentence(flip, found).startswith("If the task changes every ")
    assert flip_sentence(flip, found).endswith("or more often, zero-shot@m is the cheapest")


# ---------------------------------------------------------------- looking up, judging, retries


def test_looking_up_is_priced_where_it_has_a_price_and_named_where_not() -> None:
    rag = raced(name="rag@m", rung="rag", remote=True, model="gpt-4.1-mini")
    given = setting(
        embedding_model="text-embedding-3-small", retrieval_usd_per_request=0.0001, index_usd_per_month=25.0
    )
    way = raced_way(rag, given)
    lines = {line.what: line for line in way.lines}
    assert float(lines["embedding"].usd) == pytest.approx(100 * 0.02 / 1e6), "400 characters are about 100 tokens"
    assert lines["embedding"].basis == "assumed"
    assert (float(lines["retrieval"].usd), float(lines["index"].usd), lines["index"].due) == (0.0001, 25.0, "a month")
    assert way.uncounted == ()
    bare = raced_way(rag, setting())
    assert "embedding the input and searching" in bare.uncounted[0]
    assert raced_way(replace(rag, remote=False), setting()).uncounted == (), "its seconds hold it"
    assert not [line for line in raced_way(raced(), given).lines if line.what in ("embedding", "retrieval", "index")]


def test_a_judge_takes_its_share_and_retries_take_the_machines_time() -> None:
    given = setting(judge_share=0.01, judge_model="gpt-4.1-mini", judge_tokens=(1_000, 10))
    (judge,) = [line for line in raced_way(raced(), given).lines if line.what == "judge"]
    assert float(judge.usd) == pytest.approx(0.01 * (1_000 * 0.4 + 10 * 1.6) / 1e6)
    assert judge.basis == "price"
    assumed = setting(judge_share=0.01, judge_model="gpt-4.1-mini")
    assert next(line for line in raced_way(raced(), assumed).lines if line.what == "judge").basis == "assumed"
    again = raced_way(raced(), setting(retry_rate=0.1)).hosts[0]
    assert again.seconds == pytest.approx(0.55)
    assert again.how.endswith("10.0% asked twice")


def test_a_stated_price_of_an_embedder_counts_first() -> None:
    own = Price("house-embedder", input=Decimal(1), output=Decimal(0))
    given = setting(embedding_model="house-embedder", prices=(own,))
    rag = raced(name="rag@m", rung="rag")
    (line,) = [line for line in raced_way(rag, given).lines if line.what == "embedding"]
    assert float(line.usd) == pytest.approx(100 / 1e6)
    with pytest.raises(SpecError, match="nobody knows what no-such-embedder costs"):
        raced_way(rag, setting(embedding_model="no-such-embedder"))


# ---------------------------------------------------------------- time to production


def test_the_time_to_production_is_measured_stated_or_assumed() -> None:
    given = setting(usd_per_label=0.5, usd_per_hour=90.0, engineering_hours={"tune": 40}, trials=3)
    way = raced_way(raced(**TUNE), given)
    steps = {step.what: (step.days, step.basis) for step in way.steps}
    assert steps["labels"] == (pytest.approx(1_000 / 480), "assumed")
    assert steps["engineering"] == (5.0, "stated")
    assert steps["training"] == (pytest.approx(3 * 3_600 / 86_400), "measured")
    assert steps["evaluation"] == (pytest.approx(0.2 * 400 / 86_400), "measured")
    assert steps["deployment"] == (3.0, "assumed")
    assert way.days == pytest.approx(sum(step.days for step in way.steps))
    there = raced_way(raced(**TUNE), setting())
    assert next(step for step in there.steps if step.what == "labels").days == 0.0
    stated = setting(labels_per_day=100.0, deployment_days={"tune": 10.0})
    steps = {step.what: (step.days, step.basis) for step in raced_way(raced(**TUNE), stated).steps}
    assert (steps["labels"], steps["deployment"]) == ((10.0, "stated"), (10.0, "stated"))
    assert next(step for step in raced_way(raced(remote=True, model="gpt-4.1-mini"), setting()).steps[::-1]).days == 1.0
    assert "labels" not in {step.what for step in raced_way(raced(), given).steps}


# ---------------------------------------------------------------- in luthier.toml and in what is told

TOML = """
[economics]
monthly_requests = 300000
usd_per_hour = 100
usd_per_label = 0.5
tasks = 3
tasks_per_tune = 2
months_between_changes = 6
change_hours = {prompt = 2, tune = 6}
judge_share = 0.02
judge_model = "gpt-4.1-mini"

[option.prompt]
model = "gpt-4.1-mini"
prompt_tokens = 1500
output_tokens = 50
days = 4

[option.tuned]
host = "modal-l4"
seconds_per_request = 0.1
labels = 1000
training_tokens = 1050000
training_model = "gpt-4o-mini"
"""


def test_the_calculator_tells_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "luthier.toml"
    path.write_text(TOML, encoding="utf-8")
    told = calculate(path, today=TODAY).told
    rows = {way["name"]: way for way in told["ways"]}
    assert rows["prompt"]["usd_per_change"] == pytest.approx(200.0)
    assert rows["tuned"]["usd_per_change"] == pytest.approx(3.15 + 600.0)
    assert (rows["prompt"]["tasks_on_its_machines"], rows["tuned"]["tasks_on_its_machines"]) == (3, 2)
    assert rows["prompt"]["days_to_production"] == 4.0
    assert any(line["what"] == "judge" for line in rows["prompt"]["lines"])
    json.dumps(told, allow_nan=False)


def test_the_page_begins_with_the_cheapest_way_against_todays_where_nothing_may_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "luthier.toml"
    path.write_text(f"{TOML}[option.desk]\ntoday = true\nusd_per_request = 0.05\n", encoding="utf-8")
    found = calculate(path, ["constraints.usd_to_start=0", "constraints.usd_per_month=1"], today=TODAY)
    assert found.told["cheapest"] is None
    assert page_numbers(found)["pair"] == ("prompt", "desk")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("economics.tasks=0", "greater than or equal to 1"),
        ("economics.tasks_per_tune=9", "one fine-tune serves 9 tasks, and there are 3"),
        ("economics.judge_tokens=[1]", "no pair of counts"),
        ("economics.change_hours={prompt=-1}", "no amount"),
        ("economics.deployment_days={prompt=-1}", "no amount"),
        ("economics.labels_per_day=0", "greater than or equal to 0.1"),
        ("economics.embedding_model='nobody'", "nobody knows what nobody costs"),
    ],
)
def test_bad_figures_of_use_are_one_clear_line(tmp_path: Path, change: str, says: str) -> None:
    path = tmp_path / "luthier.toml"
    path.write_text(TOML, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        calculate(path, [change], today=TODAY)
    assert says in str(caught.value)


# ---------------------------------------------------------------- what to do next, and the decision in five steps

CAUSE: dict[str, Any] = {
    "cause": "knowledge",
    "title": "It does not know the facts",
    "share": 0.41,
    "low": 0.28,
    "high": 0.55,
    "supported": True,
    "evidence": ["..."],
    "remedy": "Look answers up in documents.",
    "rungs": ["rag", "rag-shots"],
    "gain": {"mean": 0.20, "low": 0.10, "high": 0.30},
    "examples": [],
}


def facts_with(diagnosis: dict[str, Any] | None, **economics: Any) -> tuple[Any, Calculation]:
    """A verdict that chooses nothing, with what a diagnosis says, as whoever makes one hands it over."""
    target = Target("accuracy", 0.9)
    run = replace(eval_run([1.0, 1.0, 1.0, 0.0] * 50), candidate=Candidate("zero-shot", "m", 40))
    verdict = decide([run], {}, target, Constraints(), task=spec(target))
    facts = SimpleNamespace(**{each.name: getattr(verdict, each.name) for each in fields(verdict)})
    facts.diagnosis = diagnosis or {}
    given = setting(usd_per_error=0.02, **economics)
    found = Calculation(
        tuple(ways([raced(accuracy=Accuracy(0.75, 0.69, 0.8, 200, "measured"))], given)), given.world, given.economics
    )
    return facts, found


def test_a_supported_cause_becomes_a_step_with_gain_cost_and_confidence() -> None:
    diagnosis = {"version": 1, "candidate": "zero-shot@m", "examples": 200, "score": 0.75, "causes": [CAUSE]}
    facts, found = facts_with(diagnosis, usd_per_hour=90.0, engineering_hours={"prompt": 10})
    steps = next_steps(facts, found)
    step = next(step for step in steps if step["what"].startswith("Look answers up"))
    assert step["gain"] == pytest.approx(0.20)
    assert (step["gain_low"], step["gain_high"]) == (pytest.approx(0.10), pytest.approx(0.30))
    assert step["cost"] == 900.0
    assert step["worth"] == pytest.approx(0.20 * 300_000 * 12 * 0.02 - 900)
    assert 0.8 < step["p_target"] < 0.9, "0.95 with half a width of 0.1 against 0.9"
    assert "+20.0 points [+10.0, +30.0]" in step["sentence"]
    assert not [step for step in steps if step["what"].startswith("look answers up")], "it is measured now"
    assert step["how"] == "the diagnosis: it does not know the facts"
    small = {
        **CAUSE,
        "cause": "capacity",
        "title": "The model is too small",
        "remedy": "A larger base model.",
        "rungs": [],
    }
    steps = next_steps(*facts_with({**diagnosis, "causes": [{**small, "gain": None}]}))
    (larger,) = [step for step in steps if step["basis"] == "diagnosed"]
    assert larger["sentence"] == (
        "A larger base model: what that would bring was not measured (the diagnosis: the model is too small)"
    )
    assert not [step for step in steps if step["what"].startswith("race another")], "it is named already"
    unsure = {**diagnosis, "causes": [{**CAUSE, "supported": False}]}
    steps = next_steps(*facts_with(unsure))
    assert not [step for step in steps if step["what"].startswith("Look answers up")]
    assert [step["what"] for step in steps if step["p_target"] is None] == [
        "look answers up in documents",
        "race another model than m",
    ]


def test_the_second_question_is_answered_by_the_diagnosis_where_no_documents_were_raced() -> None:
    diagnosis = {"version": 1, "candidate": "zero-shot@m", "examples": 200, "score": 0.75, "causes": [CAUSE]}
    unsupported = {**diagnosis, "causes": [{**CAUSE, "supported": False}]}
    asked = [
        five_questions(facts_with(each)[0])[1] for each in (diagnosis, unsupported, {**diagnosis, "causes": []}, None)
    ]
    assert [each["answer"] for each in asked] == ["Yes.", "Not shown.", "Not measured.", "Not measured."]
    assert [each["measured"] for each in asked] == ["in part", "in part", "no", "no"]
    assert "no probe of the misses could show passages" in asked[2]["because"]
    assert "no diagnosis was made" in asked[3]["because"]
    assert "41.0 % [28.0, 55.0]" in asked[0]["because"]
    abstained = five_questions(facts_with({**diagnosis, "causes": [], "abstained": "too few misses"})[0])[1]
    assert (abstained["answer"], abstained["because"]) == ("Not measured.", "too few misses.")


def test_the_trace_has_the_five_answers_and_what_follows() -> None:
    facts, _ = facts_with(None)
    found = trace(five_questions(facts))
    assert [each["question"] for each in found] == [
        "Does a prompt reach the target?",
        "Is knowledge missing?",
        "Is it a matter of format or behaviour, and is there data enough?",
        "Does it pay?",
        "Must the data stay here?",
    ]
    assert found[0] == {
        "question": "Does a prompt reach the target?",
        "answer": "No.",
        "measured": "yes",
        "then": "What a prompt lacks is knowledge (the second question) or behaviour (the third).",
    }


def test_the_fine_tunes_that_cost_more_hours_are_those_of_the_ladder() -> None:
    assert set(TUNED) == {rung.name for rung in LADDER if rung.guarded}
    assert set(READING_RUNGS) | {"retrieved-shots"} == set(RETRIEVES)
    assert set(READING_RUNGS) == {rung.name for rung in LADDER if "documents" in rung.roles}
