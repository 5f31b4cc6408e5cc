"""The guard's stage of the climb: what a fine-tune forgot decides whether it is chosen, once for each predictor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import colour_rows, eval_run, guard_found, spec, write_task
from test_climb import TOML, timeless
from tiny_models import tiny_model

import luthier
from luthier.errors import DataError, SpecError
from luthier.report import render
from luthier.report.verdict import GUARD, Verdict, decide, eligibility
from luthier.task import load_task
from luthier.types import Constraints, EvalRun, Event, Outcome, Target

QUICK = "\n[guard]\ndocuments = 32\ndocument_tokens = 24\nitems = 200\nprompts = 32\n"
LENIENT = QUICK + "nll_margin = 99.0\nkl_ceiling = 99.0\naccuracy_margin = 0.9\nstop_margin = 0.9\n"
STRICT = QUICK + "kl_ceiling = 1e-9\nrepair = false\n"
TARGET = Target("accuracy", 0.85)


# a tiny random model learns nothing here: half of its answers are right by chance, which meets a target of a fifth
def task_at(folder: Path, guard: str, *, rungs: tuple[str, ...] = ("lora",), at_least: float = 0.2) -> Path:
    toml = TOML.format(rungs=json.dumps(list(rungs)), at_least=at_least).replace("train = 200", "train = 32")
    return write_task(folder, colour_rows(520), toml.replace("test = 300", "test = 200") + guard)


def climb(path: Path, **more: Any) -> Verdict:
    return luthier.run(path, models={"student": tiny_model(context=256)}, **more)


def test_a_fine_tune_that_forgot_too_much_is_not_chosen(tmp_path: Path) -> None:
    events: list[Event] = []
    verdict = climb(task_at(tmp_path, STRICT), listen=events.append)
    tuned = verdict.candidates[0]
    assert tuned.outcome is Outcome.MEETS, tuned.reasons
    assert (tuned.eligible, tuned.blocked_by) == ("no", (GUARD,))
    assert verdict.chosen is None
    assert "lora@llama-0: it forgot too much (" in verdict.sentence
    seen = {event.text for event in events if event.kind == "working" and "forgotten" in event.text}
    assert "certifying what was forgotten: general text, after" in seen
    assert verdict.to_dict()["candidates"][0]["guard"]["answer"] == "failed"


def test_a_fine_tune_that_forgot_little_is_chosen_and_the_sentence_says_so(tmp_path: Path) -> None:
    path = task_at(tmp_path, LENIENT)
    verdict = climb(path)
    tuned = verdict.candidates[0]
    assert (tuned.outcome, tuned.eligible, tuned.unsettled) == (Outcome.MEETS, "yes", ())
    assert verdict.chosen == "lora@llama-0"
    assert "What it forgot elsewhere is within the margins of the forgetting guard" in verdict.sentence
    assert verdict.runs[0].fit["strength"] == 1.0
    page, text = render.html(verdict.to_summary()), render.markdown(verdict.to_summary())
    assert "What was asked before and after the fine-tune" in page
    assert "| general text (" in text
    events: list[Event] = []
    assert timeless(climb(path, listen=events.append)) == timeless(verdict)
    assert not any("forgotten" in event.text for event in events), "a rerun replays the certificate"


def test_the_climb_goes_on_after_a_fine_tune_that_forgot_too_much(tmp_path: Path) -> None:
    verdict = climb(task_at(tmp_path, STRICT, rungs=("lora", "dora")))
    assert [result.outcome for result in verdict.candidates] == [Outcome.MEETS, Outcome.MEETS]
    assert [result.eligible for result in verdict.candidates] == ["no", "no"]


def test_the_guard_does_not_look_at_what_could_not_be_chosen_anyway(tmp_path: Path) -> None:
    verdict = climb(task_at(tmp_path, QUICK + "repair = false\n", at_least=0.95))
    tuned = verdict.candidates[0]
    assert tuned.outcome is not Outcome.MEETS
    assert tuned.guard is None
    assert tuned.unsettled == (f"{GUARD}: NOT MEASURED",)


def test_what_guard_names_is_read_before_anything_is_spent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it cannot be read"):
        climb(task_at(tmp_path / "a", QUICK + 'probe = "nowhere.jsonl"\n'))
    with pytest.raises(SpecError, match="there is no such file"):
        climb(task_at(tmp_path / "b", QUICK + 'tasks = ["../other/luthier.toml"]\n'))


# ---------------------------------------------------------------- eligibility and the verdict's words


def tuned_run(guard: dict[str, Any] | None) -> EvalRun:
    return eval_run([1.0] * 200, name="lora", rank=70, guarded=True, guard=guard)


def verdict_on(guard: dict[str, Any] | None) -> Verdict:
    return decide([tuned_run(guard)], {}, TARGET, Constraints(), task=spec(TARGET))


def test_passed_is_yes_failed_and_not_shown_are_no_and_nothing_is_unknown() -> None:
    def answer(guard: dict[str, Any] | None) -> str:
        return eligibility(tuned_run(guard), Constraints()).answer

    assert answer(guard_found("passed")) == "yes"
    assert answer(guard_found("failed", piqa="failed")) == "no"
    assert answer(guard_found("not shown", piqa="not shown")) == "no"
    assert answer(None) == answer(guard_found("not measured")) == "unknown"
    assert answer(guard_found("failed", required=False, piqa="failed")) == "yes"


def test_the_sentence_says_what_was_measured() -> None:
    assert verdict_on(None).sentence.endswith("What the fine-tuned model forgot elsewhere was NOT MEASURED.")
    assert verdict_on(guard_found()).sentence.endswith(
        "What it forgot elsewhere is within the margins of the forgetting guard (1 suite; general text: "
        "+0.021 [+0.017, +0.026] nats a token)."
    )
    blocked = verdict_on(guard_found("failed", piqa="failed"))
    assert blocked.chosen is None
    assert blocked.sentence.endswith("lora would meet it but may not be used. lora: it forgot too much (piqa).")
    allowed = verdict_on(guard_found("not shown", required=False, piqa="not shown"))
    assert allowed.chosen == "lora"
    assert allowed.sentence.endswith(
        "Elsewhere, that it did not forget too much could not be shown for piqa, which the task allows."
    )


def test_the_report_has_the_guards_table_and_the_curve() -> None:
    tried = [
        {"scale": scale, "dev_score": score, "dev_se": 0.02, "text_lost": lost, "within": lost < 0.05}
        for scale, score, lost in ((1.0, 0.93, 0.12), (0.75, 0.92, 0.07), (0.5, 0.9, 0.03), (0.25, 0.7, 0.01))
    ]
    run = eval_run([1.0] * 200, name="lora", rank=70, guarded=True, guard=guard_found(piqa="passed", codes="refused"))
    run = EvalRun(**{**vars(run), "fit": {"strength": 0.5, "strengths tried": tried}})
    verdict = decide([run], {}, TARGET, Constraints(), task=spec(TARGET))
    shown = verdict.to_summary()["candidates"][0]
    assert [row["word"] for row in shown["forgetting"]["suites"]] == ["passed", "passed", "not judged"]
    assert shown["forgetting"]["suites"][0]["change"] == "+0.021 [+0.017, +0.026]"
    assert shown["forgetting"]["suites"][1]["change"] == "−2.0 [−3.1, −0.9]"
    assert [point["strength"] for point in shown["forgetting"]["strengths"]] == ["0.25", "0.5", "0.75", "1"]
    assert [point["raced"] for point in shown["forgetting"]["strengths"]] == [False, True, False, False]
    assert not any(row["what"] == "strengths tried" for row in shown["fit"])
    page, text = render.html(verdict.to_summary()), render.markdown(verdict.to_summary())
    for whole in (page, text):
        assert "Forgetting guard: passed." in whole
        assert "for the test: refused" in whole
    assert 'class="dot raced"' in page
    assert "| 0.5 | 90.0 % | +0.030 | yes, raced |" in text
    assert verdict.to_dict()["candidates"][0]["guard"]["suites"][1]["suite"] == "piqa"


# ---------------------------------------------------------------- settings


def test_the_defaults_change_no_fingerprint_and_other_margins_do(tmp_path: Path) -> None:
    plain = load_task(task_at(tmp_path / "a", ""))
    said = load_task(task_at(tmp_path / "b", "\n[guard]\nnll_margin = 0.05\n"))
    other = load_task(task_at(tmp_path / "c", "\n[guard]\nnll_margin = 0.06\n"))
    assert plain.fingerprint == said.fingerprint != other.fingerprint


def test_where_the_folder_stands_changes_no_fingerprint(tmp_path: Path) -> None:
    toml = '\n[guard]\nprobe = "probe.jsonl"\ntasks = ["../spam"]\n'
    one, two = (load_task(task_at(tmp_path / name, toml)) for name in ("one", "two"))
    assert one.spec.guard.probe == str(tmp_path / "one" / "probe.jsonl")
    assert one.spec.guard.tasks == (str(tmp_path / "one" / "../spam"),)
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("documents = 3", "3 texts show little"),
        ("items = 50", "50 items show little"),
        ('tasks = ["a", "a"]', "stands in the list twice"),
        ("nll_margn = 0.1", "nll_margn"),
        ("alpha = 0.9", "alpha"),
    ],
)
def test_mistakes_in_the_section_are_said(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_task(task_at(tmp_path, f"\n[guard]\n{line}\n"))
