"""TRL's trainer against the loop: the same rows, losses, gradients and weights, whoever runs them."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_loop import RECIPE, data, interrupt, same_bits, stop_at
from tiny_models import tiny_module

from luthier.errors import DataError, ModelError, StoreError
from luthier.train import loop, trl
from luthier.train.job import Job
from luthier.train.loop import Tuned
from luthier.train.plan import Plan
from luthier.train.recipe import Recipe
from luthier.train.rows import TrainRow
from luthier.train.watch import STATE

SHORT = replace(RECIPE, epochs=1, dev_checks_per_epoch=1)
ONE_STEP = replace(RECIPE, epochs=1, step_examples=18, dev_checks_per_epoch=1)


def tune(run: Any, workdir: Path, recipe: Recipe = RECIPE, *, seed: int = 0, module: Any = None, **more: Any) -> Tuned:
    rows, dev = data()
    rows, dev = more.pop("rows", rows), more.pop("dev", dev)
    chosen = [more.pop("training")] if "training" in more else []  # the backend's own question
    tuned: Tuned = run.fine_tune(
        module or tiny_module(), rows, Job(recipe, dev, seed, workdir, "tiny", **more), *chosen
    )
    return tuned


def farthest(one: Tuned, other: Tuned) -> float:
    """The largest difference of any weight, beside how far the weights of the one have come."""
    assert one.weights.keys() == other.weights.keys()
    apart = max(float((one.weights[name] - other.weights[name]).abs().max()) for name in one.weights)
    return apart / max(float(weight.abs().max()) for name, weight in one.weights.items() if "lora_A" not in name)


def assert_same_course(one: Tuned, other: Tuned, *, tolerance: float = 1e-3) -> None:
    assert one.losses == pytest.approx(other.losses, rel=tolerance)
    assert [check.step for check in one.checks] == [check.step for check in other.checks]
    for mine, theirs in zip(one.checks, other.checks, strict=True):
        for name, value in asdict(theirs).items():
            assert getattr(mine, name) == (None if value is None else pytest.approx(value, rel=tolerance))
    assert farthest(one, other) < tolerance
    assert (one.steps, one.tokens, one.trainable_parameters) == (other.steps, other.tokens, other.trainable_parameters)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """The training that nothing interrupts, by TRL."""
    return tune(trl, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_both_backends_take_the_same_steps_to_the_same_weights(tmp_path: Path, method: Any) -> None:
    """Trap 11: the loss of every step, the dev checks and the weights are the loop's, step by step."""
    usual = RECIPE if method == "lora" else SHORT
    recipe = replace(usual, method=method, learning_rate=1e-3 if method == "full" else RECIPE.learning_rate)
    assert_same_course(tune(trl, tmp_path / "trl", recipe), tune(loop, tmp_path / "loop", recipe))


def test_both_train_the_upper_layers_alone(tmp_path: Path) -> None:
    """Trap 11, where luthier's own loop runs the lower layers once."""
    recipe = replace(SHORT, upper_layers=1)
    tuned = [tune(run, tmp_path / run.__name__, recipe) for run in (trl, loop)]
    assert all(".layers.1." in name for name in tuned[0].weights)
    assert_same_course(*tuned)


@pytest.mark.parametrize("kind", ["gemma3", "gpt2"])
def test_other_architectures_take_the_same_steps(tmp_path: Path, kind: str) -> None:
    """Trap 11; gpt2 has dropout in its configuration, which the recipe says is never used."""
    tuned = [tune(run, tmp_path / run.__name__, SHORT, module=tiny_module(kind)) for run in (trl, loop)]
    assert_same_course(*tuned)


def test_the_first_steps_gradients_are_the_loops(tmp_path: Path) -> None:
    """Trap 11: AdamW hides a gradient's size, so that it is read off a step of plain descent: the moments it leaves."""
    found = []
    for run in (trl, loop):
        tune(run, tmp_path / run.__name__, replace(ONE_STEP, clip_norm=1e9))
        found.append(moments(tmp_path / run.__name__))
    ours = sorted(found[1], key=lambda moment: (tuple(moment.shape), float(moment.abs().sum())))
    theirs = sorted(found[0], key=lambda moment: (tuple(moment.shape), float(moment.abs().sum())))
    scale = max(float(moment.abs().max()) for moment in ours)
    assert scale > 0
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * scale


def moments(workdir: Path) -> list[Any]:
    """AdamW's first moments after one step: a tenth of the gradients."""
    path = next(iter(workdir.glob("**/optimizer.pt")), workdir / loop.CHECKPOINT)
    content = torch.load(path, weights_only=True)
    state = content.get("optimizer", content)["state"]
    return [state[at]["exp_avg"] for at in sorted(state)]


@pytest.mark.parametrize("pass_tokens", [1, 64])
def test_a_step_may_be_cut_as_one_likes(tmp_path: Path, pass_tokens: int) -> None:
    """Trap 10: one row at a time, all at once, and ragged last steps (18 rows, 4 or 5 a step) give the same steps."""
    recipe = replace(RECIPE, epochs=1, dev_checks_per_epoch=1, step_examples=5 if pass_tokens == 64 else 4)
    ours = tune(loop, tmp_path / "loop", recipe)
    theirs = tune(trl, tmp_path / "trl", replace(recipe, pass_tokens=pass_tokens))
    assert theirs.losses == pytest.approx(ours.losses, rel=1e-3)
    assert farthest(theirs, ours) < 1e-3


