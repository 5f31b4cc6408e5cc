"""The parity gate: does an export still answer as the predictor that was measured?

One example: the predictor says HUM for "Who was Galileo ?", the reference is HUM, and the exported file, asked by
greedy generation in its own runtime, writes "HUM": they agree and nothing is lost. It writes "The": they differ, and
this example has lost 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from luthier.stats import betting_sequence, clopper_pearson, paired_difference
from luthier.types import Estimate, Example, Prediction, Scorer

Result = Literal["PASSED", "FAILED", "INCONCLUSIVE"]
EXACT = "clopper-pearson"
ALPHA = 0.05  # of each one-sided statement
ENOUGH, ENOUGH_GRADED = 64, 160  # what the default margin takes where nothing is lost (59, 116), and a few
IDS_TOLD = 10


@dataclass(frozen=True)
class Bar:
    """What an export has to prove, each at 95 % confidence, from `examples` of the dev split (None: enough).

    `margin`: the most that its mean score may lose an example, gains on others not counted. `agreement`: the least
    share of answers that are the same, where answers are labels (an answer written freely may be worded otherwise).
    """

    examples: int | None = None
    margin: float = 0.05
    agreement: float = 0.9

    def count(self, *, graded: bool) -> int:
        """How many examples to ask: bounds on scores between 0 and 1 need more than those on right and wrong."""
        return self.examples or (ENOUGH_GRADED if graded else ENOUGH)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runtime wrote, or why it wrote nothing; `same_prompt`: it read the tokens that were measured."""

    text: str | None
    error: str | None = None
    same_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate found. `lost` is the mean of what each score fell by (a rise counts as 0): non-inferiority.

    `difference` is export minus predictor, paired; its ends are those of what is lost and of what is gained. Intervals
    have one-sided confidence 95 % at each end. `agreement` is judged where answers are labels. `apart` are ids of dev
    examples.
    """

    result: Result
    reason: str
    n: int
    margin: float
    lost: Estimate | None = None
    difference: Estimate | None = None
    agreement: Estimate | None = None
    predictor_score: float | None = None
    export_score: float | None = None
    other_prompts: int = 0
    left_out: int = 0
    apart: tuple[str, ...] = ()


def broken(reason: str, bar: Bar) -> Parity:
    """An export that its runtime cannot load or ask at all."""
    return Parity("FAILED", reason, 0, bar.margin)


def judge(
    examples: Sequence[Example],
    measured: Sequence[Prediction],
    answers: Sequence[Answer],
    scorer: Scorer,
    bar: Bar,
    *,
    labels: bool,
) -> Parity:
    """Compare an export's answers with the measured predictor's on the same examples, which are independent.

    Examples that the predictor itself cannot answer or that cannot be scored are left out, and counted. An answer that
    the export fails to give scores 0. Shape (n,) each. Not covered: near-copies among the examples (take one of a
    group), and speed. The gate is one planned look: examples may not be added until it passes.

    Source: exact binomial limits (Clopper and Pearson 1934) for scores of 0 or 1, betting (Waudby-Smith and Ramdas
    2020) for scores between.
    """
    texts = [Prediction(answer.text, error=answer.error) for answer in answers]
    before, after = scorer.score(examples, measured), scorer.score(examples, texts)
    known = [at for at, (was, got) in enumerate(zip(measured, before, strict=True)) if _usable(was, got.value)]
    if len(known) < 2:
        return Parity("INCONCLUSIVE", f"only {len(known)} examples could be compared", len(known), bar.margin)
    was = np.array([before[at].value for at in known], dtype=np.float64)
    # an export that gives no answer, where the predictor gives one, has lost all of it
    now = np.array([after[at].value or 0.0 for at in known], dtype=np.float64)
    same = [(answers[at].text or "").strip() == (measured[at].output or "").strip() for at in known]
    same = [equal and answers[at].text is not None for at, equal in zip(known, same, strict=True)]
    lost, gained = _mean(np.maximum(was - now, 0.0)), _mean(np.maximum(now - was, 0.0))
    difference = Estimate(paired_difference(now, was).mean, -lost.high, gained.high, len(known), lost.method)
    agreement = _mean(np.array(same, dtype=np.float64))
    other_prompts = sum(not answer.same_prompt for answer in answers)
    result, reason = _decide(lost, agreement if labels else None, other_prompts, bar, len(known))
    return Parity(
        result,
        reason,
        len(known),
        bar.margin,
        lost,
        difference,
        agreement,
        float(was.mean()),
        float(now.mean()),
        other_prompts,
        len(examples) - len(known),
        tuple(examples[at].id for at, equal in zip(known, same, strict=True) if not equal)[:IDS_TOLD],
    )


def fewest_examples(margin: float) -> int:
    """How many examples without any loss it takes to prove that a right-or-wrong score loses no more than `margin`.

    >>> fewest_examples(0.05), fewest_examples(0.02)
    (59, 149)
    """
    return math.ceil(math.log(ALPHA) / math.log1p(-margin))


def _usable(measured: Prediction, score: float | None) -> bool:
    return measured.output is not None and score is not None


def _mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of independent values in [0, 1], each end at one-sided confidence 95 %."""
    mean, n = float(values.mean()), int(values.size)
    if np.isin(values, (0.0, 1.0)).all():
        low, high = clopper_pearson(round(float(values.sum())), n, confidence=1.0 - 2 * ALPHA)
        return Estimate(mean, low, high, n, EXACT)
    lows, highs = betting_sequence(values, alpha=2 * ALPHA)
    return Estimate(mean, float(lows[-1]), float(highs[-1]), n, "betting")


def _decide(lost: Estimate, agreement: Estimate | None, other_prompts: int, bar: Bar, n: int) -> tuple[Result, str]:
    """The result and its reason. A failure is proven too: what is neither proven is inconclusive."""
    if other_prompts:
        return "FAILED", f"{other_prompts} prompts have other tokens than those that were measured"
    if lost.low > bar.margin:
        return "FAILED", f"its score is provably lower by more than {bar.margin:g}"
    if agreement is not None and agreement.high < bar.agreement:
        return "FAILED", f"provably fewer than {bar.agreement:g} of its answers are those that were measured"
    if lost.high <= bar.margin and (agreement is None or agreement.low >= bar.agreement):
        return "PASSED", "it answers as measured"
    if lost.method == EXACT and n < fewest_examples(bar.margin):
        fewest = fewest_examples(bar.margin)
        return "INCONCLUSIVE", f"{n} examples cannot prove a margin of {bar.margin:g}: that takes at least {fewest}"
    return "INCONCLUSIVE", f"{n} examples prove neither that it answers as measured nor that it does not: take more"
