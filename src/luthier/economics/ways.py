"""Ways: what was raced and what was stated, each as its sums, with where every one of them comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from luthier.economics import service, training
from luthier.economics.book import DEFAULT_HOST, Book, parameters_of
from luthier.economics.change import change_lines
from luthier.economics.cost import Accuracy, Host, Step, Way, World, data_preparation
from luthier.economics.measured import Measured
from luthier.economics.money import MONTHS_A_YEAR, Basis, Line, total, usd
from luthier.economics.prices import HostPrice, ModelPrices
from luthier.economics.schedule import steps_of
from luthier.economics.service import judge_lines, lookup_lines, monthly_lines, people, uncounted_lookup
from luthier.economics.usage import Tokens, as_arriving
from luthier.errors import SpecError
from luthier.types import Economics, Endpoint, Family, Option

PREPARATION = (0.2, 0.3, 0.4)  # of the whole start of a fine-tune, as teams report: economics.md
DO_NOTHING = "do nothing"
LOOKING_UP = "embedding the input and searching, for a model elsewhere (embedding_model, retrieval_usd_per_request)"
DAYS_A_MONTH = 365.25 / MONTHS_A_YEAR


@dataclass(frozen=True)
class Setting:
    """What pricing a way needs to know besides the way. `train_examples`: how many labels fitting used; `classes`: each
    label's share of the inputs, where something was raced."""

    economics: Economics
    book: Book
    world: World
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    train_examples: int = 0
    classes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        economics: Economics,
        today: date,
        endpoints: Mapping[str, Endpoint] | None = None,
        train_examples: int = 0,
    ) -> Setting:
        return cls(economics, Book.of(economics.prices, today), world_of(economics), endpoints or {}, train_examples)


def world_of(economics: Economics) -> World:
    return World(
        requests=economics.monthly_requests,
        months=economics.horizon_months,
        growth=economics.growth_per_month,
        price_fall=economics.price_fall_per_year,
        discount=economics.discount_per_year,
        peak=economics.peak,
        active_hours=economics.active_hours,
    )


def raced_way(found: Measured, setting: Setting) -> Way:
    """What a raced candidate costs. SpecError where it asks a remote model whose prices nobody knows."""
    economics = setting.economics
    prices = _prices(found, setting) if found.remote else None
    machine = setting.book.this_machine(economics.machine_usd_per_hour)
    lines: list[Line] = []
    notes: list[str] = []
    if prices is not None:
        line, note = token_line(found.tokens, prices, setting)
        lines.append(line)
        notes.append(note)
    training_lines = _fitting(found, prices, machine, economics)
    lines += people("engineering", economics.engineering_hours.get(found.family, 0.0), economics)
    lines += _labels(found, setting)
    lines += training_lines
    base = total(lines, "once")
    if found.family == "tune":
        lines += _preparation(base, economics)
    lines += lookup_lines(found, economics, setting.book)
    lines += judge_lines(economics, setting.book)
    lines += monthly_lines(found.family, economics)
    lines += change_lines(found.family, training_lines, economics, learns=found.learns)
    steps = steps_of(found, economics, setting.train_examples)
    return Way(
        name=found.name,
        kind=found.family,
        lines=tuple(lines),
        hosts=() if found.remote else _hosts(found, machine, setting),
        accuracy=found.accuracy,
        error_usd=_error_usd(found, economics),
        usd_per_error=economics.usd_per_error,
        retraining=total(lines, "a change"),
        retrain_every=economics.months_between_changes,
        retires=_retires(prices.retires if prices else None, setting.book.today),
        preparation_base=float(base) if _prepared(found.family, economics) else 0.0,
        notes=tuple(note for note in notes if note),
        remote=found.remote,
        days=sum(step.days for step in steps),
        shared=_shared(found.family, economics),
        steps=steps,
        uncounted=(LOOKING_UP,) if uncounted_lookup(found, economics) else (),
    )


def _shared(family: Family, economics: Economics) -> int:
    """How many tasks its machines serve: a prompt serves any, a fine-tune those that it was trained for."""
    return economics.tasks_per_tune if family == "tune" else economics.tasks


def _prices(found: Measured, setting: Setting) -> ModelPrices:
    name = found.model or ""
    endpoint = setting.endpoints.get(name)
    return setting.book.model(name) if endpoint is None else setting.book.endpoint(endpoint)


