"""TRL's preference trainer against the loop: the same pairs, losses, gradients and weights, whoever runs them."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_preference
import torch
from test_preference import QUICK as SMALL_PASSES
from test_preference import fit, pairs
from test_train_loop import LABELS, TEXTS, interrupt, prompt, same_bits, stop_at
from test_train_loop import tune as tune_before
from test_train_trl import assert_same_course, farthest, moments
from tiny_models import tiny_model, tiny_module, tiny_tokenizer

from luthier.errors import DataError
from luthier.models.chat import Chat
from luthier.rungs.dpo import Dpo
from luthier.train import preference, trl_preference
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.preference import Pair
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow, answer_rows
from luthier.types import FitContext, Training

QUICK = replace(SMALL_PASSES, pass_tokens=512)
SHORT = replace(QUICK, epochs=1)
ONE_STEP = replace(SHORT, step_examples=18)


def dev_rows() -> list[DevRow]:
    """Of what the pairs are about: what is learned from them shows, so that the best check is not the start's."""
    chat = Chat(tiny_tokenizer())
    return [
        DevRow(answer_rows(chat, prompt(text), LABELS, context_tokens=512, example_id=text), (LABELS.index(label),))
        for text, label in TEXTS[:8]
    ]


def preferred(run: Any, workdir: Path, recipe: Recipe = QUICK, *, module: Any = None, **more: Any) -> Tuned:
    given: dict[str, Any] = {"dev": dev_rows(), "seed": 0, "workdir": workdir, "base": "tiny"} | more
    some, beta = given.pop("pairs", pairs()), given.pop("beta", 0.1)
    chosen = [given.pop("training")] if "training" in given else []  # the backend's own question
    tuned: Tuned = run.prefer(module or tiny_module(), some, Job(recipe, **given), *chosen, beta=beta)
    return tuned


def both(workdir: Path, recipe: Recipe = QUICK, *, kind: str | None = None, **more: Any) -> tuple[Tuned, Tuned]:
    """By TRL, and by the loop."""
    runs = (trl_preference, preference)
    modules = [tiny_module(kind) if kind else tiny_module() for _ in runs]
    one, other = (
        preferred(run, workdir / run.__name__, recipe, module=module, **more)
        for run, module in zip(runs, modules, strict=True)
    )
    return one, other


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An earlier fine-tune's weights."""
    return tune_before(tmp_path_factory.mktemp("before")).weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any]) -> Tuned:
    """The training that nothing interrupts, by TRL."""
    return preferred(trl_preference, tmp_path_factory.mktemp("whole"), start=before)


@pytest.mark.parametrize(("beta", "tuned_before"), [(0.1, False), (0.5, True)])
def test_the_first_loss_is_ln_2_and_every_step_is_the_loops(
    tmp_path: Path, before: dict[str, Any], beta: float, tuned_before: bool
) -> None:
    """Traps 18 and 11: held to what it says at first, an earlier fine-tune included, and taken the loop's steps."""
    theirs, ours = both(tmp_path, beta=beta, start=before if tuned_before else None)
    assert theirs.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert theirs.losses[-1] < 0.95 * math.log(2)
    assert_same_course(theirs, ours)
    assert theirs.checks[0].step == 0


@pytest.mark.parametrize("method", ["dora", "full"])
def test_other_methods_take_the_same_steps(tmp_path: Path, method: Any) -> None:
    """Trap 11; with all weights, TRL would load what to be held to from somewhere else."""
    recipe = replace(SHORT, method=method, learning_rate=1e-3 if method == "full" else 3e-3)
    assert_same_course(*both(tmp_path, recipe))


def test_another_architecture_takes_the_same_steps(tmp_path: Path) -> None:
    """Trap 11; gpt2 has dropout in its configuration, which the recipe says is never used."""
    assert_same_course(*both(tmp_path, replace(SHORT, learning_rate=1e-2), kind="gpt2"))


