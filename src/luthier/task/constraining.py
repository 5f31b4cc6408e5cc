"""Constraining: the section of luthier.toml that says what may not be done: `[constraints]`."""

from __future__ import annotations

import re
from itertools import pairwise

from pydantic import Field, field_validator, model_validator

from luthier.task.licences import canonical, near
from luthier.task.section import Section, problem

LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")


class ConstraintsSection(Section):
    """What may not be done, whatever it scores."""

    local_only: bool = Field(default=False, description="No example may leave this machine.")
    allow_unknown_licence: bool = Field(
        default=False,
        description=(
            "Fine-tune a student from a folder that names no licence (in README.md, config.json or a LICENSE file). "
            "The report says that this was allowed."
        ),
    )
    licences: list[str] = Field(
        default=[],
        description=(
            "The licences that the model behind a candidate, and all that it was made from, may have, by their SPDX "
            "names such as `apache-2.0`, by the name of a maker's own terms such as `gemma`, or as `LicenseRef-NAME`; "
            "case does not matter. Left out: any. A model whose licence nobody knows is blocked, unless "
            "`allow_unknown_licence` is set; one behind an endpoint has terms, not a licence, and is not judged."
        ),
        json_schema_extra={"values": "list of text"},
    )
    licence_of: dict[str, str] = Field(
        default={},
        description=(
            "The licence of a model, or of a base of one, whose files do not say it, by its name: "
            '`{"maker/base" = "apache-2.0"}`. The verdict says who said so.'
        ),
        json_schema_extra={"values": "table of text"},
    )
    usd_per_1k_requests: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The most that 1,000 requests may cost, hosts included. Needs `[economics]`.",
    )
    usd_per_month: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="The most that a month may cost. Needs `[economics]`."
    )
    usd_to_start: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="The most that starting may cost. Needs `[economics]`."
    )
    latency_p50_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description=(
            "How many milliseconds half of all requests may take at the most, from the moment at which they are sent. "
            "What meets the target is probed with requests that arrive by a clock, whether or not the last one was "
            "answered."
        ),
    )
    latency_p95_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="The same for 95 of 100 requests."
    )
    latency_p99_ms: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="The same for 99 of 100 requests."
    )
    requests_per_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description=(
            "How many requests a second the latency has to hold at. Left out: those of `[economics]` at the peak, "
            "divided by the machines that are priced."
        ),
    )
    concurrency: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="How many requests are sent at the same moment, as by a page that asks several things at once.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ConstraintsSection:
        given = [(name, most) for name in LATENCIES if (most := getattr(self, name)) is not None]
        for (name, most), (other, less) in pairwise(given):
            if most > less:
                raise problem(
                    f"{name} = {most:g} never counts beside {other} = {less:g}, which is stricter about more requests",
                    f"lower {name}, or raise {other}",
                )
        return self

    @field_validator("licences")
    @classmethod
    def _licences(cls, value: list[str]) -> list[str]:
        for name in value:
            check_licence(name)
        return value

    @field_validator("licence_of")
    @classmethod
    def _licence_of(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            check_licence(name)
        return value


def check_licence(name: str) -> None:
    """A misspelt name on a list of licences would block every model there is."""
    if canonical(name) is None:
        meant = near(name)
        raise problem(
            f"{name!r} is no name of a licence",
            (f"did you mean {' or '.join(meant)}? " if meant else "")
            + f"use an SPDX name (spdx.org/licenses), or LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', name)} if a model "
            "names its licence so",
        )
