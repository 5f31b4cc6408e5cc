"""Preference tuning: the loss of the paper, ln 2 at the start, from the task's pairs or the student's own mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_loop import LABELS, RECIPE, TEXTS, data, interrupt, prompt, same_bits, stop_at, tune
from tiny_models import tiny_model, tiny_module, tiny_tokenizer

from luthier.errors import DataError
from luthier.models.chat import Chat
from luthier.rungs.dpo import Dpo, own_mistakes
from luthier.rungs.lora import Lora
from luthier.rungs.tuned import Student, TunedPredictor
from luthier.testing import RungContract
from luthier.train.adapter import adapted, put_weights, trainable
from luthier.train.job import Job
from luthier.train.loop import Tuned, step_examples
from luthier.train.preference import Pair, prefer
from luthier.train.rows import TrainRow, answer_rows
from luthier.types import Example, Extra, FitContext, Kind, Preference, Rung

QUICK = replace(RECIPE, learning_rate=3e-3, epochs=2, dev_checks_per_epoch=1)


class TestDpo(RungContract):
    def make_rung(self) -> Rung:
        return Dpo(replace(QUICK, epochs=1))

    def make_models(self) -> Mapping[str, Any]:
        return {"student": tiny_model()}


class TestDpoWrites(TestDpo):
    kind: Kind = "generation"


def pairs() -> list[Pair]:
    """The right label before the next one."""
    chat = Chat(tiny_tokenizer())
    found = []
    for text, label in TEXTS[:18]:
        other = LABELS[(LABELS.index(label) + 1) % len(LABELS)]
        found.append(Pair(*answer_rows(chat, prompt(text), (label, other), context_tokens=512, example_id=text)))
    return found


def preferred(workdir: Path, recipe: Any = QUICK, *, beta: float = 0.1, **more: Any) -> Tuned:
    return prefer(tiny_module(), pairs(), Job(recipe, data()[1], 0, workdir, "tiny", **more), beta=beta)


def loglikelihood(module: Any, row: TrainRow) -> Any:
    logits = module(input_ids=torch.tensor([row.input_ids])).logits[0, row.labels_from - 1 : -1]
    answer = torch.tensor(row.input_ids[row.labels_from :])
    return torch.log_softmax(logits, dim=-1)[torch.arange(len(answer)), answer].sum()


def by_hand(start: Mapping[str, Any] | None, beta: float) -> list[float]:
    """The losses of the same training, each row alone, as the paper writes it (equation 7)."""
    module = adapted(tiny_module(), QUICK, seed=0)
    if start is not None:
        put_weights(module, start, "lora")
    weights = [parameter for _, parameter in trainable(module)]
    optimizer = torch.optim.AdamW(weights, lr=QUICK.learning_rate, weight_decay=0.0)
    rows = pairs()
    with torch.no_grad():
        first = [(loglikelihood(module, pair.chosen), loglikelihood(module, pair.rejected)) for pair in rows]
    steps, losses = QUICK.epochs * QUICK.steps_per_epoch(len(rows)), []
    for step in range(steps):
        terms = []
        for at in step_examples(QUICK, len(rows), step, seed=0):
            chosen = loglikelihood(module, rows[at].chosen) - first[at][0]
            rejected = loglikelihood(module, rows[at].rejected) - first[at][1]
            terms.append(-torch.nn.functional.logsigmoid(beta * (chosen - rejected)))
        loss = torch.stack(terms).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, QUICK.clip_norm)
        optimizer.param_groups[0]["lr"] = QUICK.rate_at(step, steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("tuned_before", [False, True])
def test_the_first_loss_is_ln_2_and_the_others_are_the_papers(tmp_path: Path, beta: float, tuned_before: bool) -> None:
    """Trap 18."""
    start = tune(tmp_path / "before").weights if tuned_before else None
    tuned = preferred(tmp_path / "after", beta=beta, start=start)
    assert tuned.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert tuned.losses == pytest.approx(by_hand(start, beta), rel=1e-4)
    assert tuned.losses[-1] < 0.95 * math.log(2)


def test_it_ends_in_the_same_bits_when_it_is_interrupted(tmp_path: Path) -> None:
    """Trap 15: what the model said at first is what it is held to, whenever the training goes on."""
    start = tune(tmp_path / "before").weights
    whole = preferred(tmp_path / "whole", start=start)
    with pytest.raises(KeyboardInterrupt):
        preferred(tmp_path / "parts", start=start, working=stop_at(7, interrupt))
    resumed = preferred(tmp_path / "parts", start=start)
    assert same_bits(resumed, whole)
    assert resumed.losses == whole.losses


def test_where_nothing_does_better_the_start_comes_back(tmp_path: Path) -> None:
    start = tune(tmp_path / "before").weights
    spoilt = preferred(tmp_path / "after", replace(QUICK, learning_rate=3.0), start=start)
    assert spoilt.best.step == 0
    assert all(torch.equal(weight, start[name]) for name, weight in spoilt.weights.items())


def test_a_pair_counts_once_however_a_step_is_cut_into_passes(tmp_path: Path) -> None:
    one_step = replace(QUICK, epochs=1, step_examples=100)
    whole, cut = (preferred(tmp_path / str(size), replace(one_step, pass_tokens=size)) for size in (4096, 20))
    assert cut.tokens_run > whole.tokens_run
    assert cut.tokens == whole.tokens
    assert cut.checks[-1].dev_nll == pytest.approx(whole.checks[-1].dev_nll, rel=1e-4)


def test_it_needs_pairs_and_dev_examples(tmp_path: Path) -> None:
    for some, dev in (([], data()[1]), (pairs(), [])):
        with pytest.raises(DataError, match="there are no"):
            prefer(tiny_module(), some, Job(QUICK, dev, 0, tmp_path, "tiny"), beta=0.1)


# ---------------------------------------------------------------- the rung


def fit(workdir: Path, extra: Extra = Extra(), **fitted: Any) -> TunedPredictor:
    spec, train, dev = TestDpo().make_task()
    models = {"student": tiny_model()}
    workdir.mkdir(exist_ok=True)
    return Dpo(QUICK).fit(spec, train, dev, FitContext(models, 0, workdir, extra=extra, fitted=fitted))


def test_it_goes_on_from_lora_where_that_was_fitted(tmp_path: Path) -> None:
    spec, train, dev = TestDpo().make_task()
    (tmp_path / "lora").mkdir()
    lora = Lora(replace(RECIPE, rank=6, alpha=9)).fit(
        spec, train, dev, FitContext({"student": tiny_model()}, 0, tmp_path / "lora")
    )
    told = fit(tmp_path / "dpo", lora=lora).describe()
    assert told["starts from"] == "lora"
    assert told["first loss"] == pytest.approx(math.log(2), abs=1e-4)
    best = min(lora.describe()["dev checks"], key=lambda check: (-check["dev_accuracy"], check["dev_nll"]))
    first = told["dev checks"][0]
    assert (first["step"], first["dev_accuracy"]) == (0, best["dev_accuracy"])
    assert first["dev_nll"] == pytest.approx(best["dev_nll"], rel=1e-5)
    assert told["trainable parameters"] == lora.describe()["trainable parameters"], "another rank than lora's"


def test_the_pairs_are_the_right_label_and_the_likeliest_wrong_one_and_mistakes_come_first(tmp_path: Path) -> None:
    spec, train, _ = TestDpo().make_task()
    model = tiny_model()
    student = Student.of(spec, {"student": model}, "dpo")
    found = own_mistakes(model, student, spec, train, FitContext({}, 0, tmp_path))
    assert len(found) == len(train)
    said = {answer.id: answer for answer in found}
    assert {(said[e.id].chosen, said[e.id].rejected) for e in train} <= {("animal", "number"), ("number", "animal")}
    right = TunedPredictorOf(model, student).outputs([pair.input for pair in found])
    wrong = [output != pair.chosen for output, pair in zip(right, found, strict=True)]
    assert 0 < sum(wrong) < len(wrong), "the test shows nothing"
    assert wrong == sorted(wrong, reverse=True)


class TunedPredictorOf:
    """What a model answers as the student is asked."""

    def __init__(self, model: Any, student: Student) -> None:
        self.model, self.student = model, student

    def outputs(self, inputs: Any) -> list[str]:
        from luthier.types import Request

        asked = [Request(self.student.prompt(value), choices=self.student.labels) for value in inputs]
        return [reply.texts[0] for reply in self.model.complete(asked)]


def test_pairs_of_the_task_are_taken_instead(tmp_path: Path) -> None:
    pair = Preference("preference line 1", "the dog", "animal", "number")
    told = fit(tmp_path, Extra(preferences=(pair,) * 5)).describe()
    assert (told["pairs"], told["pairs are"]) == (5, "the task's own")


def test_a_student_that_gets_nothing_wrong_has_no_pairs(tmp_path: Path) -> None:
    spec, train, dev = TestDpo().make_task()
    every = [Example(example.id, example.input, ("animal", "number")) for example in train]
    with pytest.raises(DataError, match="gets nothing wrong"):
        Dpo(QUICK).fit(spec, every, dev, FitContext({"student": tiny_model()}, 0, tmp_path))
