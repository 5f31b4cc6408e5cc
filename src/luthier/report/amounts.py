"""Amounts: sums of dollars and times, as people read them."""

from __future__ import annotations

import math

from luthier.economics.ways import DAYS_A_MONTH


def dollars(value: float | None) -> str:
    """A sum with as many digits as it deserves.

    >>> dollars(1234.5), dollars(3.1645), dollars(0.00068), dollars(0), dollars(-12.5), dollars(None), dollars(2.5e9)
    ('$1,234', '$3.16', '$0.00068', '$0', '−$12.50', 'unknown', '$2.5 billion')
    >>> dollars(1.234e12), dollars(6e20)
    ('$1.23 trillion', '$600,000,000 trillion')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    size, sign = abs(value), "\N{MINUS SIGN}" if value < 0 else ""
    if size >= 1e12:
        return f"{sign}${float(f'{size / 1e12:.3g}'):,.15g} trillion"
    if size >= 1e9:
        return f"{sign}${size / 1e9:.3g} billion"
    if size >= 1e6:
        return f"{sign}${size / 1e6:.3g} million"
    if size >= 100:
        return f"{sign}${size:,.0f}"
    if size >= 0.1:
        return f"{sign}${size:.2f}"
    return f"{sign}${size:.2g}" if size >= 1e-4 else f"{sign}${size:.8f}".rstrip("0").rstrip(".") if size else "$0"


def days_in_words(days: float) -> str:
    """Working days, or the hours and minutes of machines.

    >>> days_in_words(5.0), days_in_words(1.0), days_in_words(0.4), days_in_words(0.01), days_in_words(0.0)
    ('5 days', '1 day', '0.4 days', '14 minutes', 'at once')
    """
    if days >= 0.1:
        told = f"{days:.1f}".removesuffix(".0") if days < 20 else f"{days:.0f}"
        return f"{told} day{'s' if told != '1' else ''}"
    minutes = round(days * 24 * 60)
    if minutes >= 60:
        return f"{round(minutes / 60)} hour{'s' if round(minutes / 60) != 1 else ''}"
    return f"{minutes} minute{'s' if minutes != 1 else ''}" if minutes else "at once"


def months_in_words(months: float | None) -> str:
    """
    >>> months_in_words(3.1645), months_in_words(0.0), months_in_words(None), months_in_words(0.04)
    ('3.2 months', 'at once', 'never', '1 day')
    """
    if months is None:
        return "never"
    days = round(months * DAYS_A_MONTH)
    if days == 0:
        return "at once"
    if months < 0.95:
        return f"{days} day{'s' if days != 1 else ''}"
    return f"{months:.1f} months"
