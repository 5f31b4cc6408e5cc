"""Economics: every golden figure of the formulas, and what must hold whatever the numbers are."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from luthier.economics import breakeven, cost, training, uncertain
from luthier.economics.cost import Numbers, World, replicas, total_cost
from luthier.economics.flips import nearest_flips, tornado
from luthier.economics.frontier import Point, frontier
from luthier.economics.money import Line, exact_sum, total, usd
from luthier.economics.prices import ModelPrices, Origin, Rates, check_magnitude, per_million
from luthier.economics.uncertain import Spread, chance, draw, lognormal_between, of_interval, quantile
from luthier.economics.usage import Cache, Tokens, as_arriving, normalise
from luthier.errors import SpecError
from luthier.types import Usage

REL = 1e-4
TODAY = date(2026, 11, 22)
ORIGIN = Origin("the test", TODAY)


def prices(*figures: str, **more: Any) -> ModelPrices:
    return ModelPrices("m", "p", Rates(*map(Decimal, figures)), ORIGIN, **more)


def near(value: float) -> Any:
    return pytest.approx(value, rel=REL)


# ---------------------------------------------------------------- golden figures: tokens and caches


def test_golden_a_request_with_cached_tokens() -> None:
    usage, warnings = normalise(20_212, 931, cached=16_298, cached_inside=True)
    assert prices("0.50", "0.05", "0.50", "3").usd(Tokens.mean(usage, 1)) == Decimal("0.0055649")
    assert warnings == ()


def test_golden_a_tier_is_a_cliff_that_reprices_the_whole_request() -> None:
    gemini = prices(
        *("1.25", "0.125", "1.25", "10"),
        cliffs=((200_000, Rates(*map(Decimal, ("2.5", "0.25", "2.5", "15")))),),
    )
    assert gemini.usd(Tokens(200_000, output=1_000)) == Decimal("0.26")
    assert gemini.usd(Tokens(200_001, output=1_000)) == Decimal("0.5150025")


def test_golden_a_prompt_cache_at_ten_requests_a_day_costs_more_than_none() -> None:
    cache = Cache(read=0.1, write=1.25, ttl_s=300)
    assert cache.break_even_hit_rate == near(0.21739)
    assert cache.multiplier(cache.hit_rate(10 / 86_400)) == near(1.2108)
    daily = cache.break_even_requests_a_day
    assert daily is not None
    assert cache.multiplier(cache.hit_rate(daily / 86_400)) == pytest.approx(1.0)
    alone = as_arriving(Tokens(100, 1_900, 100, 50), cache, 10 / 86_400)
    assert (alone.tokens, alone.used) == (Tokens(2_100, 0, 0, 50), False), "a careful team leaves such a cache alone"
    busy = as_arriving(Tokens(100, 1_900, 100, 50), cache, 1.0)
    assert busy.used
    assert busy.tokens.inside == pytest.approx(2_100)
    assert busy.tokens.cached > 1_999


def test_counts_of_providers_become_disjoint_and_never_negative() -> None:
    inside, _ = normalise(1_000, 10, cached=300, cache_write=200, cached_inside=True)
    outside, _ = normalise(500, 10, cached=300, cache_write=200, cached_inside=False)
    assert inside == outside == Usage(500, 300, 200, 10)
    clamped, warnings = normalise(100, 10, cached=300, cached_inside=True)
    assert clamped == Usage(0, 300, 0, 10)
    assert warnings == ("fresh tokens were -200: counted as 0",)


# ---------------------------------------------------------------- golden figures: break-even


def test_golden_the_price_difference_that_five_million_tokens_need() -> None:
    assert breakeven.price_difference_to_pay(500, 5e6) == near(100.0)
    assert breakeven.price_difference_to_pay(50, 5e6) == near(10.0)


def fine_tune_case(host_hour: float = 0.0) -> tuple[Numbers, Numbers, World]:
    """300,000 requests a month: a prompt of 1,500/50 tokens at 0.40/1.60, or a fine-tuned model with 300/50."""
    prompt = prices("0.40", "0.10", "0.40", "1.60").usd(Tokens(1_500, output=50))
    tuned = prices("0.30", "0.15", "0.30", "1.20").usd(Tokens(300, output=50))
    trained = Decimal(1_000 * 350 * 3) * Decimal(3) / Decimal(1_000_000)
    assert trained == Decimal("3.15")
    old = Numbers(tokens=float(prompt))
    new = Numbers(
        once=float(500 + trained), tokens=float(tuned), host_hour=host_hour, least_replicas=float(host_hour > 0)
    )
    return new, old, World(300_000.0)


def test_golden_a_fine_tune_pays_back_in_three_months_and_with_a_host_never() -> None:
    new, old, world = fine_tune_case()
    assert cost.month_cost(old, world, 1) == near(204.0)
    assert cost.month_cost(new, world, 1) == near(45.0)
    assert breakeven.break_even(new, old, world).months == near(3.1645)
    assert breakeven.months_to_pay(503.15, 159.0).months == near(3.1645)
    new, old, world = fine_tune_case(1.70)
    found = breakeven.break_even(new, old, world)
    assert found.months is None
    assert found.reason == "it costs $1,082.00 more a month"


def test_golden_accuracy_counts() -> None:
    given: dict[str, float] = {"accuracy_a": 0.70, "accuracy_b": 0.90, "usd_per_error": 0.50}
    assert breakeven.requests_to_pay(5_000, 0.010, 0.004, **given) == near(47_169.8)
    assert breakeven.requests_to_pay(5_000, 0.010, 0.004) == near(833_333.3)
    assert breakeven.requests_to_pay(5_000, 0.004, 0.010) is None


def test_golden_a_payback_time_is_a_distribution() -> None:
    once, saving = (math.log(5_000), 0.5), (math.log(1_000), 0.4)
    exact = Spread("months", "lognormal", breakeven.lognormal_payback(once, saving), "stated")
    assert exact.middle == near(5.0)
    assert exact.p10 == near(2.2009)
    assert exact.p90 == near(11.3592)
    assert stats.norm.cdf((math.log(6) - exact.values[0]) / exact.values[1]) == near(0.61208)


def test_draws_agree_with_the_golden_distribution_within_the_error_that_is_shown() -> None:
    spreads = {
        "start": Spread("start", "lognormal", (math.log(5_000), 0.5), "stated"),
        "saving": Spread("saving", "lognormal", (math.log(1_000), 0.4), "stated"),
    }
    draws = draw(spreads, seed=1)
    months = breakeven.payback_months(draws["start"], np.broadcast_to(draws["saving"], (120, draws["saving"].size)))
    within = chance(draws, months <= 6)
    assert 0 < within.error < 0.002
    assert abs(within.value - 0.61208) < 4 * within.error
    for q, golden in ((0.5, 5.0), (0.1, 2.2009), (0.9, 11.3592)):
        found = quantile(draws, months, q)
        assert found is not None
        assert abs(found.value - golden) < 4 * found.error
        assert found.error < 0.01 * golden
    again = draw(spreads, seed=1)
    assert np.array_equal(again["start"], draws["start"]), "the same seed gives the same draws"
    assert not np.array_equal(draw(spreads, seed=2)["start"], draws["start"])
    assert quantile(draws, np.where(months > 5, np.inf, months), 0.9) is None, "never is no number of months"


def test_golden_savings_that_halve_every_year() -> None:
    assert breakeven.months_while_prices_fall(6.0, 1.0, 12.0).months == near(7.3668)
    assert breakeven.whole_months_while_prices_fall(6.0, 1.0, 12.0) == 8
    never = breakeven.months_while_prices_fall(18.0, 1.0, 12.0)
    assert never.months is None
    assert "$17.31 to save in all" in never.reason
    assert breakeven.whole_months_while_prices_fall(18.0, 1.0, 12.0) is None
    falling = breakeven.break_even(Numbers(once=6.0), Numbers(tokens=1.0), World(1.0, price_fall=0.5))
    assert falling.months is not None
    assert math.ceil(falling.months) == 8, "the full model agrees in whole months"


def test_a_base_model_that_is_shut_down_first_never_pays() -> None:
    new, old, world = fine_tune_case()
    found = breakeven.break_even(new, old, world, until=3.0)
    assert found.months is None
    assert "shut down in month 3.0" in found.reason
    assert breakeven.break_even(new, old, world, until=4.0).months == near(3.1645)


# ---------------------------------------------------------------- golden figures: training


def test_golden_training_time_and_added_weights() -> None:
    operations = training.flops(7e9, 3e6)
    assert operations == near(8.4e16)
    assert training.hours(operations, 165, 0.35) == near(0.40404)
    assert training.lora_parameters(8, [(4096, 4096)] * 2, 32) == 4_194_304
    assert training.flops(7e9, 3e6, recompute=True) == near(6 * 7e9 * 3e6)
    assert training.flops(7e9, 3e6, "full") == near(6 * 7e9 * 3e6)
    assert training.flops(7e9, 3e6, "full", recompute=True) == near(8 * 7e9 * 3e6)


def test_golden_training_memory() -> None:
    assert training.memory_gb(1e9, "full") == near(16.0)
    assert training.memory_gb(1e9, "full", fp32_gradients=True) == near(18.0)
    assert training.memory_gb(1e9, "lora", trainable=1e7) == near(2.0 + 0.16)
    assert training.memory_gb(1e9, "qlora", trainable=1e7, activations_gb=1.0) == near(0.516 + 0.16 + 1.0)


# ---------------------------------------------------------------- the formulas, spelt out


def test_total_cost_is_the_sum_of_discounted_months() -> None:
    way = Numbers(once=1_000, tokens=0.002, request=0.001, month=50, host_hour=1.0, seconds=0.2, least_replicas=1)
    world = World(1e6, months=3, growth=0.1, price_fall=0.5, discount=0.12, peak=2.0)
    rate = 1.12 ** (1 / 12) - 1
    by_hand = 1_000.0
    for t in (1, 2, 3):
        volume = 1e6 * 1.1 ** (t - 1)
        hosts = max(1, math.ceil(volume / (730 * 3600) * 2 * 0.2))
        month = volume * (0.002 * 0.5 ** ((t - 1) / 12) + 0.001) + 50 + hosts * 730
        by_hand += month / (1 + rate) ** t
    assert total_cost(way, world) == pytest.approx(by_hand, rel=1e-12)
    assert total_cost(Numbers(once=1, error=0.5), World(10, months=2), errors=True) == pytest.approx(11.0)


def test_retraining_comes_every_so_often_and_when_the_base_model_is_shut_down() -> None:
    way = Numbers(retraining=10.0, retrain_every=3.0)
    assert total_cost(way, World(0.0, months=12)) == pytest.approx(40.0)
    assert total_cost(Numbers(retraining=10.0, retires=4.5), World(0.0, months=12)) == pytest.approx(10.0)
    assert total_cost(Numbers(retraining=10.0, retires=14.0), World(0.0, months=12)) == 0.0
    assert total_cost(Numbers(retraining=10.0, retrain_every=1.5), World(0.0, months=3)) == pytest.approx(20.0)


def test_replicas_are_whole_machines() -> None:
    way = Numbers(seconds=1.0, utilisation=0.5, least_replicas=1)
    world = World(0.0, peak=1.0)
    assert replicas(way, world, 0.0) == 1
    assert replicas(way, world, 730 * 3600 * 0.5) == 1, "exactly full is not more than full"
    assert replicas(way, world, 730 * 3600 * 0.51) == 2
    assert cost.self_hosted_usd_per_million_tokens(1.70, 1_000, 0.5) == near(1.70e6 / (1_000 * 3600 * 0.5))


def test_the_frontier_and_what_a_further_right_answer_costs() -> None:
    found = frontier(
        [Point("a", 0.010, 0.70), Point("d", 0.030, 0.75), Point("b", 0.040, 0.90), Point("c", 0.020, 0.60)]
    )
    assert [(each.point.name, each.place) for each in found] == [
        ("a", "frontier"),
        ("c", "beaten"),
        ("d", "beaten by a mix"),
        ("b", "frontier"),
    ]
    assert found[3].usd_per_extra == near(0.15)
    assert found[1].beaten_by == ("a",)
    assert found[2].beaten_by == ("a", "b")
    assert frontier([]) == []


def test_thresholds_are_found_where_the_answer_changes() -> None:
    def cheapest(volume: float) -> str:
        return "hosted" if volume * 0.001 > 1_241 else "prompt"

    (above,) = nearest_flips("volume", cheapest, 3e5, 3e3, 3e7)
    assert above.above
    assert above.threshold == pytest.approx(1_241_000, rel=1e-9)
    assert above.answer == "hosted"
    (below,) = nearest_flips("volume", cheapest, 3e6, 3e4, 3e8)
    assert not below.above
    assert below.threshold == pytest.approx(1_241_000, rel=1e-9)
    months = nearest_flips("months", lambda m: "b" if m >= 4 else "a", 12, 1, 120, whole=True)
    assert [(flip.threshold, flip.answer) for flip in months] == [(3.0, "a")]
    assert nearest_flips("volume", lambda _: "same", 1.0, 0.1, 10.0) == []


def test_a_tornado_puts_the_longest_bar_first_and_leaves_out_what_moves_nothing() -> None:
    bars = tornado(
        lambda at: at["a"] + 10 * at["b"],
        {"a": 1, "b": 1, "c": 1},
        dict.fromkeys(("a", "b", "c"), (0.5, 2.0, "assumed")),
    )
    assert [(bar.key, bar.at_low, bar.at_high) for bar in bars] == [("b", 6.0, 21.0), ("a", 10.5, 12.0)]


# ---------------------------------------------------------------- what must hold whatever the numbers are

small = st.floats(0.0, 10.0)
ways = st.builds(
    Numbers,
    once=st.floats(0, 1e5),
    tokens=small,
    request=small,
    month=st.floats(0, 1e4),
    host_hour=small,
    seconds=small,
    least_replicas=st.sampled_from([0.0, 1.0, 3.0]),
    shared=st.sampled_from([1.0, 2.0, 7.0]),
    utilisation=st.floats(0.1, 1.0),
    retraining=st.floats(0, 1e4),
    retrain_every=st.sampled_from([0.0, 1.0, 2.5, 6.0]),
    retires=st.sampled_from([0.0, 5.0]),
    error=small,
)
worlds = st.builds(
    World,
    requests=st.floats(0, 1e7),
    months=st.integers(1, 36),
    growth=st.floats(0, 0.2),
    price_fall=st.floats(0, 0.9),
    discount=st.floats(0, 0.3),
    peak=st.floats(1, 10),
)


@settings(max_examples=60, deadline=None)
@given(
    ways, worlds, st.floats(1.0, 10.0), st.sampled_from(["tokens", "request", "month", "host_hour", "once", "error"])
)
def test_cost_is_never_negative_and_rises_with_volume_price_and_horizon(
    way: Numbers, world: World, factor: float, price: str
) -> None:
    from dataclasses import replace

    base = float(total_cost(way, world, errors=True))
    assert base >= 0
    slack = 1e-9 * (1 + base)
    assert total_cost(way, world.at(factor), errors=True) >= base - slack
    assert total_cost(way, replace(world, months=world.months + 1), errors=True) >= base - slack
    assert total_cost(replace(way, **{price: getattr(way, price) * factor}), world, errors=True) >= base - slack
    assert total_cost(way, world, errors=True) >= total_cost(way, world) - slack


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=12), max_size=20))
def test_sums_of_prices_are_exact_in_any_order(amounts: list[Decimal]) -> None:
    lines = [Line("x", amount, "once", "stated") for amount in amounts]
    from fractions import Fraction

    assert Fraction(total(lines)) == sum((Fraction(amount) for amount in amounts), Fraction(0))
    assert exact_sum(amounts) == exact_sum(amounts[::-1])


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1e5), st.floats(0.01, 1e4))
def test_a_constant_saving_pays_back_after_start_over_saving(once: float, saving: float) -> None:
    found = float(breakeven.payback_months(np.array([once]), np.full((120, 1), saving))[0])
    assert found == pytest.approx(once / saving) if once / saving <= 120 - 1e-9 else math.isinf(found) or found >= 119


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.001, 0.2))
def test_a_share_stays_a_share(mean: float, half: float) -> None:
    spread = of_interval("accuracy", mean, max(0, mean - half), min(1, mean + half), "measured")
    values = spread.at(np.linspace(0, 1, 101))
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values) >= -1e-12).all()


def test_what_is_no_price_is_refused() -> None:
    for wrong in (-1.0, float("nan"), float("inf"), "-0.1"):
        with pytest.raises(SpecError, match="is no price"):
            usd(wrong)
    assert usd(0.1) + usd(0.2) == Decimal("0.3")
    assert per_million(Decimal("0.0004"), "1K tokens", "here") == Decimal("0.4")
    with pytest.raises(SpecError, match="no unit of tokens"):
        per_million(Decimal(1), "1M bananas", "here")


def test_a_price_in_the_wrong_unit_is_asked_about() -> None:
    with pytest.raises(SpecError, match=r"for 1,000 tokens\? then it is 0.4"):
        check_magnitude(Decimal("0.0004"), "here", unit_stated=False)
    with pytest.raises(SpecError, match="far above"):
        check_magnitude(Decimal("4000"), "here", unit_stated=False)
    check_magnitude(Decimal("0.0004"), "here", unit_stated=True)
    for ordinary in ("0", "0.02", "0.4", "75", "600"):
        check_magnitude(Decimal(ordinary), "here", unit_stated=False)


def test_ranges_are_quantiles() -> None:
    spread = lognormal_between("volume", 100, 400, "stated")
    assert (spread.p10, spread.middle, spread.p90) == pytest.approx((100, 200, 400))
    triangle = Spread("share", "triangular", (0.2, 0.3, 0.4), "assumed")
    assert triangle.middle == pytest.approx(0.3)
    assert uncertain.Spread("x", "fixed", (3.0,), "stated").p90 == 3.0
    with pytest.raises(SpecError, match="lower number first"):
        lognormal_between("volume", 400, 100, "stated")
