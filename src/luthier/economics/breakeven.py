"""Break-even: after how long, or how many requests, the dearer start has paid for itself; None where it never does.

One example: $503.15 to start with and $159 saved a month pay back in 3.16 months. With a host at $1.70 an hour
the month costs $1,241 more, the saving is negative, and it never does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.economics.cost import MOST_MONTHS, Numbers, World, running
from luthier.errors import SpecError


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many months it has paid back; None with the reason where it does not."""

    months: float | None
    reason: str


def months_to_pay(once: float, saving_a_month: float) -> BreakEven:
    """Months until a saving has paid for a start: once / saving.

    >>> months_to_pay(500.0, 0.0)
    BreakEven(months=None, reason='nothing is saved')
    """
    if once <= 0:
        return BreakEven(0.0, "it costs no more to start with")
    if saving_a_month <= 0:
        return BreakEven(None, "nothing is saved" if saving_a_month == 0 else "it costs more every month")
    return BreakEven(once / saving_a_month, "")


def months_while_prices_fall(once: float, saving_a_month: float, halving_months: float) -> BreakEven:
    """The same where the saving halves every so many months, in continuous time: it may never add up to the start."""
    first = months_to_pay(once, saving_a_month)
    if not first.months:
        return first
    left = 1.0 - first.months * math.log(2.0) / halving_months
    if left <= 0:
        most = saving_a_month * halving_months / math.log(2.0)
        return BreakEven(None, f"falling prices leave ${most:,.2f} to save in all, and it costs ${once:,.2f} to start")
    return BreakEven(-halving_months * math.log2(left), "")


def whole_months_while_prices_fall(once: float, saving_a_month: float, halving_months: float) -> int | None:
    """The same in whole months: the first month has the whole saving."""
    saved = 0.0
    for month in range(1, 10 * MOST_MONTHS + 1):
        saved += saving_a_month * 2.0 ** (-(month - 1) / halving_months)
        if saved >= once:
            return month
    return None


def lognormal_payback(once: tuple[float, float], saving: tuple[float, float]) -> tuple[float, float]:
    """(mu, sigma) of once / saving where both are lognormal with these (mu, sigma), and independent: it is one too."""
    return once[0] - saving[0], math.hypot(once[1], saving[1])


def price_difference_to_pay(once: float, tokens: float) -> float:
    """By how much a million tokens must be cheaper so that this many pay for the start.

    >>> price_difference_to_pay(500.0, 5e6)
    100.0
    """
    if tokens <= 0:
        raise SpecError(f"{tokens:g} tokens pay for nothing", where="break-even", fix="give a number above 0")
    return once / tokens * 1e6


def requests_to_pay(
    once: float,
    usd_a: float,
    usd_b: float,
    *,
    accuracy_a: float = 1.0,
    accuracy_b: float = 1.0,
    usd_per_error: float = 0.0,
) -> float | None:
    """N* = C / [(c_A + (1 - a_A) e) - (c_B + (1 - a_B) e)]: requests until B has paid for itself; None: never."""
    a = usd_a + (1.0 - accuracy_a) * usd_per_error
    b = usd_b + (1.0 - accuracy_b) * usd_per_error
    return once / (a - b) if a > b else (0.0 if once <= 0 else None)


def payback_months(more_to_start: NDArray[np.float64], saved: NDArray[np.float64]) -> NDArray[np.float64]:
    """When the running sum of what is saved each month first reaches what it costs more to start; inf: not within it.

    `more_to_start` has shape (draws,), `saved` (months, draws). Within a month the saving comes evenly, so that a
    constant saving gives exactly start / saving. Undiscounted, as a payback time is.
    """
    sums = np.cumsum(saved, axis=0)
    reached = sums >= more_to_start
    any_reached = reached.any(axis=0)
    at = np.where(any_reached, reached.argmax(axis=0), 0)
    columns = np.arange(saved.shape[1])
    gained = saved[at, columns]
    before = sums[at, columns] - gained
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(gained > 0, (more_to_start - before) / gained, 1.0)
    months = at + np.clip(inside, 0.0, 1.0)
    months = np.where(any_reached, months, np.inf)
    return np.where(more_to_start <= 0, 0.0, months)


def break_even(
    new: Numbers, old: Numbers, world: World, *, errors: bool = False, until: float | None = None
) -> BreakEven:
    """When `new` has paid back what it costs more to start than `old`; `until`: a month after which it is gone.

    Falling prices, growth, replicas in steps and retraining are in it; `errors`: what wrong answers cost too.
    """
    more = np.atleast_1d(np.asarray(new.once, dtype=float) - np.asarray(old.once, dtype=float))
    old_runs, new_runs = (running(way, world, errors=errors, months=MOST_MONTHS) for way in (old, new))
    saved = (old_runs - new_runs)[:, None]
    months = float(payback_months(more, saved)[0])
    first, what = float(saved[0, 0]), ", wrong answers included" if errors else ""
    if months == 0.0:
        if first >= 0:
            return BreakEven(0.0, "it costs no more, neither to start with nor by the month")
        return BreakEven(0.0, f"it costs less to start with, but ${-first:,.2f} more a month{what}")
    if math.isinf(months):
        if first <= 0:
            lost = f"it costs ${-first:,.2f} more a month{what}" if first < 0 else "nothing is saved by the month"
            return BreakEven(None, lost)
        return BreakEven(None, f"not within {MOST_MONTHS} months: ${first:,.2f} are saved in the first month")
    if until is not None and until > 0 and months > until:
        return BreakEven(None, f"its base model is shut down in month {until:.1f}, before it has paid back")
    return BreakEven(months, "")
