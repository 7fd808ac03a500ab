"""Scalar models against fractions, and against the validator."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import ArgumentError, TimeframeError
from backtestr.instants import END_NS, MIN_NS
from backtestr.models import Bar, Tick, TickType, Timeframe, ValidationRules

MAX = 10**18 - 1
FIXED = pa.decimal128(18, 8)
NUMBERS = ("price", "volume", "bid", "ask", "bid_size", "ask_size")
UNITS = st.one_of(st.integers(-3, 3), st.integers(-MAX, MAX))
PRICES = UNITS.map(lambda units: Decimal(units).scaleb(-8))
NANOSECONDS = st.one_of(st.integers(MIN_NS, END_NS - 1), st.sampled_from([MIN_NS - 1, END_NS]))
MAYBE = st.one_of(st.none(), PRICES)
TICKS = st.builds(
    Tick,
    symbol=st.sampled_from(["A", "é", ""]),
    timestamp_ns=NANOSECONDS,
    price=MAYBE,
    volume=st.one_of(st.just(Decimal(0)), PRICES),
    bid=MAYBE,
    ask=MAYBE,
    bid_size=MAYBE,
    ask_size=MAYBE,
    tick_type=st.one_of(st.none(), st.sampled_from(TickType)),
)
BARS = st.builds(
    Bar,
    symbol=st.sampled_from(["A", ""]),
    timeframe=st.sampled_from(Timeframe.STANDARD),
    timestamp_ns=st.integers(-3, 3).map(lambda minutes: minutes * 60 * 10**9),
    open=MAYBE,
    high=MAYBE,
    low=MAYBE,
    close=MAYBE,
    volume=PRICES,
    turnover=PRICES,
    trade_count=st.integers(0, 9),
)


def nearest(value: Fraction) -> Decimal:
    return Decimal(round(value * 10**8)).scaleb(-8)


def as_row(raw: dict[str, Any]) -> pa.Table:
    columns = {
        "symbol": pa.array([raw["symbol"]]),
        "timestamp_utc": pa.array([raw["timestamp_ns"]], pa.timestamp("ns")),
        "tick_type": pa.array([raw["tick_type"]], pa.int8()),
    }
    return pa.table(columns | {name: pa.array([raw[name]], FIXED) for name in NUMBERS})


RAW = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", ""]),
        "timestamp_ns": NANOSECONDS,
        "tick_type": st.sampled_from([None, None, 0, 1, 2, 3]),
        **dict.fromkeys(NUMBERS, MAYBE),
    }
)


@given(RAW)
def test_a_tick_is_what_the_validator_makes_of_its_row(raw: dict[str, Any]) -> None:
    tick = Tick(**raw)
    accepted, _, _ = bt.validate_ticks(as_row(raw), rules=ValidationRules(now_ns=END_NS))
    assert tick.is_valid == (accepted.num_rows == 1)
    if accepted.num_rows:
        row = accepted.to_pylist()[0]
        assert (tick.tick_type, tick.price, tick.volume) == (row["tick_type"], row["price"], row["volume"])


@given(TICKS)
def test_mid_and_spread_are_exact(tick: Tick) -> None:
    if tick.bid is None or tick.ask is None:
        assert (tick.mid_price, tick.spread) == (None, None)
    else:
        assert tick.mid_price == nearest((Fraction(tick.bid) + Fraction(tick.ask)) / 2)
        assert Fraction(tick.spread) == Fraction(tick.ask) - Fraction(tick.bid)


@given(st.one_of(TICKS, BARS))
def test_models_are_values(model: Tick | Bar) -> None:
    kind = type(model)
    assert kind.from_dict(model.to_dict()) == model
    assert kind.from_json(model.to_json()) == model
    assert pickle.loads(pickle.dumps(model)) == model
    assert hash(kind.from_json(model.to_json())) == hash(model)
    with pytest.raises((AttributeError, TypeError)):
        model.symbol = "B"
    assert repr(model).startswith(f"{kind.__name__}(symbol={model.symbol!r}")


@given(BARS, MAYBE)
def test_bar_figures_are_fractions_rounded_once(bar: Bar, before: Decimal | None) -> None:
    if bar.volume == 0:
        assert bar.vwap is None
    else:
        assert bar.vwap == nearest(Fraction(bar.turnover) / Fraction(bar.volume))
    if bar.high is not None and bar.low is not None:
        reach = [Fraction(price) for price in (bar.high, bar.low, before) if price is not None]
        assert Fraction(bar.true_range(before)) == max(reach) - min(reach)
        if bar.close is not None:
            assert bar.typical_price == nearest((Fraction(bar.high) + Fraction(bar.low) + Fraction(bar.close)) / 3)


@given(BARS)
def test_a_valid_bar_is_ordered_and_aligned(bar: Bar) -> None:
    prices = [price for price in (bar.open, bar.close) if price is not None]
    ordered = bar.high is None or bar.low is None or bar.low <= bar.high
    ordered &= all((bar.low is None or bar.low <= p) and (bar.high is None or p <= bar.high) for p in prices)
    paired = (bar.open is None) == (bar.close is None) and (bar.high is None) == (bar.low is None)
    aligned = bar.timestamp_ns % bar.timeframe.ns == 0
    assert bar.is_valid == (bool(bar.symbol) and ordered and paired and aligned and bar.volume >= 0)


@pytest.mark.parametrize("bad", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_invalid_and_harmless(bad: str) -> None:
    tick = Tick("A", 0, bid=bad, ask=1)
    assert (tick.is_valid, tick.mid_price, tick.spread) == (False, None, None)
    bar = Bar("A", "1m", 0, bad, bad, bad, bad, volume=bad, turnover=bad)
    assert (bar.is_valid, bar.vwap, bar.typical_price, bar.true_range(1)) == (False, None, None, None)
    assert not Tick("A", 0, price=bad, bid=1, ask=2).is_valid


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="price"):
        Tick("A", 0, price="1,5")
    with pytest.raises(ArgumentError, match="tick_type"):
        Tick("A", 0, price=1, tick_type=9)
    with pytest.raises(ArgumentError, match="timestamp_ns"):
        Tick("A", "yesterday", price=1)
    with pytest.raises(ArgumentError, match="price_basis"):
        Bar("A", "1m", 0, price_basis="last")
    with pytest.raises(TimeframeError, match="7m"):
        Bar("A", "7m", 0)


@pytest.mark.parametrize("value", [-1, "NaN", "Infinity", "0.000000001"])
def test_a_bound_on_jumps_is_a_fraction(value: Any) -> None:
    with pytest.raises(ArgumentError, match="max_jump"):
        ValidationRules(max_jump=value)


CASES = json.loads((Path(__file__).parents[1] / "cases" / "models.json").read_text(encoding="utf-8"))


def optional(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


@pytest.mark.parametrize("case", CASES["quotes"], ids=str)
def test_quotes_have_the_figures_of_the_shared_cases(case: dict[str, str | None]) -> None:
    tick = Tick("A", 0, bid=case["bid"], ask=case["ask"])
    assert (tick.mid_price, tick.spread) == (optional(case["mid"]), optional(case["spread"]))


@pytest.mark.parametrize("case", CASES["bars"], ids=str)
def test_bars_have_the_figures_of_the_shared_cases(case: dict[str, str | None]) -> None:
    bar = Bar("A", "1m", 0, case["close"], case["high"], case["low"], case["close"])
    assert bar.typical_price == optional(case["typical"])
    assert bar.true_range(case["before"]) == optional(case["range"])
