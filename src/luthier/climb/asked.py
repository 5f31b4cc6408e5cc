"""Asked: what people ask for outside of a climb, each answer kept in the store where a climb finds it again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.climb.ahead import forecast_asked
from luthier.climb.diagnosing import diagnosis_asked
from luthier.climb.waiting import latency_asked
from luthier.climb.workshop import Workshop, terminable
from luthier.errors import Stopped
from luthier.report.pricing import Pricing
from luthier.task import load_task
from luthier.types import Listener, Task, silent


def look_ahead(
    task: Task | str | os.PathLike[str],
    rung: str | None = None,
    *,
    models: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """The forecast of one rung as plain values (`report.forecasts.told`): its score with two and four times the data.

    Without a name: the best candidate of the last run that learns from examples, else the last such rung of the ladder.
    What was measured is kept: interrupted, the same call goes on. Errors: SpecError for a rung that is not on the
    ladder, DataError for too few examples, Stopped, LuthierError.
    """
    with _working_on(task, models, listen, kept="the fits that were measured are kept") as shop:
        return forecast_asked(shop, rung)


def diagnose(
    task: Task | str | os.PathLike[str],
    rung: str | None = None,
    *,
    models: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """Why a rung misses, as plain values (docs/diagnosis.md says what each is).

    Without a name: the first rung of the ladder that asks a prompted model. Only train and dev are looked at. What was
    found is kept in the store, and each reply in the response cache: interrupted, the same call goes on. Errors:
    SpecError for a rung that is not on the ladder or is no prompt, DataError, Stopped, LuthierError.
    """
    with _working_on(task, models, listen, kept="the replies that came are kept") as shop:
        return diagnosis_asked(shop, rung)


def measure_latency(
    task: Task | str | os.PathLike[str],
    *,
    models: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """The latency of what the last run chose (else of its best candidate) as plain values, probed in an open loop.

    At `[constraints] requests_per_s`, or what `[economics]` says of the busiest second. What was measured is kept.
    Errors: SpecError where no run has finished or nothing says how much arrives, Stopped, LuthierError.
    """
    with _working_on(task, models, listen, kept="nothing of the probe is kept") as shop:
        return latency_asked(shop, Pricing.of(shop.task, shop.clock().date()))


@contextmanager
def _working_on(
    task: Task | str | os.PathLike[str], models: Mapping[str, Any] | None, listen: Listener, *, kept: str
) -> Iterator[Workshop]:
    loaded = task if isinstance(task, Task) else load_task(Path(task))
    shop = Workshop(loaded, dict(models or {}), listen)
    try:
        with shop.store.lock(), terminable():
            yield shop
    except KeyboardInterrupt:
        raise Stopped("interrupted", done=kept) from None
    finally:
        shop.close()
