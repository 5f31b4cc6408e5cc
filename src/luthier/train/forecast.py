"""The forecast: how far a rung's score would go with more examples, from fits on parts of those there are.

One example: a rung is fitted on 125, 250, 500 and 1,000 of 1,000 training examples, twice on different parts, and each
fit answers dev. The law that agrees with the eight scores says what 2,000 and 4,000 examples would give.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np

from luthier.errors import DataError
from luthier.evaluate.figures import losses
from luthier.evaluate.scorers import FingerprintedScorer, metric
from luthier.stats import Fits, LearningCurve, betting_sequence, clopper_pearson, learning_curve
from luthier.store import Store
from luthier.types import (
    Estimate,
    Event,
    Example,
    FitContext,
    Listener,
    Prediction,
    Predictor,
    Row,
    Rung,
    Score,
    TaskSpec,
    digest,
)

VERSION = 1  # changes whenever the same examples could give other measurements
PARTS = (8, 4, 2, 1)  # of how many parts one is fitted on
CHAINS = 2  # independent draws; within one, each part holds the smaller ones
FEWEST = 16  # of which an eighth is two examples
OWN = 64  # of its own training examples that a fit on all of them is asked about
CONFIDENCE = 0.9
AHEAD = (1, 2, 4)  # times the examples there are
MOST_AHEAD = AHEAD[-1]


@dataclass(frozen=True)
class Point:
    """One fit: on how many examples, of which chain, what it answered on dev, and its dev loss where it tells one."""

    size: int
    chain: int
    rows: tuple[Row, ...]
    seconds: float
    nll: float | None = None


@dataclass(frozen=True)
class Fitting:
    """What measuring a curve needs of the climb: the rung with its models, the data, and where points are kept."""

    rung: Rung
    candidate: str
    task: TaskSpec
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    models: Mapping[str, Any]
    scorer: FingerprintedScorer
    store: Store
    listen: Listener
    clock: Callable[[], float] = time.perf_counter
    fitted: Mapping[str, Predictor] = field(default_factory=dict)
    whole: Predictor | None = None
    """The rung already fitted on all of train with the task's seed, where there is one."""
    whole_seconds: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """A curve with what it was fitted to. `curve` is of 1 - score, `loss` of the dev loss where each fit tells one."""

    candidate: str
    points: tuple[Point, ...]
    scores: tuple[float, ...]
    curve: LearningCurve
    loss: LearningCurve | None
    examples: int
    dev_examples: int
    begun: bool = True
    """Whether a fit on all examples is better than a constant answer."""
    tested: Estimate | None = None
    """What the fit on all examples was measured to score on the test split, where it was."""
    own: Estimate | None = None
    """The mean score of the fit on all examples on some of these very examples: what it cannot fit, no more of their
    kind will teach it."""

    def given(self, tested: Estimate | None) -> Forecast:
        """Without the curves that the test split has ruled out; as it is where it would rule out nearly all of them."""
        if tested is None:
            return self
        left = self.curve.within(self.examples, 1.0 - tested.high, 1.0 - tested.low)
        return replace(self, tested=tested, curve=left or self.curve)

    def score(self, n: float, confidence: float = CONFIDENCE) -> dict[str, float]:
        """What to expect of a fit on n examples, on inputs to come: mean (the median), low and high. Never falls."""
        middle, low, high = self.curve.interval(n, confidence)
        return {"mean": 1.0 - middle, "low": 1.0 - high, "high": 1.0 - low}

    def limit(self, confidence: float = CONFIDENCE) -> dict[str, float]:
        """What no number of examples would take it beyond."""
        middle, low, high = self.curve.limit(confidence)
        return {"mean": 1.0 - middle, "low": 1.0 - high, "high": 1.0 - low}

    def reaches(self, at_least: float, n: float) -> float:
        """The probability that a fit on n examples is expected to score at least that."""
        return self.curve.reaches(1.0 - at_least, n)

    def needed(self, at_least: float, confidence: float = CONFIDENCE) -> dict[str, int | None]:
        """How many examples the score takes, in all: median, low, high; None beyond four times those there are."""
        found = zip(("median", "low", "high"), self.curve.needed(1.0 - at_least, confidence), strict=True)
        most = MOST_AHEAD * self.examples
        return {name: math.ceil(value) if value <= most else None for name, value in found}


