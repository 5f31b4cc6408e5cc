"""What a person sees of a training: the time left while it runs, and its course in the report."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from typing import Any

import pytest
import report_sample as sample
from rich.console import Console

from luthier.report.render import html, training_shape
from luthier.report.summary import summarise
from luthier.screen import Ladder
from luthier.types import Event, Outcome, Target, VerdictFacts

LOSSES = [4.0 / (1 + at / 10) for at in range(126)]
CHECKS = [
    {"step": 63, "dev_accuracy": 0.905, "dev_nll": 0.5, "train_loss": 1.5},
    {"step": 126, "dev_accuracy": 0.9, "dev_nll": 0.6, "train_loss": 0.4},
]


def facts(checks: list[dict[str, Any]]) -> VerdictFacts:
    whole = sample.sample()
    fit = {"loss by step": LOSSES, "dev checks": checks, "best step": 63}
    runs = tuple(replace(run, fit=fit) if run.candidate.rung == "lora" else run for run in whole.runs)
    return replace(whole, runs=runs)


def test_the_report_draws_the_losses_and_the_dev_checks() -> None:
    summary = summarise(facts(CHECKS))
    drawn = [candidate["training"] for candidate in summary["candidates"] if candidate["training"]]
    assert len(drawn) == 1, "only what was trained by steps"
    shape = training_shape(drawn[0])
    assert len(drawn[0]["points"]) == 60
    assert drawn[0]["points"][-1] == [126, pytest.approx(sum(LOSSES[-2:]) / 2, rel=1e-2)]
    assert [(mark["x"], mark["y"], mark["best"]) for mark in shape["marks"]] == [(50, 9.5, True), (100, 10.0, False)]
    page = html(summary)
    assert page.count("How the training went") == 1
    assert shape["loss"] in page
    assert "90.5&nbsp;%" in page.replace("\N{NO-BREAK SPACE}", "&nbsp;")
    assert "loss by step" not in page.lower(), "126 figures, told as text"


def test_where_answers_are_written_the_loss_on_dev_is_drawn() -> None:
    written = [{name: value for name, value in check.items() if name != "dev_accuracy"} for check in CHECKS]
    summary = summarise(facts(written))
    shape = training_shape(next(c["training"] for c in summary["candidates"] if c["training"]))
    assert not shape["shares"]
    assert shape["marks"][0]["y"] == pytest.approx(100 - 100 * 0.5 / shape["top"], abs=0.01)
    assert "the loss on dev, 0.50 at its best, after step 63" in html(summary)


def test_the_time_left_of_a_resumed_training_is_told_by_its_pace_now() -> None:
    """Half was done before: that a second brought five per cent more means that nine are left, and not one."""
    out = io.StringIO()
    ladder = Ladder(Console(file=out, force_terminal=True, width=200))
    with ladder.watching():
        ladder(Event("working", text="training, resumed after step 50", done=50, total=100))
        time.sleep(1.1)
        ladder(Event("working", text="training, loss 0.50, dev 0.90", done=55, total=100))
        time.sleep(0.4)  # it draws eight times a second
    shown = re.search(r"55%, (?:(\d+) min )?([\d.]+) s left", out.getvalue())
    assert shown is not None, out.getvalue()
    assert 60 * int(shown[1] or 0) + float(shown[2]) >= 9


def test_an_outcome_stays_in_its_row_while_its_candidate_is_worked_on_again() -> None:
    out = io.StringIO()
    ladder = Ladder(
        Console(file=out, force_terminal=True, width=140),
        Target("accuracy", 0.85),
        ("zero-shot@a-model", "lora@a-model"),
    )
    with ladder.watching():
        ladder(Event("working", "zero-shot@a-model", "fitting"))
        ladder(Event("finished", "zero-shot@a-model", outcome=Outcome.DOES_NOT_MEET))
        ladder(Event("working", "zero-shot@a-model", "why it misses", done=1, total=2))
        until = time.monotonic() + 30
        while "why it misses" not in out.getvalue() and time.monotonic() < until:
            time.sleep(0.05)  # it draws eight times a second
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "zero-shot@a-model: why it misses ━━━━━╌╌╌╌╌ 50%" in shown
    frames = [line for line in shown.splitlines() if line.startswith(" zero-shot@a-model")]
    assert "DOES NOT MEET" in frames[-1]
    assert "DOES NOT MEET" in frames[-2], "while it is diagnosed"