def test_the_first_steps_gradients_are_the_loops(tmp_path: Path) -> None:
    """Trap 11: AdamW hides a gradient's size, so that it is read off the moments of one step."""
    both(tmp_path, replace(ONE_STEP, clip_norm=1e9))
    found = [moments(tmp_path / run.__name__) for run in (trl_preference, preference)]
    theirs, ours = (sorted(some, key=lambda each: (tuple(each.shape), float(each.abs().sum()))) for some in found)
    scale = max(float(moment.abs().max()) for moment in ours)
    assert scale > 0
    for one, other in zip(theirs, ours, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize(("step_examples", "pass_tokens"), [(5, 1), (8, 180)])
def test_a_step_may_be_cut_as_one_likes(tmp_path: Path, step_examples: int, pass_tokens: int) -> None:
    """Trap 10: a pair at a time, or some; with a last step (of 18 pairs) that is not full; the same steps."""
    recipe = replace(SHORT, step_examples=step_examples)
    ours = preferred(preference, tmp_path / "loop", recipe)
    theirs = preferred(trl_preference, tmp_path / "trl", replace(recipe, pass_tokens=pass_tokens))
    assert theirs.losses == pytest.approx(ours.losses, rel=1e-4)
    assert farthest(theirs, ours) < 1e-3


def test_fewer_pairs_than_a_step_has_room_for(tmp_path: Path) -> None:
    assert_same_course(*both(tmp_path, replace(QUICK, step_examples=16), pairs=pairs()[:3]))


def test_a_long_pair_is_not_cut(tmp_path: Path) -> None:
    """Trap 7: TRL's own limit of 1,024 tokens would take the answers away, which stand last."""
    question = (*range(5, 45),) * 30
    long = Pair(TrainRow((*question, 7, 8, 4), 1200), TrainRow((*question, 9, 4), 1200))
    some = [*pairs()[:3], long]
    recipe = replace(ONE_STEP, step_examples=4)
    runs = (trl_preference, preference)
    tuned = [
        preferred(run, tmp_path / run.__name__, recipe, pairs=some, module=tiny_module(context=2048)) for run in runs
    ]
    assert_same_course(*tuned)
    assert tuned[0].tokens > 2400


def test_a_pad_that_is_the_end_of_turn_takes_no_label_away(tmp_path: Path) -> None:
    """Trap 1: masks come from places and never from ids: here the end of turn has the id that rows are padded with."""

    def renamed(row: TrainRow) -> TrainRow:
        return TrainRow(tuple({4: 0, 0: 4}.get(token, token) for token in row.input_ids), row.labels_from)

    some = [Pair(renamed(pair.chosen), renamed(pair.rejected)) for pair in pairs()]
    assert len({len(pair.chosen.input_ids) - len(pair.rejected.input_ids) for pair in some}) > 1, "nothing is padded"
    assert all(row.input_ids[-1] == 0 for pair in some for row in (pair.chosen, pair.rejected))
    dev = [replace(item, rows=tuple(map(renamed, item.rows))) for item in dev_rows()]
    assert_same_course(*both(tmp_path, replace(SHORT, pass_tokens=4096), pairs=some, dev=dev))


def test_where_nothing_does_better_the_start_comes_back(tmp_path: Path, before: dict[str, Any]) -> None:
    spoilt = preferred(trl_preference, tmp_path, replace(QUICK, learning_rate=3.0), start=before)
    assert spoilt.best.step == 0
    assert spoilt.weights.keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in spoilt.weights.items())


def test_the_base_stays_as_it_was_and_nothing_is_told_to_anybody(tmp_path: Path, capfd: Any) -> None:
    """Trap 13."""
    module = tiny_module()
    kept = {name: weight.clone() for name, weight in module.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    preferred(trl_preference, tmp_path, ONE_STEP, module=module)
    assert torch.equal(torch.rand(1), expected)
    assert module.state_dict().keys() == kept.keys()
    assert all(torch.equal(weight, kept[name]) for name, weight in module.state_dict().items())
    assert not [thread.name for thread in threading.enumerate() if "telemetry" in thread.name]
    assert capfd.readouterr() == ("", "")


def test_an_interrupted_training_resumes_and_ends_in_the_same_bits(
    tmp_path: Path, whole: Tuned, before: dict[str, Any]
) -> None:
    """Trap 15: Ctrl-C loses no whole step, and what the model said at first is what it is held to ever after."""
    with pytest.raises(KeyboardInterrupt):
        preferred(trl_preference, tmp_path, start=before, working=stop_at(7, interrupt))
    seen: list[int] = []
    resumed = preferred(trl_preference, tmp_path, start=before, working=lambda _text, done, _total: seen.append(done))
    assert next(done for done in seen if done) == 7
    assert same_bits(resumed, whole)
    assert (resumed.checks, resumed.losses) == (whole.checks, whole.losses)


def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    for missing in ("pairs", "dev"):
        with pytest.raises(DataError, match="there are no"):
            preferred(trl_preference, tmp_path, **{missing: []})


def test_the_rung_trains_where_the_task_says(tmp_path: Path) -> None:
    spec, train, dev = test_preference.TestDpo().make_task()
    task = replace(spec, training=Training("trl"))
    (tmp_path / "trl").mkdir()
    by_trl = Dpo(SMALL_PASSES).fit(task, train, dev, FitContext({"student": tiny_model()}, 0, tmp_path / "trl"))
    by_loop = fit(tmp_path / "loop")
    assert list((tmp_path / "trl").glob("trl-*"))
    assert not list((tmp_path / "loop").glob("trl-*"))
    assert by_trl.describe()["loss by step"] == pytest.approx(by_loop.describe()["loss by step"], abs=2e-4)
    inputs = [example.input for example in dev]
    assert [p.output for p in by_trl.predict(inputs)] == [p.output for p in by_loop.predict(inputs)]
