"""Service: what answering needs besides the model itself: looking up, judging a share of the answers, watching."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from luthier.economics.book import Book
from luthier.economics.measured import RETRIEVES, Measured
from luthier.economics.money import Basis, Line, usd
from luthier.economics.usage import Tokens
from luthier.errors import SpecError
from luthier.task.spelling import suggest
from luthier.types import Economics, Family

CHARACTERS_A_TOKEN = 4.0  # of the input, for an embedder nobody ran: assumed
JUDGE_TOKENS = (600.0, 20.0)  # what a judge reads and writes for an answer: assumed


def check(economics: Economics, book: Book) -> None:
    """SpecError where an embedder, a judge or a machine is named whose price nobody knows: before anything is spent."""
    if economics.host is not None:
        book.host(economics.host)
    if economics.embedding_model is not None:
        book.embedding(economics.embedding_model)
    judge_lines(economics, book)


def check_labels(economics: Economics, labels: Sequence[str]) -> None:
    """SpecError where an error has a price by a label that the task does not have: it would count for nothing."""
    for name in economics.error_by_class:
        if name not in labels:
            raise SpecError(
                f"{name!r} is no label of this task",
                where="[economics] error_by_class",
                fix=f"{suggest(name, labels)}the labels are {', '.join(labels)}"
                if labels
                else "its answers are no labels: write usd_per_error",
            )


def lookup_lines(found: Measured, economics: Economics, book: Book) -> list[Line]:
    """Embedding the input, searching, and keeping the index: for a rung that looks something up.

    Where all of it runs beside a local model, its time is in the seconds that were measured.
    """
    if found.rung not in RETRIEVES:
        return []
    lines = []
    if economics.embedding_model is not None:
        price, _ = book.embedding(economics.embedding_model)
        tokens = found.input_chars / CHARACTERS_A_TOKEN
        how = (
            f"about {tokens:,.0f} tokens ({found.input_chars:,.0f} characters, {CHARACTERS_A_TOKEN:g} a token) at "
            f"${price.normalize():f} a million ({economics.embedding_model})"
        )
        sum_ = price * Decimal(repr(tokens)) / 1_000_000
        lines.append(Line("embedding", sum_, "a request", "assumed", "tokens", how))
    if economics.retrieval_usd_per_request:
        lines.append(Line("retrieval", usd(economics.retrieval_usd_per_request), "a request", "stated"))
    if economics.index_usd_per_month:
        lines.append(Line("index", usd(economics.index_usd_per_month), "a month", "stated"))
    return lines


def uncounted_lookup(found: Measured, economics: Economics) -> bool:
    """Whether a rung looks something up for a model elsewhere, and nobody said what that costs."""
    priced = economics.embedding_model is not None or economics.retrieval_usd_per_request > 0
    return found.remote and found.rung in RETRIEVES and not priced


def judge_lines(economics: Economics, book: Book) -> list[Line]:
    """A judge that looks at a share of the answers."""
    if not economics.judge_share or economics.judge_model is None:
        return []
    prices = book.model(economics.judge_model)
    read, written = economics.judge_tokens or JUDGE_TOKENS
    each = prices.usd(Tokens(fresh=read, output=written))
    how = f"{economics.judge_share:.2%} of the answers, {read:,.0f} tokens in and {written:,.0f} out ({prices.model})"
    basis: Basis = prices.origin.basis if economics.judge_tokens else "assumed"
    sum_ = each * Decimal(repr(economics.judge_share))
    return [Line("judge", sum_, "a request", basis, "tokens", how)]


def monthly_lines(family: Family, economics: Economics) -> list[Line]:
    """Upkeep, watching it, and whoever looks at answers."""
    lines = people("upkeep", economics.upkeep_hours.get(family, 0.0), economics)
    lines = [Line(line.what, line.usd, "a month", line.basis, line.cause, line.how) for line in lines]
    if economics.monitoring_usd:
        lines.append(Line("monitoring", usd(economics.monitoring_usd), "a month", "stated"))
    if economics.verification_usd:
        lines.append(Line("verification", usd(economics.verification_usd), "a request", "stated", "people"))
    return lines


def people(what: str, hours: float, economics: Economics) -> list[Line]:
    """Hours of the team, due once; nothing where nobody said what an hour costs."""
    if not hours or economics.usd_per_hour is None:
        return []
    sum_ = usd(hours) * usd(economics.usd_per_hour)
    return [Line(what, sum_, "once", "stated", "people", f"{hours:g} h at ${economics.usd_per_hour:g}")]
