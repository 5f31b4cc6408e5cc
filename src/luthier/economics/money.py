"""Money: a sum of US dollars with what it is for, when it falls due and how it is known. Prices are Decimal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Literal

from luthier.errors import SpecError

Basis = Literal["measured", "price", "stated", "assumed"]
"""How a figure is known: by a race, from a dated price table, from luthier.toml, or by nobody."""
Due = Literal["once", "a request", "a month", "a change"]
Cause = Literal["tokens", "host", "people", "training", "other"]
"""What a sum follows: token prices fall, people's hours do not."""

DIGITS = 100  # Decimal rounds to 28 digits by default: a large sum and a tiny price would lose the tiny one's end
HOURS_A_MONTH = 730
MONTHS_A_YEAR = 12
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Line:
    """One sum: what for, how much, when due, and how it is known; `how` is the sum's formula with its figures."""

    what: str
    usd: Decimal
    due: Due
    basis: Basis
    cause: Cause = "other"
    how: str = ""


def usd(value: Decimal | float | int | str, where: str = "a sum") -> Decimal:
    """The value as an exact Decimal, by its shortest spelling. SpecError where it is negative or no number.

    >>> usd(0.1), usd("1.70"), usd(3)
    (Decimal('0.1'), Decimal('1.70'), Decimal('3'))
    """
    found = value if isinstance(value, Decimal) else Decimal(repr(value) if isinstance(value, float) else str(value))
    if not found.is_finite() or found < 0:
        raise SpecError(f"{value} is no price", where=where, fix="write a number of US dollars, 0 or more")
    return found


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """The sum without any rounding, in whatever order.

    >>> exact_sum([Decimal("1e20"), Decimal("1e-20"), -Decimal("1e20")])
    Decimal('1E-20')
    """
    with localcontext() as context:
        context.prec = DIGITS
        return sum(amounts, Decimal(0))


def total(lines: Iterable[Line], due: Due | None = None, cause: Cause | None = None) -> Decimal:
    """The exact sum of the lines that fall due so, or follow that cause; of all where neither is named."""
    return exact_sum(line.usd for line in lines if due in (None, line.due) and cause in (None, line.cause))
