"""The forgetting guard: what a fine-tune lost elsewhere, before and after, each suite against its margin.

One example: 100 paragraphs cost the base model 3.31 nats a token and the fine-tune 3.33. The mean loss of 0.02 is with
95 % certainty below 0.024, and the margin is 0.05: "general text" passed. A fine-tune passes where each suite does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from luthier import stats
from luthier.train.general import General, dev_part, general, halved
from luthier.train.suites import (
    REPLY_TOKENS,
    STOPS,
    Better,
    Pairs,
    Reading,
    Replies,
    Source,
    Texts,
    divergence,
    first_word_divergence,
)
from luthier.types import Estimate, GuardRules, Message, digest

VERSION = 1  # changes with how readings are judged
DIVERGENCE = "KL(base || tuned)"
TASK_DIVERGENCE = "KL on the task's own prompts"
DIVERGENCE_PROMPTS = 24
FEWEST_UNITS = 16

Status = Literal["passed", "failed", "not shown", "refused", "reported"]
Answer = Literal["passed", "failed", "not shown", "not measured"]
Working = Callable[[str, int, int], None]


@runtime_checkable
class Tuned(Protocol):
    """A predictor that answers with changed weights: the model as it was, and as it is.

    Both have `module` (a causal model of transformers), `tokenizer`, `chat`, `fingerprint` and `complete`. It may also
    have `prompts(inputs)`, the chats that it asks about inputs of its task.
    """

    @property
    def base(self) -> Any: ...
    @property
    def model(self) -> Any: ...


class Kept(Protocol):
    """Where readings are kept, so that each model is asked once, and again only where a question changed."""

    def measurement(self, key: str) -> dict[str, Any] | None: ...
    def keep_measurement(self, key: str, value: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class SuiteResult:
    """One suite: what both models scored, the difference (tuned minus base) and whether it is within the margin.

    "passed": the loss is shown to be below the margin, one-sided at the guard's alpha. "failed": it is shown to be
    above it (Holm over the suites). "not shown": neither. "refused": this base model has nothing to lose that the suite
    could see. "reported": measured, and not judged. The interval is the one-sided bound at each of its ends.
    """

    suite: str
    unit: str
    status: Status
    reason: str
    margin: float | None = None
    base: float | None = None
    tuned: float | None = None
    difference: Estimate | None = None
    units: int = 0
    better: Better = "lower"

    @property
    def beyond(self) -> bool:
        """Whether what was seen, its interval left aside, is a loss above the margin."""
        if self.status in ("refused", "reported"):
            return False
        if self.difference is None or self.margin is None:
            return True
        return (self.difference.mean if self.better == "lower" else -self.difference.mean) > self.margin


@dataclass(frozen=True)
class GuardResult:
    """All suites of one fine-tune. It passed where every suite that could be judged did, and one could."""

    answer: Answer
    suites: tuple[SuiteResult, ...]
    required: bool = True
    alpha: float = 0.05
    seconds: float = 0.0
    fingerprint: str = ""

    def describe(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Guard:
    """What is asked before and after: the general texts and prompts, and every source of suites."""

    rules: GuardRules
    general: General
    sources: tuple[Source, ...]

    @classmethod
    def of(cls, rules: GuardRules, *others: Source) -> Guard:
        """The certificate's guard: general text, free answers, the user's probe, then `others`. Errors: DataError."""
        texts = general("certificate", documents=rules.documents, prompts=rules.prompts, text=rules.text)
        sources: list[Source] = [Texts(texts, rules), Replies(texts, rules)]
        if rules.probe is not None:
            sources.append(Pairs(rules.probe, rules))
        return cls(rules, texts, (*sources, *others))

    @classmethod
    def of_dev(cls, rules: GuardRules) -> Guard:
        """A smaller guard on other texts and prompts, for choices: what it saw is not in the certificate."""
        half, texts = halved(rules), dev_part(rules)
        return cls(half, texts, (Texts(texts, half), Replies(texts, half)))

    @property
    def fingerprint(self) -> str:
        judged = (self.rules.alpha, self.rules.kl_ceiling, self.rules.required, DIVERGENCE_PROMPTS, REPLY_TOKENS)
        return digest(VERSION, judged, [source.fingerprint for source in self.sources])


class Memory:
    """Keeps readings for as long as it lives."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def measurement(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def keep_measurement(self, key: str, value: Mapping[str, Any]) -> None:
        self._known[key] = dict(value)


