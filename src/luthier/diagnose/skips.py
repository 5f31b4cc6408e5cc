"""Skips: which later rungs cannot reach the target, by what dev shows under the intervention that resembles each.

One example: two and eight solved examples in the prompt bring the dev score to 0.31 [0.18, 0.46]. The rung `few-shot`
searches for better and more of them, which may add 0.25; 0.71 is below the 0.85 that are wanted, so it is not worth its
fitting.
"""

from __future__ import annotations

from collections.abc import Mapping

from luthier.diagnose.effect import LEVEL
from luthier.diagnose.examination import Examination, Probed
from luthier.types import Task

# metrics that are the mean score of the examples: the others have no dev score by example
MEANS = ("accuracy", "exact_match", "record_exact", "rouge_l", "chrf", "field_f1", "judge")
# what searching may add to the best that was tried: among prompts and examples, or with a prior beside them
SEARCHED = 0.15
# the rung shows up to 32 examples where the probe shows 8: on question typing, the best set of 24 got 37 of 64 right on
# dev where 8 examples got 35 of 96, which is more than the other searches may add
MORE_SHOTS = 0.25
FIXED = 0.05
# Only rungs that a probe resembles. Fine-tunes are never among them: that prompts fail says nothing about training.
RESEMBLED: Mapping[str, tuple[tuple[str, ...], float]] = {
    "calibrated": (("calibrated",), FIXED),
    "instructed": (("instruction-from-data", "labels-by-examples", "labels-by-words", "answers-by-examples"), SEARCHED),
    "few-shot": (("shots-2", "shots-8"), MORE_SHOTS),
    "retrieved-shots": (("shots-nearest",), SEARCHED),
    "rag": (("oracle-context", "retrieved-context"), SEARCHED),
}


def skips(found: Examination, task: Task, *, plain: bool) -> dict[str, str]:
    """The rungs of the task that cannot reach the target, each with the measured reason.

    A rung is skipped where the upper end of the 99 % interval of the dev score, under the best probe that resembles it,
    and the allowance for searching together lie below the target. `plain`: whether the diagnosed prompt is the task's
    own words and nothing else; what holds for another one says nothing about rungs that begin anew. Empty for metrics
    that are no mean, such as macro-F1 and BLEU.
    """
    target = task.spec.target
    if not plain or target.metric not in MEANS:
        return {}
    told = {}
    for rung, (names, allowance) in RESEMBLED.items():
        seen = [probed for name in names if (probed := found.named(name)) is not None]
        if rung not in task.spec.rungs or not seen or not _all_kinds(rung, seen):
            continue
        scores = [found.resampling.score(probed.scores, probed.asked) for probed in seen]
        reach = max(score.high for score in scores) + allowance
        if reach < target.at_least:
            best = max(range(len(seen)), key=lambda at: scores[at].mean)
            told[rung] = (
                f"the diagnosis rules it out: on dev, {seen[best].title}: {scores[best].mean:.2f} "
                f"[{scores[best].low:.2f}, {scores[best].high:.2f}] ({LEVEL:.0%}), and with {allowance:.2f} allowed "
                f"for searching that is below {target.at_least:g} (--all-rungs measures it all the same)"
            )
    return told


def _all_kinds(rung: str, seen: list[Probed]) -> bool:
    """Whether what bounds the rung was asked: for retrieval the right passage itself, not only what a search finds."""
    return rung != "rag" or any(probed.name == "oracle-context" for probed in seen)
