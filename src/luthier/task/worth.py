"""Worth: the sections of luthier.toml about money: `[economics]` and `[option.NAME]`; `[price.NAME]` is in `priced`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from luthier.task.priced import PriceSection, money
from luthier.task.section import Section, Written, problem
from luthier.types import Economics, Family, Option

FAMILIES: tuple[Family, ...] = ("rules", "prompt", "tune")
MOST_MONTHS = 120
MOST_REQUESTS = 1e12
MOST = 1e9  # of hours, labels and whatever else is counted: beyond it a figure is a slip of the keyboard
A_DAY = 0.03  # in months
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


class EconomicsSection(Section):
    """What the task is worth, what people cost, and for how long. With it, every candidate is priced.

    Sums are in US dollars. What is left out is not counted, or assumed, and the report says which.
    """

    monthly_requests: float = Field(
        allow_inf_nan=False,
        examples=[300000],
        description="How many requests a month there are. The first month's, where they grow.",
    )
    requests_range: list[float] | None = Field(
        default=None,
        description=(
            "Between which two numbers it lies in eight of ten cases, as `[low, high]`. Left out: a factor of 1.5 "
            "down or up is assumed."
        ),
        json_schema_extra={"values": "list of two numbers"},
    )
    growth_per_month: float = Field(
        default=0.0, gt=-1, le=1, allow_inf_nan=False, description="By which share the requests grow each month."
    )
    horizon_months: int = Field(default=12, description=f"Over how many months the cost counts: 1 to {MOST_MONTHS}.")
    discount_per_year: float = Field(
        default=0.0, ge=0, lt=1, allow_inf_nan=False, description="What a dollar loses in a year: 0.08 for 8 %."
    )
    price_fall_per_year: float = Field(
        default=0.0, ge=0, lt=1, allow_inf_nan=False, description="By which share token prices fall in a year."
    )
    usd_per_error: float | None = money(
        None, "What one wrong answer costs. Left out: wrong answers cost nothing, and accuracy is worth nothing."
    )
    error_by_class: dict[str, float] = Field(
        default={},
        description="The same by the right answer's label, where classes differ: `{urgent = 40, other = 0.5}`.",
        json_schema_extra={"values": "table of numbers"},
    )
    active_hours: float = Field(
        default=730.0,
        ge=0.1,
        le=744,
        allow_inf_nan=False,
        description="In how many hours of a month the requests arrive; a prompt cache and the peak depend on it.",
    )
    peak: float = Field(
        default=3.0,
        ge=1,
        le=1e6,
        allow_inf_nan=False,
        description="The busiest second beside the mean one, in requests.",
    )
    utilisation: float = Field(
        default=0.6, ge=0.01, le=1, allow_inf_nan=False, description="How busy a machine may be at the peak."
    )
    replicas: int = Field(default=1, ge=1, le=1_000_000, description="How many machines run at the least.")
    machine_usd_per_hour: float | None = money(
        None, "What this machine costs an hour. Left out: the price of `aws-m7g-large` is assumed."
    )
    host: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The machine, by its name in the price table (`luthier prices hosts`) or a `[price.NAME]`, on which local "
            "models are priced besides this one. Left out: `modal-l4`."
        ),
    )
    deploy: Literal["this machine", "host"] = Field(
        default="this machine", description="Which of the two counts where ways are compared."
    )
    batch_share: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="The share of requests that may wait for a day."
    )
    retry_rate: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="The share of requests that are sent twice."
    )
    verification_usd: float = money(0.0, "What looking at one answer costs, whichever way gave it.")
    usd_per_label: float = money(0.0, "What one labelled example costs. 0: they are there and paid for.")
    usd_per_hour: float | None = money(None, "What an hour of the team costs. Needed where hours are given.")
    engineering_hours: dict[Family, float] = Field(
        default={},
        description=(
            "Hours until it runs, by kind of way: `rules` (no language model), `prompt`, `tune` (a fine-tune): "
            "`{prompt = 8, tune = 40}`. What is not named is not counted."
        ),
        json_schema_extra={"values": "table of numbers"},
    )
    upkeep_hours: dict[Family, float] = Field(
        default={}, description="The same, each month.", json_schema_extra={"values": "table of numbers"}
    )
    monitoring_usd: float = money(0.0, "What watching it costs a month, whichever way it is.")
    preparation_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description=(
            "Which share of the whole start of a fine-tune goes into preparing data. Left out: 0.3 is assumed (0.2 to "
            "0.4), as teams report. 0: the data are prepared."
        ),
    )
    trials: int = Field(default=1, ge=1, le=10_000, description="How many trainings it takes until one is kept.")
    months_between_changes: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description=(
            "How many months the task stays as it is; then prompts are fitted and models trained again, and what "
            "`change_hours` and `labels_per_change` say is due. 0: it does not change."
        ),
    )
    change_hours: dict[Family, float] = Field(
        default={},
        description="Hours of the team at each change, by kind of way: `{prompt = 2, tune = 6}`.",
        json_schema_extra={"values": "table of numbers"},
    )
    labels_per_change: int = Field(
        default=0,
        ge=0,
        le=int(MOST),
        description="How many new labels each change takes, at usd_per_label, for what learns from them.",
    )
    tasks: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description=(
            "How many tasks as large as this one the same machines serve, and pay for in equal parts: a model that is "
            "prompted serves any task."
        ),
    )
    tasks_per_tune: int = Field(
        default=1,
        ge=1,
        description="The same for a fine-tune: how many tasks one fine-tuned model serves, which was trained for all.",
    )
    embedding_model: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The model by whose token price inputs are embedded in production, for rungs that look something up, as "
            "`luthier prices` or a `[price.NAME]` knows it. Left out: it runs on the machine that answers."
        ),
    )
    retrieval_usd_per_request: float = money(0.0, "What searching documents or examples costs a request.")
    index_usd_per_month: float = money(0.0, "What keeping their index costs a month.")
    judge_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of answers that a model judges in production.",
    )
    judge_model: str | None = Field(
        default=None, min_length=1, description="That model, by whose token prices it costs."
    )
    judge_tokens: list[float] | None = Field(
        default=None,
        description="Tokens it reads and writes for an answer, as `[in, out]`. Left out: 600 and 20 are assumed.",
        json_schema_extra={"values": "list of two numbers"},
    )
    labels_per_day: float | None = Field(
        default=None,
        ge=0.1,
        allow_inf_nan=False,
        description=(
            "How many examples are labelled a day, for the time to production. Left out: the labels are there, or 480 "
            "where usd_per_label says that they are bought."
        ),
    )
    deployment_days: dict[Family, float] = Field(
        default={},
        description=(
            "Working days from a finished way to production, by kind. Left out: 1 is assumed behind an endpoint, 3 on "
            "a machine of one's own."
        ),
        json_schema_extra={"values": "table of numbers"},
    )

    probe_latency: bool = Field(
        default=False,
        description=(
            "Measure how long requests wait, at the peak, for each candidate that meets the target; where a limit of "
            "latency is given, that is done anyway."
        ),
    )

    @field_validator("monthly_requests", mode="before")
    @classmethod
    def _thousands(cls, value: Any) -> Any:
        if isinstance(value, Written) and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", value.text):
            raise problem(
                f"{value.text} is {float(value):g} in TOML, where a point parts decimals",
                f"write {value.text.replace('.', '')} if a point parts thousands, else {float(value):g}",
            )
        return value

    @field_validator("monthly_requests")
    @classmethod
    def _requests(cls, value: float) -> float:
        if value <= 0:
            raise problem(f"{value:g} requests a month cost nothing", "write how many there are, such as 300000")
        if not 1 <= value <= MOST_REQUESTS:
            raise problem(
                f"{value:g} requests a month are {'fewer than one' if value < 1 else 'more than anybody has'}",
                f"write how many there are in a month, from 1 to {MOST_REQUESTS:,.0f}",
            )
        return value

    @field_validator("months_between_changes")
    @classmethod
    def _changes(cls, value: float) -> float:
        if 0 < value < A_DAY:
            raise problem(f"a change every {value:g} months is more than one a day", "write months, or 0 for never")
        return value

    @field_validator("horizon_months")
    @classmethod
    def _horizon(cls, value: int) -> int:
        if not 1 <= value <= MOST_MONTHS:
            raise problem(f"{value} months are no horizon", f"write a whole number from 1 to {MOST_MONTHS}")
        return value

    @field_validator("requests_range")
    @classmethod
    def _range(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (len(value) == 2 and 1 <= value[0] <= value[1] <= MOST_REQUESTS):
            raise problem(f"{value} is no range", "write two numbers of 1 or more, the lower one first")
        return value

    @field_validator("judge_tokens")
    @classmethod
    def _judge_tokens(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (len(value) == 2 and all(0 <= each <= MOST for each in value)):
            raise problem(f"{value} is no pair of counts", "write what it reads and what it writes: [600, 20]")
        return value

    @field_validator("error_by_class", "engineering_hours", "upkeep_hours", "change_hours", "deployment_days")
    @classmethod
    def _amounts(cls, value: dict[str, float]) -> dict[str, float]:
        for name, amount in value.items():
            if not 0 <= amount <= MOST:
                raise problem(f"{name} = {amount:g} is no amount", f"write a number from 0 to {MOST:,.0f}")
        return value

    @model_validator(mode="after")
    def _together(self) -> EconomicsSection:
        if (self.engineering_hours or self.upkeep_hours or self.change_hours) and self.usd_per_hour is None:
            raise problem("hours are given, and not what one costs", "add usd_per_hour = 90")
        if self.judge_share and self.judge_model is None:
            raise problem("answers are judged, and nobody says by whom", 'add judge_model = "gpt-4.1-mini"')
        if self.tasks_per_tune > self.tasks:
            raise problem(
                f"one fine-tune serves {self.tasks_per_tune} tasks, and there are {self.tasks}",
                "raise tasks, or lower tasks_per_tune",
            )
        if self.requests_range and not self.requests_range[0] <= self.monthly_requests <= self.requests_range[1]:
            raise problem(
                f"monthly_requests = {self.monthly_requests:g} lies outside requests_range",
                "widen requests_range, or correct one of the two",
            )
        return self


class OptionSection(Section):
    """A way to do the task that is not raced, with figures of your own: another model, rules, people, today's process.

    It is compared by its cost, and marked as stated everywhere: nobody has measured its accuracy here.
    """

    today: bool = Field(default=False, description="This is how the task is done now. At most one option.")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The model whose token prices count, as `luthier prices MODEL` knows it, or a `[price.NAME]`.",
    )
    prompt_tokens: float = Field(
        default=0.0, ge=0, le=1e9, allow_inf_nan=False, description="Tokens it reads a request."
    )
    prefix_tokens: float = Field(
        default=0.0, ge=0, le=1e9, allow_inf_nan=False, description="How many of them are the same in every request."
    )
    output_tokens: float = Field(
        default=0.0, ge=0, le=1e9, allow_inf_nan=False, description="Tokens it writes a request."
    )
    usd_per_request: float | None = money(None, "What a request costs besides tokens: a person's minutes, say.")
    accuracy: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="The share of right answers, as you know it."
    )
    accuracy_range: list[float] | None = Field(
        default=None,
        description="Between which two shares it lies, at 95 %. Left out: it is taken as exact.",
        json_schema_extra={"values": "list of two shares"},
    )
    usd_once: float | None = money(None, "What it costs before it runs.")
    usd_per_month: float | None = money(None, "What it costs a month, however much is asked.")
    training_tokens: float | None = Field(
        default=None,
        ge=0,
        le=1e15,
        allow_inf_nan=False,
        description="Training tokens of a fine-tune, each counted as often as it is seen.",
    )
    training_model: str | None = Field(
        default=None, min_length=1, description="The model whose price for training counts. Left out: `model`."
    )
    training_host: str | None = Field(
        default=None,
        min_length=1,
        description="The machine it is trained on instead, by its name in the table: the hours are estimated from "
        "`parameters`, `training_method` and `training_tokens`.",
    )
    training_method: Literal["lora", "qlora", "full"] = Field(
        default="lora", description="What is trained there: added weights, those around weights of 4 bits, or all."
    )
    parameters: float | None = Field(
        default=None,
        ge=1e5,
        le=1e13,
        allow_inf_nan=False,
        description="How many weights the model has that is trained there, such as 7e9.",
    )
    labels: int = Field(
        default=0, ge=0, le=int(MOST), description="How many labelled examples it takes, at usd_per_label each."
    )
    host: str | None = Field(default=None, min_length=1, description="A machine it runs on, by its name in the table.")
    seconds_per_request: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="How long that machine works on a request. Left out: it is always enough of a machine.",
    )
    local: bool = Field(default=True, description="`false`: inputs leave this machine.")
    days: float | None = Field(
        default=None, ge=0, le=36_525, allow_inf_nan=False, description="How many days until it is in production."
    )

    @field_validator("accuracy_range")
    @classmethod
    def _range(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (len(value) == 2 and 0 <= value[0] <= value[1] <= 1):
            raise problem(f"{value} is no range of shares", "write two numbers from 0 to 1, the lower one first")
        return value

    @model_validator(mode="after")
    def _together(self) -> OptionSection:
        if self.prefix_tokens > self.prompt_tokens:
            raise problem(
                f"the prefix has {self.prefix_tokens:g} tokens and the whole prompt {self.prompt_tokens:g}",
                "prefix_tokens are part of prompt_tokens",
            )
        if (self.prompt_tokens or self.output_tokens) and self.model is None and self.host is None:
            raise problem("tokens without a price", 'add model = "..." or host = "..."')
        if self.training_tokens and not (self.training_model or self.model or self.training_host):
            raise problem(
                "training tokens without a price", 'add training_model = "...", or training_host and parameters'
            )
        if self.training_host and not (self.training_tokens and self.parameters):
            raise problem("training_host does not say how much is trained", "add training_tokens and parameters")
        if self.training_host and self.training_model:
            raise problem("it is trained in two places", "keep training_model or training_host")
        if self.accuracy_range and self.accuracy is None:
            raise problem("accuracy_range without accuracy", "add accuracy = ...")
        if self.accuracy_range and not self.accuracy_range[0] <= (self.accuracy or 0.0) <= self.accuracy_range[1]:
            raise problem("accuracy lies outside accuracy_range", "correct one of the two")
        priced = (self.model, self.usd_per_request, self.usd_once, self.usd_per_month, self.host)
        if all(each is None for each in priced):
            raise problem(
                "it says nothing about cost", "add usd_per_request, usd_per_month, usd_once, a host, or a model"
            )
        return self

    def noun(self, name: str) -> Option:
        given = self.model_dump()
        span = given.pop("accuracy_range")
        return Option(name=name, accuracy_range=None if span is None else (span[0], span[1]), **given)


def checked_keys(named: dict[str, Any], what: str) -> None:
    for name in named:
        if not _NAME.fullmatch(name):
            raise problem(
                f"{name!r} is no name for {what}",
                "use letters from a to z, digits and . _ / : @ -, in quotes where TOML needs them",
            )


def check_worth(
    economics: EconomicsSection | None,
    options: dict[str, OptionSection],
    prices: dict[str, PriceSection],
    rungs: Sequence[str] = (),
) -> None:
    """What the three sections have to say together; `rungs` may not lend an option their names: two ways would share
    one."""
    for name in options:
        if name.partition("@")[0] in rungs:
            raise problem(f"[option.{name}] has the name of a rung", f'give it another one: [option."my-{name}"]')
    checked_keys(options, "an option")
    checked_keys(prices, "a price")
    today = [name for name, option in options.items() if option.today]
    if len(today) > 1:
        raise problem(f"{' and '.join(today)} are both today's process", "mark one option with today = true")
    if economics is None and (options or prices):
        kind = "option" if options else "price"
        name = next(iter(options or prices))
        raise problem(
            f"[{kind}.{name}] says nothing without [economics]", "add [economics] with monthly_requests = ..."
        )


def economics_noun(
    economics: EconomicsSection | None, options: dict[str, OptionSection], prices: dict[str, PriceSection]
) -> Economics | None:
    """All three sections as one noun; None where the task has no `[economics]`."""
    if economics is None:
        return None
    given = economics.model_dump()
    span, read = given.pop("requests_range"), given.pop("judge_tokens")
    return Economics(
        **given,
        judge_tokens=None if read is None else (read[0], read[1]),
        requests_range=None if span is None else (span[0], span[1]),
        options=tuple(option.noun(name) for name, option in options.items()),
        prices=tuple(price.noun(name) for name, price in prices.items()),
    )