def test_a_prompts_token_is_never_a_target(tmp_path: Path) -> None:
    """Trap 11: what the head reads has no slope where a prompt's token comes next, so that its label is nothing."""
    module, slopes = tiny_module(), []

    def watch(_norm: Any, _inputs: Any, hidden: Any) -> None:
        if hidden.requires_grad:
            hidden.register_hook(slopes.append)

    module.model.norm.register_forward_hook(watch)
    tune(trl, tmp_path, replace(ONE_STEP, pass_tokens=4096), module=module)
    sloping = sum(int((slope.abs().sum(-1) > 0).sum()) for slope in slopes)
    assert sloping == sum(row.labelled for row in data()[0])


def test_a_pad_that_is_the_end_of_turn_takes_no_label_away(tmp_path: Path) -> None:
    """Trap 1: masks come from places and never from ids: here the end of turn has the id that rows are padded with."""

    def renamed(row: TrainRow) -> TrainRow:
        return TrainRow(tuple({4: 0, 0: 4}.get(token, token) for token in row.input_ids), row.labels_from)

    rows, dev = data()
    swapped = [renamed(row) for row in rows]
    assert all(row.input_ids[-1] == 0 for row in swapped)
    dev = [replace(item, rows=tuple(map(renamed, item.rows))) for item in dev]
    recipe = replace(SHORT, pass_tokens=4096)
    both = [tune(run, tmp_path / run.__name__, recipe, rows=swapped, dev=dev) for run in (trl, loop)]
    assert_same_course(*both)


def test_a_long_row_is_not_cut(tmp_path: Path) -> None:
    """Trap 7: TRL's own limit of 1,024 tokens would take the answer away, which stands last."""
    long = TrainRow((*range(5, 45),) * 30 + (7, 8, 4), 1200)
    rows = [*data()[0][:3], long]
    recipe = replace(ONE_STEP, step_examples=4)
    module = tiny_module(context=2048)
    both = [tune(run, tmp_path / run.__name__, recipe, rows=rows, module=module) for run in (trl, loop)]
    assert_same_course(*both)
    assert both[0].tokens > 1200


def test_a_plan_gives_each_step_its_examples_once_whatever_the_processes() -> None:
    lengths = [len(row.input_ids) for row in data()[0]]
    blank = len(lengths)
    for processes in (1, 2, 3):
        plan = Plan.of([*lengths, 2], RECIPE, seed=3, processes=processes, on_cpu=True)
        for step in range(plan.steps):
            laid = plan.laid[step * plan.slots : (step + 1) * plan.slots]
            chosen = loop.step_examples(RECIPE, blank, step, seed=3)
            assert sorted(at for at in laid if at != blank) == sorted(chosen)
            assert plan.filled(step) == len(chosen)
        assert plan.slots == processes * plan.passes * plan.at_once
        assert len(plan.laid) == plan.steps * plan.slots


def test_the_base_stays_as_it_was_and_the_seed_of_torch_too(tmp_path: Path) -> None:
    """Trap 13."""
    module = tiny_module()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    tune(trl, tmp_path, ONE_STEP, module=module)
    assert torch.equal(torch.rand(1), expected)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert module.config._attn_implementation == tiny_module().config._attn_implementation


def test_nothing_is_told_to_anybody(whole: Tuned) -> None:
    """TRL reports each trainer that is made, from a thread of its own, unless it is kept from it."""
    assert whole.steps
    assert not [thread.name for thread in threading.enumerate() if "telemetry" in thread.name]


def test_an_interrupted_training_resumes_and_ends_in_the_same_bits(tmp_path: Path, whole: Tuned) -> None:
    """Trap 15: Ctrl-C loses no whole step."""
    with pytest.raises(KeyboardInterrupt):
        tune(trl, tmp_path, working=stop_at(9, interrupt))
    seen: list[int] = []
    resumed = tune(trl, tmp_path, working=lambda _text, done, _total: seen.append(done))
    assert seen[0] == 9
    assert same_bits(resumed, whole)
    assert (resumed.checks, resumed.losses) == (whole.checks, whole.losses)


def test_a_torn_checkpoint_is_not_resumed_but_the_one_before_it(tmp_path: Path, whole: Tuned) -> None:
    """Trap 15: a kill may come while a checkpoint is being written."""
    tune(trl, tmp_path)
    newest = max(tmp_path.glob("trl-*/checkpoint-*"), key=lambda path: int(path.name[11:]))
    (newest / STATE).unlink()
    assert same_bits(tune(trl, tmp_path), whole)


def test_the_same_seed_gives_the_same_bits(tmp_path: Path, whole: Tuned) -> None:
    """Trap 23."""
    assert same_bits(tune(trl, tmp_path), whole)


def test_a_loss_that_is_no_number_stops_with_the_last_checkpoint_kept(tmp_path: Path, whole: Tuned) -> None:
    module = tiny_module()
    norm = module.model.norm.weight
    good = norm.detach().clone()
    with pytest.raises(ModelError, match=r"diverged: at step 5 of 10(.|\n)*lower the learning rate \(now 0\.01\)"):
        tune(trl, tmp_path, module=module, working=stop_at(4, lambda: norm.data.fill_(float("nan"))))
    norm.data.copy_(good)
    assert same_bits(tune(trl, tmp_path), whole)


def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    for missing in ("rows", "dev"):
        with pytest.raises(DataError, match="there are no"):
            tune(trl, tmp_path, **{missing: []})
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="checkpoint cannot be written"):
        tune(trl, blocked)


def test_an_earlier_fine_tune_is_where_it_starts(tmp_path: Path, whole: Tuned) -> None:
    both = [tune(run, tmp_path / run.__name__, SHORT, start=whole.weights) for run in (trl, loop)]
    assert both[0].checks[0].step == 0
    assert both[0].checks[0].dev_nll == pytest.approx(whole.best.dev_nll, rel=1e-4)
    assert_same_course(*both)