# ---------------------------------------------------------------- the parts


def nested(train: Sequence[Example], seed: int) -> list[list[int]]:
    """Indices of train as units (groups stay whole) in an order whose every beginning is stratified by label."""
    units: dict[str, list[int]] = defaultdict(list)
    for at, example in enumerate(train):
        units[example.group or f"\0{at}"].append(at)
    labels = {name: train[members[0]].reference for name, members in units.items()}
    free = len(set(labels.values())) > len(units) / 2  # texts that differ all are no strata
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for name, members in units.items():
        strata["" if free else labels[name]].append(members)
    rng = np.random.default_rng([seed, 16])
    placed = []
    for label in sorted(strata):
        members_of = strata[label]
        shift = rng.random()
        for rank, which in enumerate(rng.permutation(len(members_of))):
            placed.append(((rank + shift) / len(members_of), label, members_of[int(which)]))
    return [members for _, _, members in sorted(placed, key=lambda each: each[:2])]


def parts(train: Sequence[Example], seed: int) -> dict[int, tuple[Example, ...]]:
    """The nested parts by their sizes, smallest first; each in the order of train. DataError for too few examples."""
    if len(train) < FEWEST:
        raise DataError(
            f"{len(train)} training examples are too few to forecast from: an eighth of them says nothing",
            where="the forecast",
            fix=f"label at least {FEWEST}",
        )
    order = nested(train, seed)
    found: dict[int, tuple[Example, ...]] = {}
    for part in PARTS:
        taken: list[int] = []
        for members in order:
            if len(taken) >= len(train) // part:
                break
            taken += members
        found[len(taken)] = tuple(train[at] for at in sorted(taken))
    return found


# ---------------------------------------------------------------- measuring


def measure(fitting: Fitting) -> list[Point]:
    """The points of a curve, smallest first: from the store what was measured before, else fitted, and kept at once.

    A fit that the rung refuses (a class is missing, too few examples) is left out, with a note. Errors: DataError where
    fewer than two sizes can be fitted; those of the rung's models.
    """
    points: list[Point] = []
    wanted = _wanted(fitting)
    for at, (chain, examples) in enumerate(wanted):
        try:
            points.append(_point(fitting, chain, examples, f"fit {at + 1} of {len(wanted)}"))
        except DataError as error:
            fitting.listen(
                Event("note", text=f"{fitting.candidate}: no fit on {len(examples)} examples ({error.what})")
            )
    if len({point.size for point in points}) < 2:
        raise DataError(
            f"{fitting.candidate} could be fitted on fewer than two sizes",
            where="the forecast",
            fix="label more examples",
        )
    return _without_copies(points)


def seconds_left(fitting: Fitting) -> float:
    """An estimate of what measuring will still take, from what the fit on all examples took."""
    left = 0.0
    for chain, examples in _wanted(fitting):
        if fitting.whole is not None and chain == 0 and len(examples) == len(fitting.train):
            continue
        if len(examples) < getattr(getattr(fitting.rung, "recipe", None), "step_examples", 0):
            continue  # too few for a single step: it is refused
        if fitting.store.measurement(_key(fitting, chain, examples)) is None:
            left += fitting.whole_seconds * _work(fitting, len(examples)) / _work(fitting, len(fitting.train))
    return left


def _work(fitting: Fitting, examples: int) -> int:
    """What a fit takes, in some unit: the steps of a fine-tune, which few examples have as many of; else examples."""
    recipe, epochs = getattr(fitting.rung, "recipe", None), fitting.task.training.epochs
    if recipe is None:
        return examples
    told = replace(recipe, epochs=epochs) if isinstance(epochs, int) else recipe.long_enough(examples)
    return int(told.steps(examples))


def _wanted(fitting: Fitting) -> list[tuple[int, tuple[Example, ...]]]:
    chains = [parts(fitting.train, fitting.task.seed + chain) for chain in range(CHAINS)]
    found = [(chain, examples) for chain, sizes in enumerate(chains) for examples in sizes.values()]
    return sorted(found, key=lambda each: (len(each[1]), each[0]))