def token_line(tokens: Tokens, prices: ModelPrices, setting: Setting) -> tuple[Line, str]:
    """What the tokens of one request cost as requests really arrive, and what a prompt cache has to do with it."""
    economics = setting.economics
    cached = as_arriving(tokens, prices.cache, setting.world.requests_per_s())
    each = prices.usd(cached.tokens)
    factor = Decimal(1) + Decimal(repr(economics.retry_rate))
    how = _tokens_in_words(cached.tokens, prices)
    if economics.retry_rate:
        how += f", {economics.retry_rate:.1%} sent twice"
    if economics.batch_share and prices.batch is not None:
        factor *= 1 - Decimal(repr(economics.batch_share)) * (1 - prices.batch)
        how += f", {economics.batch_share:.0%} at the batch price"
    line = Line("tokens", each * factor, "a request", prices.origin.basis, "tokens", how)
    return line, f"prompt cache: {cached.why}" if tokens.prefix else ""


def _tokens_in_words(tokens: Tokens, prices: ModelPrices) -> str:
    rates = prices.rates_for(tokens.inside)
    parts = [
        (tokens.fresh, "fresh", rates.input),
        (tokens.cached, "cached", rates.cached_input),
        (tokens.cache_write, "written to the cache", rates.cache_write),
        (tokens.output, "written", rates.output),
    ]
    told = [f"{count:,.1f} {what} at ${rate.normalize():f}" for count, what, rate in parts if count]
    return f"{' + '.join(told) or 'no tokens'} a million ({prices.model})"


def _fitting(found: Measured, prices: ModelPrices | None, machine: HostPrice, economics: Economics) -> list[Line]:
    """What fitting and judging it took: hours of this machine, or tokens of the endpoint."""
    hours = Decimal(repr(found.fit_seconds)) / 3600
    basis: Basis = "assumed" if machine.origin.basis == "assumed" else "measured"
    trials = economics.trials if found.family == "tune" else 1
    lines = [
        Line(
            "fitting",
            machine.usd_per_hour * hours * trials,
            "once",
            basis,
            "training",
            f"{found.fit_seconds:,.1f} s measured{_times(trials)}, at ${machine.usd_per_hour} an hour",
        )
    ]
    if prices is not None:
        each = prices.usd(found.tokens)
        how = f"{found.answers:,} answers at ${each:.8f}, as the race asked"
        return [*lines, Line("evaluation", each * found.answers, "once", prices.origin.basis, "training", how)]
    seconds = Decimal(repr(found.seconds)) * found.answers
    how = f"{seconds:,.1f} s measured, at ${machine.usd_per_hour} an hour"
    return [*lines, Line("evaluation", machine.usd_per_hour * seconds / 3600, "once", basis, "training", how)]


def _times(count: int) -> str:
    return f", {count} times" if count > 1 else ""


def _labels(found: Measured, setting: Setting) -> list[Line]:
    """Labels that fitting used; those of the test are needed whichever way is taken."""
    price = setting.economics.usd_per_label
    if not price or not setting.train_examples or not found.learns:
        return []
    how = f"{setting.train_examples:,} examples at ${price:g}"
    return [Line("labels", usd(price) * setting.train_examples, "once", "stated", "people", how)]


def _prepared(family: Family, economics: Economics) -> bool:
    return family == "tune" and economics.preparation_share is None


def _preparation(base: Decimal, economics: Economics) -> list[Line]:
    """A share of the whole: other/(1 - s) - other."""
    assumed = economics.preparation_share is None
    share = PREPARATION[1] if assumed else economics.preparation_share or 0.0
    sum_ = usd(data_preparation(float(base), share))
    if not sum_:
        return []
    how = f"{share:.0%} of the whole start"
    return [Line("data preparation", sum_, "once", "assumed" if assumed else "stated", "people", how)]


# ---------------------------------------------------------------- machines


def _hosts(found: Measured, machine: HostPrice, setting: Setting) -> tuple[Host, ...]:
    """This machine with what was measured on it, and the named one with what is to be expected of it."""
    economics = setting.economics
    here = _host(
        machine, found.seconds, "measured", f"{found.seconds:.4g} s a request, measured in the race", economics
    )
    named = setting.book.host(economics.host or DEFAULT_HOST)
    seconds, how = _seconds_on(named, found)
    there = _host(named, seconds, "assumed", how, economics)
    return (there, here) if economics.deploy == "host" else (here, there)


def _host(price: HostPrice, seconds: float, speed: Basis, how: str, economics: Economics) -> Host:
    if economics.retry_rate and seconds:
        seconds, how = seconds * (1.0 + economics.retry_rate), f"{how}, {economics.retry_rate:.1%} asked twice"
    return Host(
        name=price.name,
        usd_per_hour=price.usd_per_hour,
        seconds=seconds,
        price_basis=price.origin.basis,
        speed_basis=speed,
        how=how,
        least_replicas=economics.replicas,
        utilisation=economics.utilisation,
    )


