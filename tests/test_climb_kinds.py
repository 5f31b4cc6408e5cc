"""The climb on tasks whose answers are written: verdicts, rates, judges, replay, and what the report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_task_data import texts

import luthier
from luthier.climb import Options
from luthier.errors import ModelError, PowerError
from luthier.models.embed import HashEmbedder
from luthier.models.scripted import ScriptedModel
from luthier.types import Event, Message, Outcome

SCHEMA = {
    "type": "object",
    "properties": {"first": {"type": "string"}, "last": {"type": "string"}},
    "required": ["first", "last"],
    "additionalProperties": False,
}
TOML = """
[task]
name = "last words"
kind = "{kind}"
{task}
[data]
path = "data.jsonl"
input = "text"
reference = "answer"
near_duplicates = false
[split]
train = 60
dev = 30
test = 150
[target]
metric = "{metric}"
at_least = {at_least}
{target}
[ladder]
rungs = {rungs}
[models]
judge = "x"
"""


def answer_of(text: str) -> str:
    return f"it ends with {text.split()[-1]} after {text.split()[0]}"


def project(
    folder: Path,
    metric: str,
    *,
    kind: str = "generation",
    at_least: float = 0.8,
    rungs: tuple[str, ...] = ("majority", "zero-shot"),
    task: str = "",
    target: str = "",
) -> Path:
    rows = []
    for text in texts(240):
        words = text.split()
        record = {"first": words[0], "last": words[-1]}
        rows.append(json.dumps({"text": text, "answer": answer_of(text) if kind == "generation" else record}))
    (folder / "data.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    task += 'schema = "schema.json"' if kind == "extraction" else ""
    toml = TOML.format(
        kind=kind, task=task, metric=metric, at_least=at_least, target=target, rungs=json.dumps(list(rungs))
    )
    path = folder / "luthier.toml"
    path.write_text(toml, encoding="utf-8")
    return path


def nearly(messages: tuple[Message, ...]) -> str:
    """Every fifth answer leaves a part out: decided by the text, so that an answer is always the same."""
    answer = answer_of(messages[-1].content)
    return answer.split(" after ")[0] if len(answer) % 5 == 0 else answer


def models(script: Any = nearly, **more: Any) -> dict[str, Any]:
    return {"prompted": ScriptedModel(script, name="writer"), "embedder": HashEmbedder(), **more}


@pytest.mark.parametrize(("metric", "method"), [("exact_match", "ppr"), ("rouge_l", "betting"), ("chrf", "betting")])
def test_a_written_answer_is_raced_by_its_metric(tmp_path: Path, metric: str, method: str) -> None:
    at_least = 0.5 if metric == "exact_match" else 0.8
    verdict = luthier.run(project(tmp_path, metric, at_least=at_least), models=models())
    majority, prompted = verdict.candidates
    assert (majority.outcome, prompted.outcome) == (Outcome.DOES_NOT_MEET, Outcome.MEETS)
    assert prompted.estimate is not None
    assert prompted.estimate.method == method
    assert prompted.decided_at is not None
    assert prompted.decided_at < 150
    again = luthier.run(project(tmp_path, metric, at_least=at_least), models=models())
    assert again.to_dict()["candidates"] == verdict.to_dict()["candidates"], "a replay says the same"
    assert again.provenance["alpha_ledger"] == verdict.provenance["alpha_ledger"], "and spends nothing"


def test_bleu_is_scored_on_the_whole_split_and_carries_its_signature(tmp_path: Path) -> None:
    verdict = luthier.run(project(tmp_path, "bleu", at_least=0.5), models=models())
    assert [result.approximate for result in verdict.candidates] == [True, True]
    assert verdict.candidates[1].outcome is Outcome.MEETS
    assert [len(run.rows) for run in verdict.runs] == [150, 150]
    assert "tok:13a" in verdict.provenance["metric"]["signature"]


def test_the_default_ladder_of_written_answers_ends_in_a_verdict(tmp_path: Path) -> None:
    rungs = ("majority", "nearest", "zero-shot", "few-shot", "retrieved-shots")
    verdict = luthier.run(project(tmp_path, "rouge_l", rungs=rungs), models=models(), options=Options(all_rungs=True))
    assert [result.candidate.rung for result in verdict.candidates] == list(rungs)
    assert verdict.chosen in ("nearest", "zero-shot@writer")
    assert all(result.estimate is not None for result in verdict.candidates)


def records(messages: tuple[Message, ...]) -> str:
    words = messages[-1].content.split()
    record: dict[str, Any] = {"first": words[0], "last": words[-1]}
    if len(words[0]) == 5:
        record["extra"] = 1
    return "Here it is: " + json.dumps(record) if len(words[0]) == 6 else json.dumps(record)


def test_extraction_shows_the_rates_beside_the_score(tmp_path: Path) -> None:
    path = project(tmp_path, "field_f1", kind="extraction", at_least=0.4)
    verdict = luthier.run(path, models=models(records), options=Options(all_rungs=True, exhaustive=True))
    outputs = [row.prediction.output or "" for row in verdict.runs[1].rows]
    shown = verdict.to_dict()["candidates"][1]["rates"]
    assert shown["parses"]["mean"] == pytest.approx(sum(text.startswith("{") for text in outputs) / 150)
    assert shown["schema_valid"]["mean"] == pytest.approx(
        sum(text.startswith("{") and "extra" not in text for text in outputs) / 150
    )
    assert shown["record_exact"] == shown["schema_valid"]
    assert shown["parses"]["low"] < shown["parses"]["mean"] < shown["parses"]["high"]
    reasons = {row.score.reason.split(":")[0] for row in verdict.runs[1].rows}
    assert "not JSON" in reasons


def test_a_failed_answer_is_unscored_and_no_zero(tmp_path: Path) -> None:
    failing = ScriptedModel(nearly, name="writer", failing=range(0, 150, 3))
    verdict = luthier.run(project(tmp_path, "rouge_l", rungs=("zero-shot",)), models={"prompted": failing})
    (found,) = verdict.candidates
    assert found.unscored > 0
    assert found.estimate is not None
    assert found.estimate.mean > 0.8


# ---------------------------------------------------------------- the judge


def fair(messages: tuple[Message, ...]) -> str:
    asked = messages[-1].content
    said = asked.split("<answer>\n")[1].split("\n</answer>")[0]
    return "yes" if said == asked.split("<reference>\n")[1].split("\n</reference>")[0] else "no"


def test_a_judge_scores_and_its_control_is_in_the_provenance(tmp_path: Path) -> None:
    judge = ScriptedModel(fair, name="judge")
    path = project(tmp_path, "judge", at_least=0.5, target='rubric = "Names the last word."')
    verdict = luthier.run(path, models=models(judge=judge))
    assert verdict.candidates[1].outcome is Outcome.MEETS
    metric = verdict.provenance["metric"]
    assert (metric["prompts"], metric["scale"], metric["rubric"]) == ("judge-1", "yes/no", "Names the last word.")
    assert metric["control"]["gap"]["mean"] == 1.0
    assert "judge judge" not in verdict.sentence
    assert "judge" in verdict.provenance["models"]


def test_a_judge_that_cannot_tell_is_refused_before_the_test_split_is_touched(tmp_path: Path) -> None:
    lenient = ScriptedModel(lambda messages: "yes", name="lenient")
    with pytest.raises(ModelError, match="the judge lenient: it cannot tell right answers from constant ones"):
        luthier.run(project(tmp_path, "judge"), models=models(judge=lenient))


def test_how_often_the_judge_gave_no_verdict_is_shown(tmp_path: Path) -> None:
    def moody(messages: tuple[Message, ...]) -> str:
        return "maybe" if "zephyr" in messages[-1].content else fair(messages)

    path = project(tmp_path, "judge", at_least=0.5, rungs=("zero-shot",))
    options = Options(exhaustive=True)
    verdict = luthier.run(path, models=models(judge=ScriptedModel(moody, name="judge")), options=options)
    (found,) = verdict.candidates
    assert found.unscored == sum("zephyr" in str(row.example.input) for row in verdict.runs[0].rows) > 0
    assert found.rates["scored"].mean == pytest.approx(1 - found.unscored / 150)
    page = verdict.to_markdown(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "The judge gave a verdict on" in page


def test_another_judge_is_another_question_to_the_split(tmp_path: Path) -> None:
    ledgers = []
    for version in ("1", "1", "2"):
        judge = ScriptedModel(fair, name="judge", version=version)
        verdict = luthier.run(project(tmp_path, "judge"), models=models(judge=judge))
        ledgers.append(len(verdict.provenance["alpha_ledger"]))
    assert ledgers[0] == ledgers[1] < ledgers[2]


# ---------------------------------------------------------------- before anything is spent


def test_the_power_line_says_that_real_scores_decide_sooner(tmp_path: Path) -> None:
    events: list[Event] = []
    luthier.run(project(tmp_path, "rouge_l", rungs=("majority",)), models=models(), listen=events.append)
    (line,) = [event.text for event in events if "80% of the time" in event.text]
    assert "ROUGE-L" in line
    assert "scores between 0 and 1" in line
    with pytest.raises(PowerError):
        luthier.run(project(tmp_path, "rouge_l", at_least=0.999), models=models())


# ---------------------------------------------------------------- the report


def test_the_report_of_written_answers_speaks_of_no_labels(tmp_path: Path) -> None:
    path = project(tmp_path, "rouge_l", rungs=("majority", "nearest", "zero-shot", "few-shot"))
    verdict = luthier.run(path, models=models(), options=Options(all_rungs=True))
    page = verdict.to_markdown(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "label" not in page.lower()
    assert "ROUGE-L" in page
    verdict.to_html(tmp_path / "report.html")


def test_the_report_of_an_extraction_shows_the_rates(tmp_path: Path) -> None:
    verdict = luthier.run(project(tmp_path, "record_exact", kind="extraction"), models=models(records))
    page = verdict.to_markdown(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "label" not in page.lower()
    assert "valid JSON" in page
    html = verdict.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "valid JSON" in html