# fields of a spec that no fit depends on
_NO_MATTER = ("name", "target", "constraints", "rungs", "models", "consistency", "guard")


def _key(fitting: Fitting, chain: int, examples: Sequence[Example]) -> str:
    task, rung = asdict(fitting.task), fitting.rung
    return digest(
        ("forecast", VERSION, chain),
        (rung.name, rung.version, asdict(rung) if is_dataclass(rung) and not isinstance(rung, type) else None),
        [(role, model.fingerprint) for role, model in fitting.models.items()],
        {name: value for name, value in task.items() if name not in _NO_MATTER},
        (fitting.task.target.metric, fitting.task.target.label, fitting.scorer.fingerprint),
        [[each.input, each.references, each.weight] for each in examples],
        [[each.input, each.references, each.weight] for each in fitting.dev],
    )


def _point(fitting: Fitting, chain: int, examples: tuple[Example, ...], step: str) -> Point:
    key = _key(fitting, chain, examples)
    known = fitting.store.measurement(key)
    if known is None:
        known = _fitted(fitting, key, chain, examples, step)
        fitting.store.keep_measurement(key, known)
    rows = tuple(
        Row(example, Prediction(output, error=None if output is not None else reason), Score(value, reason))
        for example, output, value, reason in zip(
            fitting.dev, known["outputs"], known["scores"], known["reasons"], strict=True
        )
    )
    return Point(known["size"], known["chain"], rows, known["seconds"], known["nll"])


def _fitted(fitting: Fitting, key: str, chain: int, examples: tuple[Example, ...], step: str) -> dict[str, Any]:
    """Fit and measure one point; a rung's checkpoints lie in a folder of its own until the point is kept."""
    name, text = fitting.candidate, f"{step} of the forecast on {len(examples)} examples"

    def listen(event: Event) -> None:
        if event.kind == "working":
            event = replace(event, candidate=name, text=f"{text}, {event.text}")
        fitting.listen(event)

    listen(Event("working", name, "fitting"))
    workdir = fitting.store.folder / "work" / key
    workdir.mkdir(parents=True, exist_ok=True)
    started = fitting.clock()
    predictor, seconds = fitting.whole, fitting.whole_seconds
    if predictor is None or chain or len(examples) < len(fitting.train):
        seed = (fitting.task.seed + chain) % 2**32
        context = FitContext(fitting.models, seed, workdir, name, listen, fitting.fitted)
        predictor = fitting.rung.fit(fitting.task, examples, fitting.dev, context)
        seconds = fitting.clock() - started
    described = predictor.describe()
    listen(Event("working", name, "answering dev"))
    predictions = predictor.predict([example.input for example in fitting.dev])
    scores = fitting.scorer.score(fitting.dev, predictions)
    shutil.rmtree(workdir, ignore_errors=True)
    return {
        "size": len(examples),
        "chain": chain,
        "outputs": [prediction.output for prediction in predictions],
        "scores": [score.value for score in scores],
        "reasons": [score.reason for score in scores],
        "seconds": seconds,
        "nll": _dev_loss(described),
    }


def _dev_loss(described: Mapping[str, Any]) -> float | None:
    """The loss on dev of the checkpoint that was kept, in nats a token, where fitting tells its checks."""
    best = [check for check in described.get("dev checks", ()) if check["step"] == described.get("best step")]
    value = best[0].get("dev_nll") if best else None
    return float(value) if value is not None and math.isfinite(value) else None


def _without_copies(points: Sequence[Point]) -> list[Point]:
    """Without fits that are no new observation: of all examples, with the very answers and loss of another."""
    kept: dict[tuple[Any, ...], Point] = {}
    whole = max(point.size for point in points)
    for point in points:
        answers = tuple(row.prediction.output for row in point.rows)
        key = (point.size, answers, point.nll) if point.size == whole else (point.size, point.chain)
        kept.setdefault(key, point)
    return list(kept.values())


# ---------------------------------------------------------------- the forecast


