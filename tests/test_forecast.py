"""The forecast: nested parts, points that survive a stop, the command, and what the climb and its report say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LABELS, colour_rows, row, spec, write_task
from test_cli import call
from test_climb import TOML
from tiny_models import tiny_model

import luthier
from luthier.climb import look_ahead
from luthier.errors import DataError, ModelError
from luthier.evaluate.figures import losses
from luthier.evaluate.scorers import metric, scorer_of
from luthier.report import render
from luthier.report.forecasts import lines, next_step, told
from luthier.rungs.lora import Lora
from luthier.rungs.tfidf import Tfidf
from luthier.store import Store
from luthier.testing import RungContract
from luthier.train.forecast import Fitting, Forecast, Point, forecast, forecast_of, measure, nested, parts, seconds_left
from luthier.train.recipe import Recipe
from luthier.types import (
    Estimate,
    Example,
    FitContext,
    Label,
    Outcome,
    Prediction,
    Predictor,
    Row,
    Rung,
    Score,
    Target,
    TaskSpec,
    Training,
    silent,
)

TASK = replace(spec(Target("accuracy", 0.9)), labels=(Label("warm"), Label("cold")))


def examples(count: int, *, noise: int = 7) -> tuple[Example, ...]:
    return tuple(Example(f"e{at}", text, (label,)) for at, (text, label) in enumerate(colour_rows(count, noise=noise)))


class _Words(RungContract):
    """For its task alone: a few short texts."""

    def make_rung(self) -> Rung:
        return Tfidf()

    def make_models(self) -> Mapping[str, Any]:
        return {}


class Counting:
    """TF-IDF that tells which sizes it was fitted on, and is interrupted before one of its fits."""

    name, rank, roles, kinds, guarded, version = "tfidf", 20, (), ("classification",), False, "1"

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.sizes = stop_at, list[int]()

    def fit(self, task: TaskSpec, train: Sequence[Example], dev: Sequence[Example], context: FitContext) -> Predictor:
        if len(self.sizes) == self.stop_at:
            raise KeyboardInterrupt
        self.sizes.append(len(train))
        return Tfidf().fit(task, train, dev, context)


def fitting(folder: Path, rung: Counting, *, train: int = 96, task: TaskSpec = TASK) -> Fitting:
    rows = examples(train + 60)
    return Fitting(rung, "tfidf", task, rows[:train], rows[train:], {}, scorer_of(task), Store(folder), silent)


# ---------------------------------------------------------------- the parts


def test_parts_are_nested_and_stratified_and_keep_groups_whole() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    rows = [Example(f"e{at}", f"t{at}", (label,), f"g{at // 2}") for at, label in enumerate(labels)]
    found = parts(rows, seed=3)
    assert sorted(found) == list(found) == [12, 26, 50, 100], "eighths, filled up to whole groups"
    before: set[str] = set()
    for size, members in found.items():
        names = {example.id for example in members}
        assert before <= names, "each part holds the smaller ones"
        assert all(count == 2 for count in Counter(example.group for example in members).values())
        shares = Counter(example.reference for example in members)
        assert abs(shares["a"] - 0.6 * size) <= 4, "two groups at most off their share"
        assert [each.id for each in members] == sorted(names, key=lambda name: int(name[1:])), "in the order of train"
        before = names
    assert parts(rows, seed=4)[12] != found[12]


def test_texts_that_differ_all_are_drawn_without_strata() -> None:
    rows = [Example(f"e{at}", f"t{at}", (f"answer {at}",)) for at in range(40)]
    assert [at for (at,) in nested(rows, 0)] != list(range(40))
    assert len(parts(rows, 0)[5]) == 5


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few to forecast"):
        measure(fitting(tmp_path, Counting(), train=15))


# ---------------------------------------------------------------- the points


def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Counting(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        measure(fitting(tmp_path, first))
    assert first.sizes == [12, 12, 24]
    second = Counting()
    points = measure(fitting(tmp_path, second))
    assert second.sizes == [24, 48, 48, 96, 96], "what was measured is not fitted again"
    assert points == measure(fitting(tmp_path, Counting(stop_at=0))), "and all of it is kept"
    undisturbed = measure(fitting(tmp_path / "other", Counting()))
    assert [(p.size, p.chain, p.rows) for p in points] == [(p.size, p.chain, p.rows) for p in undisturbed]
    assert not list((tmp_path / "work").iterdir())


def test_points_belong_to_their_data_and_metric(tmp_path: Path) -> None:
    measure(fitting(tmp_path, Counting()))
    again = Counting()
    measure(fitting(tmp_path, again, task=replace(TASK, target=Target("macro_f1", 0.9))))
    assert len(again.sizes) == 8
    same = Counting()
    measure(fitting(tmp_path, same, task=replace(TASK, target=Target("accuracy", 0.5), name="another")))
    assert same.sizes == [], "the bar changes no score"


def test_the_fit_on_everything_is_taken_from_the_climb_and_counted_once(tmp_path: Path) -> None:
    given = fitting(tmp_path, Counting())
    whole = given.rung.fit(TASK, given.train, given.dev, FitContext({}, 0, tmp_path))
    rung = Counting()
    given = replace(given, rung=rung, whole=whole, whole_seconds=8.0)
    assert seconds_left(given) == pytest.approx(8.0 * (2 * 7 / 8 + 1))
    points = measure(given)
    assert rung.sizes == [12, 12, 24, 24, 48, 48, 96]
    assert seconds_left(given) == 0.0
    # TF-IDF gives the same on the same examples, whatever the seed: that is no second observation
    assert [point.size for point in points] == [12, 12, 24, 24, 48, 48, 96]


def test_the_loss_of_a_fine_tune_is_forecast_beside_its_score(tmp_path: Path) -> None:
    task, train, dev = _Words().make_task()
    rung = Lora(Recipe(rank=4, alpha=8, learning_rate=1e-2, epochs=2, step_examples=4))
    models = {"student": tiny_model()}
    store = Store(tmp_path)
    given = Fitting(rung, "lora@tiny", task, tuple(train), tuple(dev), models, scorer_of(task), store, silent)
    points = measure(given)
    assert [point.size for point in points] == [4, 4, 8, 8, len(train), len(train)], "2 are fewer than a step takes"
    assert all(point.nll is not None for point in points)
    found = forecast_of(points, task, "lora@tiny", len(train))
    values = told(found, task.target)
    assert values["loss"] is not None
    ahead = [each["mean"] for each in values["loss"]]
    assert ahead == sorted(ahead, reverse=True), "a loss that only falls"


# ---------------------------------------------------------------- what follows from them


def points_of(rights: dict[int, float], dev: int = 200) -> list[Point]:
    """Points on which the first so many dev examples are right."""
    return [
        Point(size, 0, tuple(row(at, float(at < round(share * dev))) for at in range(dev)), 1.0)
        for size, share in rights.items()
    ]


def found_at(rights: dict[int, float], target: float = 0.9) -> Forecast:
    return forecast_of(points_of(rights), spec(Target("accuracy", target)), "tfidf", max(rights))


def test_perfect_everywhere_one_class_and_a_flat_curve_are_forecast_too(tmp_path: Path) -> None:
    perfect = found_at({125: 1.0, 250: 1.0, 500: 1.0, 1000: 1.0})
    assert 0.97 < perfect.score(1000)["low"] <= perfect.score(4000)["low"] <= perfect.score(4000)["high"] <= 1
    flat = found_at({125: 0.7, 250: 0.7, 500: 0.7, 1000: 0.7})
    assert flat.needed(0.95)["median"] is None
    assert flat.score(2000)["mean"] < 0.72
    one_class = replace(
        fitting(tmp_path, Counting()), train=tuple(e for e in examples(300) if e.references == ("warm",))
    )
    measured = measure(one_class)
    constant = forecast_of(measured, TASK, "tfidf", len(one_class.train))
    assert constant.score(300)["mean"] < 0.65
    assert constant.score(300)["high"] < 0.9


def answered(outputs: Sequence[str], *, warm: int = 86) -> list[Point]:
    """Points of four sizes with the same outputs, about 86 examples that are warm and 14 that are cold."""
    references = ["warm"] * warm + ["cold"] * (len(outputs) - warm)
    rows = tuple(
        Row(Example(f"e{at}", "", (reference,)), Prediction(output), Score(float(output == reference), ""))
        for at, (output, reference) in enumerate(zip(outputs, references, strict=True))
    )
    return [Point(size, 0, rows, 1.0) for size in (125, 250, 500, 1000)]


def test_a_rung_that_gives_one_answer_to_everything_has_not_begun_and_nobody_can_say_when() -> None:
    target = Target("accuracy", 0.95)
    constant = forecast_of(answered(["warm"] * 100), TASK, "lora", 1000)
    lucky = forecast_of(answered([*["warm"] * 99, "cold"]), TASK, "lora", 1000)
    knowing = forecast_of(answered([*["cold"] * 10, *["warm"] * 76, *["cold"] * 10, *["warm"] * 4]), TASK, "lora", 1000)
    assert (constant.begun, lucky.begun, knowing.begun) == (False, False, True)
    assert constant.scores == knowing.scores
    assert constant.score(2000)["high"] > 0.93 > knowing.score(2000)["high"]
    step, because = next_step(constant, target, None)
    assert step == "open"
    assert "one answer to everything" in because
    assert told(constant, target)["begun"] is False
    better = ("tfidf", Estimate(0.999, 0.998, 1.0, 400, "ppr"))
    assert next_step(constant, target, better)[0] == "another rung", "what is better already needs no wait"


def test_what_the_test_split_has_ruled_out_is_not_foretold() -> None:
    target = Target("accuracy", 0.85)
    hopeful = found_at({125: 0.7, 250: 0.78, 500: 0.82, 1000: 0.86}, 0.85)
    assert next_step(hopeful, target, None)[0] == "proof"
    proven = hopeful.given(Estimate(0.8, 0.75, 0.84, 300, "ppr"))
    assert proven.score(1000)["high"] <= 0.84
    assert proven.reaches(0.85, 1000) == 0.0
    assert (proven.needed(0.85)["low"] or 4001) > 1000
    assert next_step(proven, target, None)[0] != "proof"
    assert told(proven, target)["tested"]["high"] == 0.84
    step, because = next_step(hopeful.given(Estimate(0.4, 0.3, 0.5, 300, "ppr")), target, None)
    assert step == "open"
    assert "dev and test disagree" in because
    assert hopeful.given(None) is hopeful
    step, because = next_step(hopeful.given(Estimate(0.9, 0.86, 0.93, 300, "ppr")), target, None)
    assert (step, "the test split has shown" in because) == ("nothing", True)
    wide = found_at({2: 0.5, 4: 0.6, 8: 0.7, 16: 0.8}, 0.85)
    assert "disagree" not in next_step(wide.given(Estimate(0.75, 0.7, 0.8, 300, "ppr")), target, None)[1]


def test_copies_count_once_and_one_label_is_no_proof_of_learning() -> None:
    def groups(size: int) -> list[Point]:
        rows = [
            Row(
                Example(f"e{at}-{copy}", "", ("warm" if at < 5 else "cold",), f"g{at}"),
                Prediction("cold" if at == 5 else "warm"),
                Score(float(at <= 5), ""),
            )
            for at in range(10)
            for copy in range(size)
        ]
        return [Point(n, 0, tuple(rows), 1.0) for n in (10, 20)]

    assert not forecast_of(groups(1), TASK, "lora", 20).begun
    assert not forecast_of(groups(20), TASK, "lora", 20).begun
    assert not forecast_of(answered(["cold"] * 50, warm=50), TASK, "lora", 1000).begun
    assert forecast_of(answered(["warm"] * 50, warm=50), TASK, "lora", 1000).begun


def test_texts_have_begun_where_one_of_them_is_right() -> None:
    task = replace(TASK, kind="generation", labels=())
    none, one = answered(["x"] * 100), answered(["warm", *["x"] * 99])
    assert not forecast_of(none, task, "lora", 1000).begun
    assert forecast_of(one, task, "lora", 1000).begun


def test_scores_never_fall_with_more_examples() -> None:
    found = found_at({125: 0.75, 250: 0.72, 500: 0.74, 1000: 0.7})
    for end in ("mean", "low", "high"):
        values = [found.score(n)[end] for n in (125, 500, 1000, 2000, 4000)]
        assert values == sorted(values)
        assert values[-1] <= 1


@pytest.mark.parametrize("name", ["macro_f1", "recall"])
def test_other_metrics_have_the_covariance_of_a_bootstrap(name: str) -> None:
    target = Target("macro_f1", 0.9) if name == "macro_f1" else Target("recall", 0.9, label="a")
    rng = np.random.default_rng(0)
    references = [LABELS[int(at)] for at in rng.random(300) < 0.4]
    columns = [
        [row(at, float(rng.random() < share), reference=reference) for at, reference in enumerate(references)]
        for share in (0.7, 0.8)
    ]
    errors, covariance, units = losses(columns, metric(target, LABELS), LABELS)
    about = 300 if name == "macro_f1" else references.count("a")
    assert units == about
    assert errors[0] > errors[1]
    assert np.sqrt(np.diag(covariance)) == pytest.approx(np.sqrt(errors * (1 - errors) / about), rel=0.25)


def test_groups_of_dev_count_once() -> None:
    target = Target("accuracy", 0.9)
    columns = [[row(at, float(at < 4), group="g" if at < 6 else None) for at in range(8)]]
    errors, _, units = losses(columns * 2, metric(target, LABELS), LABELS)
    assert units == 3
    assert errors[0] == pytest.approx(1 - (4 / 6 + 0 + 0) / 3)


def test_the_next_step_follows_from_the_curve_and_the_best_other_rung() -> None:
    steep = {125: 0.5, 250: 0.64, 500: 0.74, 1000: 0.815}
    flat = {125: 0.68, 250: 0.69, 500: 0.7, 1000: 0.7}

    def step(rights: dict[int, float], target: float, other: float | None = None) -> tuple[str, str]:
        best = None if other is None else ("lora", Estimate(other, other - 0.03, other + 0.03, 400, "ppr"))
        return next_step(found_at(rights, target), Target("accuracy", target), best)

    assert step(steep, 0.8)[0] == "proof"
    assert step(steep, 0.85)[0] == "more labels"
    assert "examples" in step(steep, 0.85)[1]
    assert step(flat, 0.95)[0] == "another rung"
    name, because = step(flat, 0.95, 0.9)
    assert name == "another rung"
    assert because.startswith("even 4,000 examples would probably give ")
    assert because.endswith("and lora has 90.0 % [87.0, 93.0] now")


@pytest.mark.parametrize(("own", "told_so"), [((0.4, 0.28, 0.53), True), ((0.97, 0.89, 1.0), False)])
def test_what_does_not_fit_its_own_training_examples_needs_no_more_of_them(
    own: tuple[float, float, float], told_so: bool
) -> None:
    rising = {125: 0.3, 250: 0.34, 500: 0.38, 1000: 0.42}
    found = replace(found_at(rising, 0.95), own=Estimate(*own, 64, "Clopper-Pearson"))
    step, because = next_step(found, Target("accuracy", 0.95), None)
    assert ("too small for the task or was trained too little" in because) is told_so
    assert not told_so or step == "another rung"
    assert "of its own training examples" in " ".join(told(found, Target("accuracy", 0.95))["sentences"])
    about_one_class = next_step(found, Target("f1", 0.95, label="a"), None)
    assert "its own training examples" not in about_one_class[1], "the mean score is no F1"


def test_a_fit_is_asked_about_its_own_training_examples_once(tmp_path: Path) -> None:
    rung = Counting()
    given = fitting(tmp_path, rung)
    assert forecast(given).own is None, "the fit on all of them is not at hand"
    whole = rung.fit(TASK, given.train, given.dev, FitContext({}, 0, tmp_path))
    asked: list[str] = []
    at_hand = replace(given, whole=whole, listen=lambda event: asked.append(event.text))
    own = forecast(at_hand).own
    assert own is not None
    assert own.n == 64
    assert own.low <= own.mean <= own.high
    assert forecast(at_hand).own == own
    assert sum("its own training examples" in text for text in asked) == 1


# ---------------------------------------------------------------- the command, the climb, the report


def noisy_task(folder: Path, *, more: str = "") -> Path:
    """A task that TF-IDF cannot do to 95 %: each seventh label is wrong."""
    toml = TOML.format(rungs='["majority", "tfidf"]', at_least=0.95).replace("train = 200", "train = 120")
    return write_task(folder, colour_rows(600, noise=7), toml + more)


def test_the_command_says_what_twice_and_four_times_the_data_would_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = noisy_task(tmp_path)
    main_code = call("forecast", str(path), "--json")
    out, told_of = capsys.readouterr()
    found = json.loads(out)
    assert main_code == 0
    assert "forecasting tfidf, the last one that learns, as nothing has run yet; --rung names another" in told_of
    assert "fitted on all 120 training examples, then on parts of them" in told_of
    assert (found["schema"], found["task"], found["candidate"]) == (1, "colours", "tfidf"), "the last rung that learns"
    assert [each["examples"] for each in found["ahead"]] == [120, 240, 480]
    assert sorted({point["examples"] for point in found["points"]}) == [15, 30, 60, 120]
    for each in found["ahead"]:
        assert 0 <= each["low"] <= each["mean"] <= each["high"] <= 1
        assert each["on_dev"]["low"] <= each["on_dev"]["high"]
    assert found["next_step"] in ("another rung", "open")
    assert call("forecast", str(path), "--rung", "tfidf") == 0
    out = capsys.readouterr().out
    assert "tfidf: accuracy by training examples" in out
    assert "expected; reaches the target with" in out
    assert found["sentences"][0] in out, "what was measured is kept: the same answer again"
    assert call("forecast", str(path), "--rung", "embedding") == 2
    assert "'embedding' is not on the ladder" in capsys.readouterr().err
    assert call("forecast", str(path), "--rung", "majority") == 2
    assert "majority learns nothing from more examples" in capsys.readouterr().err


def test_a_fine_tune_takes_its_fewest_steps_on_few_examples_too(tmp_path: Path) -> None:
    given = fitting(tmp_path, Counting(), train=1024)
    whole = given.rung.fit(TASK, given.train, given.dev, FitContext({}, 0, tmp_path))
    given = replace(given, whole=whole, whole_seconds=128.0)
    rest = sum(2 * part / 1024 for part in (128, 256, 512)) + 1  # the second fit on all of them
    assert seconds_left(given) == pytest.approx(128.0 * rest)
    tuned = replace(given, rung=Lora(Recipe(epochs=2, fewest_steps=96)))
    assert seconds_left(tuned) == pytest.approx(2 * 3 * 96 + 128)  # a second a step
    small = fitting(tmp_path / "small", Counting(), train=40)
    whole = small.rung.fit(TASK, small.train, small.dev, FitContext({}, 0, tmp_path))
    refused = replace(small, rung=Lora(Recipe(epochs=2)), whole=whole, whole_seconds=6.0)
    assert seconds_left(refused) == pytest.approx(2 * 4 + 6), "5 and 10 examples are too few for a step"
    few = replace(tuned, task=replace(TASK, training=Training(epochs=2)))
    assert seconds_left(few) == pytest.approx(128.0 * rest), "epochs as they were told"


def test_a_model_that_nobody_knows_is_told_before_anything_is_fitted(tmp_path: Path) -> None:
    path = noisy_task(tmp_path, more='[models]\nembedder = "all-minilm"\n')
    path.write_text(path.read_text("utf-8").replace('"tfidf"]', '"embedding"]'), encoding="utf-8")
    told_of: list[str] = []
    with pytest.raises(ModelError, match="there is no embedder 'all-minilm'"):
        look_ahead(path, "embedding", listen=lambda event: told_of.append(event.text))
    assert not told_of


def test_a_climb_that_misses_says_whether_more_labels_would_help(tmp_path: Path) -> None:
    path = noisy_task(tmp_path)
    verdict = luthier.run(path)
    assert verdict.outcome is not Outcome.MEETS
    (found,) = verdict.forecasts
    assert found["candidate"] == "tfidf"
    assert found["other"]["name"] == "majority"
    assert list(verdict.flips[-3:]) == lines(found)
    assert lines(found)[-1].endswith("on 64 of its own training examples")
    summary = verdict.to_summary()
    assert summary["verdict"]["forecasts"][0]["sentences"] == found["sentences"]
    page, text = render.html(summary), render.markdown(summary)
    for report in (page, text):
        assert "What more labels would give" in report
        assert "480" in report
    assert page.count('class="dot"') == len(found["points"])
    assert "no rung was fitted on a part of them" not in page
    assert json.dumps(luthier.run(path).to_dict()["forecasts"]) == json.dumps(verdict.to_dict()["forecasts"])


def test_a_forecast_that_takes_too_long_is_left_out_and_said(tmp_path: Path) -> None:
    verdict = luthier.run(noisy_task(tmp_path, more="[forecast]\nmax_seconds = 1e-9\n"))
    assert verdict.forecasts == ()
    assert "was not measured: it takes about" in verdict.flips[-1]
    assert "luthier forecast --rung tfidf" in verdict.flips[-1]
    silent_one = luthier.run(noisy_task(tmp_path / "off", more="[forecast]\nmax_seconds = 0\n"))
    assert silent_one.forecasts == ()
    assert not any("more labels" in flip for flip in silent_one.flips)


def test_a_climb_with_a_winner_asks_for_no_forecast(tmp_path: Path) -> None:
    toml = TOML.format(rungs='["tfidf"]', at_least=0.85)
    assert luthier.run(write_task(tmp_path, colour_rows(600), toml)).forecasts == ()


def test_a_forecast_is_plain_json() -> None:
    values = told(found_at({125: 0.5, 250: 0.6, 500: 0.7, 1000: 0.8}), Target("accuracy", 0.99))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["needed"]["median"] is None