def certify(
    guard: Guard,
    tuned: Tuned,
    *,
    task_prompts: Sequence[tuple[Message, ...]] = (),
    kept: Kept | None = None,
    working: Working = lambda _text, _done, _total: None,
) -> GuardResult:
    """Ask both models the same and judge the differences; `task_prompts` are only looked at, not judged.

    The chance that a fine-tune passes that is worse by a margin in any suite is at most the guard's alpha: all suites
    have to pass, so that none has to share it (intersection-union test).
    """
    began, store = time.perf_counter(), kept or Memory()
    judged: list[_Judged] = []
    answers: Reading | None = None
    for source in guard.sources:
        before = _read(source, tuned.base, store, _named(working, f"{source.name}, before"))
        after = _read(source, tuned.model, store, _named(working, f"{source.name}, after"))
        judged += [_compare(one, other, guard.rules.alpha) for one, other in zip(before, after, strict=True)]
        answers = next((reading for reading in before if reading.suite == STOPS), answers)
    if answers is not None:
        working("how far the answers moved", 0, 1)
        judged.append(_divergence(guard, tuned, answers))
    results = list(_holm(judged, guard.rules.alpha))
    if task_prompts:
        results.append(_on_task(tuned, task_prompts, guard.rules.alpha))
    return GuardResult(
        _answer(results),
        tuple(results),
        required=guard.rules.required,
        alpha=guard.rules.alpha,
        seconds=round(time.perf_counter() - began, 1),
        fingerprint=guard.fingerprint,
    )


def _named(working: Working, what: str) -> Callable[[int, int], None]:
    return lambda done, total: working(what, done, total)


def _read(source: Source, model: Any, kept: Kept, working: Callable[[int, int], None]) -> list[Reading]:
    key = digest("guard reading", model.fingerprint, source.fingerprint)
    known = kept.measurement(key)
    if known is None:
        known = {"readings": [reading.plain() for reading in source.read(model, working)]}
        if all(math.isfinite(value) for reading in known["readings"] for value in reading["values"]):
            kept.keep_measurement(key, known)
    return [Reading.of(reading) for reading in known["readings"]]


# ---------------------------------------------------------------- judging


@dataclass(frozen=True)
class _Judged:
    """A result, and how improbable the data are were the loss the margin: None where nothing is judged."""

    result: SuiteResult
    p_within: float | None = None
    p_beyond: float | None = None


def compare(before: Reading, after: Reading, alpha: float) -> SuiteResult:
    """One suite judged by itself."""
    (result,) = _holm([_compare(before, after, alpha)], alpha)
    return result


def _compare(before: Reading, after: Reading, alpha: float) -> _Judged:
    count = len(before.values)
    result = SuiteResult(
        before.suite, before.unit, "refused", "", margin=before.margin, units=count, better=before.better
    )
    places = count if before.clusters is None else len(set(before.clusters))
    if places < FEWEST_UNITS:
        return _Judged(replace(result, reason=f"it would take {FEWEST_UNITS} texts or items, and there are {places}"))
    result = replace(result, base=sum(before.values) / count)
    if before.floor is not None:
        low = stats.noninferiority(before.values, 1.0, alpha=alpha, clusters=before.clusters).low
        if low <= before.floor:
            reason = (
                f"the base model's {result.base:.3f} is not clear of {before.floor:.3f}: it has nothing to lose here"
            )
            return _Judged(replace(result, reason=reason))
    if not all(map(math.isfinite, after.values)):
        return _Judged(replace(result, reason="the fine-tune's probabilities are no numbers"), 1.0, 0.0)
    sign = 1.0 if before.better == "lower" else -1.0
    losses = [sign * (b - a) for a, b in zip(before.values, after.values, strict=True)]
    binary = before.better == "higher" and {*before.values, *after.values} <= {0.0, 1.0}
    found = stats.noninferiority(losses, before.margin, alpha=alpha, binary=binary, clusters=before.clusters)
    low, high = sorted((sign * found.low, sign * found.high))
    difference = Estimate(sign * found.mean + 0.0, low, high, found.n, found.method)  # + 0.0: no minus before a zero
    result = replace(result, tuned=sum(after.values) / count, difference=difference)
    return _Judged(result, found.p_within, found.p_beyond)


