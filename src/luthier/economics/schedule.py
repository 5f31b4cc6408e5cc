"""Schedule: how many working days until a way is in production: labels, people, fitting, judging, deployment."""

from __future__ import annotations

from luthier.economics.cost import Step
from luthier.economics.measured import Measured
from luthier.economics.money import SECONDS_A_DAY, Basis
from luthier.types import Economics

HOURS_A_DAY = 8.0  # that somebody works
LABELS_A_DAY = 480.0  # one a minute: assumed
DEPLOYMENT_DAYS = {"elsewhere": 1.0, "here": 3.0}  # behind somebody's endpoint, and on a machine of one's own: assumed


def steps_of(found: Measured, economics: Economics, train_examples: int) -> tuple[Step, ...]:
    """What a raced candidate takes: measured where luthier did it, stated, or assumed."""
    trials = economics.trials if found.family == "tune" else 1
    again = f", {trials} times" if trials > 1 else ""
    fitting = Step(
        "training" if found.family == "tune" else "fitting",
        found.fit_seconds * trials / SECONDS_A_DAY,
        "measured",
        f"{found.fit_seconds:,.1f} s measured{again}",
    )
    judging = found.seconds * found.answers
    evaluation = Step("evaluation", judging / SECONDS_A_DAY, "measured", f"{judging:,.1f} s measured")
    return (
        *_labels(found, economics, train_examples),
        *_people(found, economics),
        fitting,
        evaluation,
        _deployment(found, economics),
    )


def _labels(found: Measured, economics: Economics, examples: int) -> tuple[Step, ...]:
    if not found.learns or not examples:
        return ()
    if not economics.usd_per_label and economics.labels_per_day is None:
        return (Step("labels", 0.0, "measured", f"the {examples:,} examples are there"),)
    rate = economics.labels_per_day or LABELS_A_DAY
    basis: Basis = "assumed" if economics.labels_per_day is None else "stated"
    return (Step("labels", examples / rate, basis, f"{examples:,} examples, {rate:g} a day"),)


def _people(found: Measured, economics: Economics) -> tuple[Step, ...]:
    hours = economics.engineering_hours.get(found.family, 0.0)
    if not hours:
        return ()
    return (Step("engineering", hours / HOURS_A_DAY, "stated", f"{hours:g} h, {HOURS_A_DAY:g} a day"),)


def _deployment(found: Measured, economics: Economics) -> Step:
    stated = economics.deployment_days.get(found.family)
    if stated is not None:
        return Step("deployment", stated, "stated", "as stated")
    where, what = ("elsewhere", "behind an endpoint") if found.remote else ("here", "on a machine of one's own")
    days = DEPLOYMENT_DAYS[where]
    return Step("deployment", days, "assumed", f"{days:g} day{'s' if days != 1 else ''} to deploy {what}")