def _seconds_on(host: HostPrice, found: Measured) -> tuple[float, str]:
    size = parameters_of(found.model)
    if found.family == "rules" or size is None or host.tflops is None:
        why = "no language model" if found.family == "rules" else "its size or the machine's speed is unknown"
        return found.seconds, f"assumed as fast as here ({why})"
    # a cached prefix is not computed again there either
    tokens_in = found.tokens.fresh + found.tokens.cache_write
    seconds = training.seconds_a_request(size, tokens_in, found.tokens.output, host.tflops, host.gb_per_s)
    # nothing is faster than the glue around a model: a tenth of a millisecond
    return max(seconds, 1e-4), (
        f"estimated: {tokens_in:,.0f} tokens in, {found.tokens.output:,.0f} out, {size / 1e6:,.0f} million parameters, "
        f"{training.PREFILL_MFU:.0%} of {host.tflops:g} TFLOPS"
    )


# ---------------------------------------------------------------- errors and shutdowns


def _error_usd(found: Measured, economics: Economics) -> float:
    """What the wrong answers of one request cost in the mean; by class where classes differ."""
    if economics.error_by_class and found.wrong_by_class:
        return sum(
            share * economics.error_by_class.get(name, economics.usd_per_error or 0.0)
            for name, share in found.wrong_by_class.items()
        )
    if found.accuracy is None:
        return 0.0
    return (1.0 - found.accuracy.mean) * (economics.usd_per_error or 0.0)


def mean_error_usd(economics: Economics, classes: Mapping[str, float]) -> float:
    """What a wrong answer costs in the mean, if every label is missed as often as it is asked for."""
    flat = economics.usd_per_error or 0.0
    if not (economics.error_by_class and classes):
        return flat
    return sum(share * economics.error_by_class.get(name, flat) for name, share in classes.items())


def _retires(day: date | None, today: date) -> float:
    """In how many months a model is shut down; 0: nobody has said, or it is gone already."""
    return 0.0 if day is None else max(0.0, (day - today).days / DAYS_A_MONTH)


# ---------------------------------------------------------------- what was only stated


def stated_way(option: Option, setting: Setting) -> Way:
    """What an option costs by its own figures. SpecError where it names a model or a machine nobody knows."""
    economics, book = setting.economics, setting.book
    lines: list[Line] = []
    notes: list[str] = []
    prices = book.model(option.model) if option.model is not None else None
    family: Family = "tune" if option.training_tokens else "prompt" if option.model else "rules"
    if prices is not None:
        tokens = Tokens(option.prompt_tokens - option.prefix_tokens, option.prefix_tokens, 0.0, option.output_tokens)
        line, note = token_line(tokens, prices, setting)
        lines.append(line)
        notes.append(note)
    for what, amount, due in (
        ("price", option.usd_per_request, "a request"),
        ("start", option.usd_once, "once"),
        ("fixed sum", option.usd_per_month, "a month"),
    ):
        if amount:
            lines.append(Line(what, usd(amount), due, "stated", "other"))  # type: ignore[arg-type]
    retraining = _stated_training(option, setting)
    lines += retraining
    if option.labels and economics.usd_per_label:
        how = f"{option.labels:,} examples at ${economics.usd_per_label:g}"
        lines.append(Line("labels", usd(economics.usd_per_label) * option.labels, "once", "stated", "people", how))
    if not option.today:
        lines += people("engineering", economics.engineering_hours.get(family, 0.0), economics)
    base = total(lines, "once")
    if family == "tune" and option.usd_once is None:
        lines += _preparation(base, economics)
    if not option.today:
        lines += [*judge_lines(economics, book), *monthly_lines(family, economics)]
    again = change_lines(family, retraining, economics, learns=bool(option.labels), people_too=not option.today)
    lines += again
    shutdown = _stated_shutdown(option, prices, book)
    error = mean_error_usd(economics, setting.classes)
    accuracy = None
    if option.accuracy is not None:
        low, high = option.accuracy_range or (option.accuracy, option.accuracy)
        accuracy = Accuracy(option.accuracy, low, high, 0, "stated")
    return Way(
        name=option.name,
        kind="today" if option.today else "option",
        lines=tuple(lines),
        hosts=_stated_hosts(option, setting),
        accuracy=accuracy,
        error_usd=(1.0 - accuracy.mean) * error if accuracy else 0.0,
        usd_per_error=error,
        retraining=total(again),
        retrain_every=economics.months_between_changes,
        retires=_retires(shutdown, book.today),
        gone=shutdown if shutdown is not None and shutdown <= book.today else None,
        preparation_base=float(base) if _prepared(family, economics) and option.usd_once is None else 0.0,
        notes=tuple(note for note in notes if note),
        remote=not option.local or option.model is not None,
        days=option.days,
        shared=1 if option.today else _shared(family, economics),
        steps=() if option.days is None else (Step("as stated", option.days, "stated", "[option] days"),),
    )