def _divergence(guard: Guard, tuned: Tuned, answers: Reading) -> _Judged:
    """Of a model from itself it is 0, and it is never negative: what is judged is its mean over prompts."""
    ceiling, alpha = guard.rules.kl_ceiling, guard.rules.alpha
    asked = guard.general.prompts[:: max(1, len(guard.general.prompts) // DIVERGENCE_PROMPTS)][:DIVERGENCE_PROMPTS]
    of_asked = [guard.general.prompts.index(prompt) for prompt in asked]
    some = replace(
        answers,
        values=tuple(answers.values[at] for at in of_asked),
        texts=tuple(answers.texts[at] for at in of_asked),
    )
    values = divergence(tuned.base, tuned.model, asked, some)
    result = SuiteResult(DIVERGENCE, "nats a token", "refused", "", margin=ceiling, units=len(values))
    if len(values) < FEWEST_UNITS // 2:
        return _Judged(replace(result, reason=f"the base model answered {len(values)} general prompts"))
    if not all(map(math.isfinite, values)):
        return _Judged(replace(result, reason="the fine-tune's probabilities are no numbers"), 1.0, 0.0)
    found = stats.noninferiority(values, ceiling, alpha=alpha)
    difference = Estimate(found.mean, max(0.0, found.low), found.high, found.n, found.method)
    return _Judged(replace(result, base=0.0, tuned=found.mean, difference=difference), found.p_within, found.p_beyond)


def _on_task(tuned: Tuned, prompts: Sequence[tuple[Message, ...]], alpha: float) -> SuiteResult:
    values = first_word_divergence(tuned.base, tuned.model, prompts)
    reason = "on the task's own prompts this is what learning looks like: it is not judged"
    result = SuiteResult(TASK_DIVERGENCE, "nats, first token", "reported", reason, units=len(values))
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return result
    found = stats.noninferiority(values, 1.0, alpha=alpha)
    difference = Estimate(found.mean, max(0.0, found.low), found.high, found.n, found.method)
    return replace(result, base=0.0, tuned=found.mean, difference=difference)


def _holm(judged: Sequence[_Judged], alpha: float) -> list[SuiteResult]:
    """Passing needs no correction, since all have to; calling any single one failed does (Holm)."""
    known = [one.p_beyond for one in judged if one.p_beyond is not None]
    beyond = iter(stats.holm(known).tolist() if known else [])
    results = []
    for one in judged:
        if one.p_within is None:
            results.append(one.result)
            continue
        adjusted = next(beyond)
        status: Status = "passed" if one.p_within <= alpha else "failed" if adjusted <= alpha else "not shown"
        results.append(replace(one.result, status=status, reason=one.result.reason or _why(status, one.result)))
    return results


def _why(status: Status, result: SuiteResult) -> str:
    assert result.margin is not None
    lost = f"{result.margin:g} {result.unit}" if result.unit.startswith("nats") else f"{100 * result.margin:g} points"
    return {
        "passed": f"it lost less than {lost}",
        "failed": f"it lost more than {lost}",
        "not shown": f"that it lost less than {lost} could not be shown on {result.units:,} units",
    }[status]


def _answer(results: Sequence[SuiteResult]) -> Answer:
    found = {result.status for result in results} - {"refused", "reported"}
    if not found:
        return "not measured"
    return "failed" if "failed" in found else "not shown" if "not shown" in found else "passed"