def forecast(fitting: Fitting) -> Forecast:
    """Measure the points of a rung's curve and fit the law to them. Errors: those of `measure`."""
    found = forecast_of(measure(fitting), fitting.task, fitting.candidate, len(fitting.train))
    return replace(found, own=own_score(fitting))


def own_score(fitting: Fitting) -> Estimate | None:
    """How the fit on all of train scores on at most `OWN` of these examples; None where it is not at hand.

    An interval at 95 % on the score of all of them. Failed answers count as wrong.
    """
    if fitting.whole is None:
        return None
    key = digest("own", _key(fitting, 0, fitting.train))
    scores = fitting.store.measurement(key)
    if scores is None:
        rng = np.random.default_rng([fitting.task.seed, 17])
        chosen = rng.choice(len(fitting.train), min(OWN, len(fitting.train)), replace=False)
        some = [fitting.train[int(at)] for at in sorted(chosen)]
        fitting.listen(Event("working", fitting.candidate, "answering its own training examples"))
        found = fitting.scorer.score(some, fitting.whole.predict([example.input for example in some]))
        scores = {"scores": [score.value or 0.0 for score in found]}
        fitting.store.keep_measurement(key, scores)
    values = np.array(scores["scores"])
    if np.isin(values, (0.0, 1.0)).all():
        low, high = clopper_pearson(int(values.sum()), len(values))
        return Estimate(float(values.mean()), low, high, len(values), "Clopper-Pearson")
    lows, highs = betting_sequence(values, 0.05)
    return Estimate(float(values.mean()), float(lows[-1]), float(highs[-1]), len(values), "betting")


def forecast_of(points: Sequence[Point], task: TaskSpec, candidate: str, examples: int) -> Forecast:
    """The forecast from points that were measured: pure, and the same for the same points."""
    found = metric(task.target, task.label_names)
    errors, covariance, units = losses([point.rows for point in points], found, task.label_names)
    sizes = np.array([point.size for point in points], dtype=np.float64)
    chains = np.array([point.chain for point in points], dtype=np.int64)
    begun = any(_has_begun(point.rows, task) for point in points if point.size == sizes.max())
    curve = learning_curve(Fits(sizes, errors, covariance, chains, units), begun=begun)
    return Forecast(
        candidate,
        tuple(points),
        tuple(1.0 - errors),
        curve,
        _loss_curve(points, sizes, chains, units),
        examples,
        len(points[0].rows),
        begun,
    )


def _has_begun(rows: Sequence[Row], task: TaskSpec) -> bool:
    """Whether answers know more than a constant one: of labels, by their mean recall, which is 1 / K for any constant.

    Two standard errors above it; answers that are texts or records have begun where one of them has any score.
    """
    if task.kind != "classification":
        return any(row.score.value for row in rows)
    units = {row.example.group or row.example.id: row for row in reversed(rows)}  # copies are one observation
    right: dict[str, list[bool]] = defaultdict(list)
    for row in units.values():
        right[row.example.reference].append(row.prediction.output in row.example.references)
    recall = np.array([np.mean(each) for each in right.values()])
    counts = np.array([len(each) for each in right.values()])
    smooth = (recall * counts + 0.5) / (counts + 1.0)  # all right or all wrong is no proof
    error = math.sqrt(float((smooth * (1.0 - smooth) / counts).sum())) / len(recall)
    if len(recall) < 2:  # a constant may be right about all of them
        return bool(recall.any())
    return bool(recall.mean() - 1.0 / len(recall) > 2.0 * error)


# A mean loss tells nothing about its spread over examples: that of single losses is taken to be as large as their mean
# (an exponential distribution), and two fits' losses to be alike to nine tenths.
_LOSS_ALIKE = 0.9


def _loss_curve(points: Sequence[Point], sizes: Any, chains: Any, units: int) -> LearningCurve | None:
    values = np.array([np.nan if point.nll is None else point.nll for point in points])
    if not np.isfinite(values).all() or not (values > 0).all():
        return None
    alike = np.full((len(values), len(values)), _LOSS_ALIKE)
    np.fill_diagonal(alike, 1.0)
    return learning_curve(Fits(sizes, values, alike * np.outer(values, values) / units, chains, units), ceiling=None)