def _stated_shutdown(option: Option, prices: ModelPrices | None, book: Book) -> date | None:
    """The day on which its model is shut down, or the one it was fine-tuned from: a fine-tune stops with its base."""
    days = [prices.retires if prices else None, book.shutdown(option.training_model or "")[0]]
    return min((day for day in days if day is not None), default=None)


def _stated_training(option: Option, setting: Setting) -> list[Line]:
    if not option.training_tokens:
        return []
    if option.training_host is not None:
        return [_trained_on(setting.book.host(option.training_host), option, setting.economics.trials)]
    price, origin = setting.book.training(option.training_model or option.model or "")
    trials = setting.economics.trials
    sum_ = price * Decimal(repr(option.training_tokens)) * trials / 1_000_000
    how = f"{option.training_tokens:,.0f} training tokens{_times(trials)}, at ${price} a million"
    return [Line("training", sum_, "once", origin.basis, "training", how)]


def _trained_on(host: HostPrice, option: Option, trials: int) -> Line:
    """What an hour-long machine takes for a training that nobody has run: an estimate, marked as assumed."""
    assert option.parameters is not None
    assert option.training_tokens is not None
    where, size = f"[option.{option.name}] training_host", option.parameters
    if host.tflops is None:
        raise SpecError(
            f"nobody knows how fast '{host.name}' trains: it has no GPU in the table",
            where=where,
            fix=f'use another, or add tflops = ... to [price."{host.name}"]',
        )
    needed = training.memory_gb(size, option.training_method)
    if host.memory_gb is not None and needed > host.memory_gb:
        raise SpecError(
            f"training {size:.3g} weights by {option.training_method} takes {needed:,.0f} GB and more, and "
            f"'{host.name}' has {host.memory_gb:g}",
            where=where,
            fix="use a larger machine, or another training_method: qlora takes least",
        )
    hours = training.hours(training.flops(size, option.training_tokens, option.training_method), host.tflops)
    how = (
        f"{option.training_tokens:,.0f} training tokens through {size:.3g} weights by {option.training_method}: about "
        f"{hours:,.3g} hours on {host.name} at {training.MFU:.0%} of {host.tflops:g} TFLOPS{_times(trials)}, at "
        f"${host.usd_per_hour} an hour"
    )
    return Line("training", host.usd_per_hour * Decimal(repr(hours)) * trials, "once", "assumed", "training", how)


def _stated_hosts(option: Option, setting: Setting) -> tuple[Host, ...]:
    if option.host is None:
        return ()
    seconds = option.seconds_per_request or 0.0
    how = f"{seconds:g} s a request, as stated" if seconds else "assumed enough, however much is asked"
    speed: Basis = "stated" if option.seconds_per_request is not None else "assumed"
    return (_host(setting.book.host(option.host), seconds, speed, how, setting.economics),)


def nothing(economics: Economics, raced: Sequence[Measured]) -> Way:
    """Doing nothing: no sum at all, and every request goes wrong."""
    error = mean_error_usd(economics, _classes(raced))
    return Way(
        name=DO_NOTHING,
        kind="nothing",
        accuracy=Accuracy(0.0, 0.0, 0.0, 0, "stated"),
        error_usd=error,
        usd_per_error=error,
    )


def _classes(raced: Sequence[Measured]) -> Mapping[str, float]:
    return next((found.classes for found in raced if found.classes), {})


def prices_used(raced: Sequence[Measured], setting: Setting) -> dict[str, ModelPrices]:
    """The token prices behind the ways, by the name under which they were asked for."""
    stated = {option.model: setting.book.model(option.model) for option in setting.economics.options if option.model}
    return {**{found.model or "": _prices(found, setting) for found in raced if found.remote}, **stated}


def ways(raced: Sequence[Measured], setting: Setting) -> list[Way]:
    """All ways there are: what was raced, what was stated, and doing nothing."""
    service.check(setting.economics, setting.book)
    setting = replace(setting, classes=_classes(raced))
    stated = [stated_way(option, setting) for option in setting.economics.options]
    return [*(raced_way(found, setting) for found in raced), *stated, nothing(setting.economics, raced)]
