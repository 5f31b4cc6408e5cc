"""What a team says about money: prices, options, volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Family = Literal["rules", "prompt", "tune"]


@dataclass(frozen=True, slots=True)
class Price:
    """What luthier.toml says a model or a machine costs, in US dollars; tokens by the million, machines by the hour.

    None: not said, so that a table may know it. `source` and `as_of` (an ISO date) are for whoever reads the report.
    """

    name: str
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    output: Decimal | None = None
    training: Decimal | None = None
    batch: Decimal | None = None
    cache_seconds: float | None = None
    cache_minimum: int | None = None
    usd_per_hour: Decimal | None = None
    tflops: float | None = None
    gb_per_s: float | None = None
    retires: str | None = None
    source: str = ""
    as_of: str | None = None


@dataclass(frozen=True)
class Option:
    """A way to do the task that nobody raced, as whoever wrote the task states it: `[option.NAME]` says what each is.

    `today`: it is how the task is done now. None: not said.
    """

    name: str
    today: bool = False
    model: str | None = None
    prompt_tokens: float = 0.0
    prefix_tokens: float = 0.0
    output_tokens: float = 0.0
    usd_per_request: float | None = None
    accuracy: float | None = None
    accuracy_range: tuple[float, float] | None = None
    usd_once: float | None = None
    usd_per_month: float | None = None
    training_tokens: float | None = None
    training_model: str | None = None
    training_host: str | None = None
    training_method: Literal["lora", "qlora", "full"] = "lora"
    parameters: float | None = None
    labels: int = 0
    host: str | None = None
    seconds_per_request: float | None = None
    local: bool = True
    days: float | None = None


@dataclass(frozen=True)
class Economics:
    """What the task is worth and what people cost: `[economics]` in luthier.toml says what each is.

    `options` and `prices` are what `[option.NAME]` and `[price.NAME]` say. None: not said; the report then names what
    is assumed, or that it is not counted.
    """

    monthly_requests: float
    requests_range: tuple[float, float] | None = None
    growth_per_month: float = 0.0
    horizon_months: int = 12
    discount_per_year: float = 0.0
    price_fall_per_year: float = 0.0
    usd_per_error: float | None = None
    error_by_class: Mapping[str, float] = field(default_factory=dict)
    active_hours: float = 730.0
    peak: float = 3.0
    utilisation: float = 0.6
    replicas: int = 1
    machine_usd_per_hour: float | None = None
    host: str | None = None
    deploy: Literal["this machine", "host"] = "this machine"
    batch_share: float = 0.0
    retry_rate: float = 0.0
    verification_usd: float = 0.0
    usd_per_label: float = 0.0
    usd_per_hour: float | None = None
    engineering_hours: Mapping[Family, float] = field(default_factory=dict)
    upkeep_hours: Mapping[Family, float] = field(default_factory=dict)
    monitoring_usd: float = 0.0
    preparation_share: float | None = None
    trials: int = 1
    months_between_changes: float = 0.0
    change_hours: Mapping[Family, float] = field(default_factory=dict)
    labels_per_change: int = 0
    tasks: int = 1
    tasks_per_tune: int = 1
    embedding_model: str | None = None
    retrieval_usd_per_request: float = 0.0
    index_usd_per_month: float = 0.0
    judge_share: float = 0.0
    judge_model: str | None = None
    judge_tokens: tuple[float, float] | None = None
    labels_per_day: float | None = None
    deployment_days: Mapping[Family, float] = field(default_factory=dict)
    probe_latency: bool = False
    options: tuple[Option, ...] = ()
    prices: tuple[Price, ...] = ()
