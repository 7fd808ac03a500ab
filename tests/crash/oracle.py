"""What a store must hold, worked out in plain integers, and whether it does.

Nothing here calls the code that is judged but to read the store: bars are made anew from the oracle's own rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import backtestr as bt
from tests.crash.operations import SECOND, Row, State

MATERIALIZED = {"1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "4h": 14_400, "1d": 86_400}
"""Seconds of the timeframes that a store keeps."""
COLUMNS = ["symbol", "timestamp_utc", "open", "high", "low", "close", "volume", "turnover", "vwap", "trade_count"]

Bars = set[tuple[Any, ...]]


POISONED = ("StorePoisonedError", "StoreFullError")
"""What an error begins with that stops the writer: what it was about is in doubt."""


@dataclass(frozen=True)
class Diary:
    """What a worker noted outside the store: an intent before and an acknowledgement after each step."""

    begun: list[str]
    done: list[str]
    failed: dict[str, str]
    broken: list[str]

    @classmethod
    def read(cls, path: Path) -> Diary:
        """The notes; each was one write, so that a killed worker leaves whole lines."""
        begun, done, failed, broken = [], [], {}, []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            word, step, *rest = line.split(" ", 2)
            if word == "begin":
                begun.append(step)
            elif word == "done":
                done.append(step)
            elif word == "failed":
                failed[step] = rest[0]
            elif word == "broken":
                broken.append(f"{step} {rest[0]}")
        return cls(begun, done, failed, broken)

    @property
    def acknowledged(self) -> int:
        """Operations that were acknowledged."""
        return sum(step.isdecimal() for step in self.done)

    @property
    def in_doubt(self) -> bool:
        """Whether one more operation had begun."""
        return sum(step.isdecimal() for step in self.begun) > self.acknowledged


class WrongStoreError(AssertionError):
    """A store that is not what was acknowledged."""


def judge(path: Path, allowed: Sequence[State], *, is_deep: bool = False) -> int:
    """Which of the allowed states a store is in.

    Args:
        path: the store's folder.
        allowed: the acknowledged state and, where one operation is in doubt, the one after it.
        is_deep: also read by SQL, read every named version, and let the store verify itself.

    Raises:
        WrongStoreError: the store is in none of them, or its bars are not those of its ticks.
    """
    with bt.open(path, read_only=True) as store:
        has_orders = is_deep or any(state.orders for state in allowed)
        orders = orders_in(store) if has_orders else {}
        found = State(rows_in(store), orders, store.bar_spec.volume_excludes, _schema(store))
        tags = {str(row["name"]) for row in store._version().rows_of("tags")}
        seen = (found.rows, found.orders, found.excludes, found.schema, tags)
        matches = [
            place
            for place, state in enumerate(allowed)
            if (state.rows, state.orders, state.excludes, state.schema, set(state.tags)) == seen
        ]
        if not matches:
            raise WrongStoreError(_difference(found, tags, allowed))
        _check_bars(store, found)
        if is_deep:
            _check_deeply(store, allowed[matches[-1]])
        return matches[-1]


def rows_in(store: bt.Store, as_of: str | None = None) -> Counter[Row]:
    """A store's ticks as plain integers."""
    ticks = store.ticks(columns=["symbol", "timestamp_utc", "price", "volume", "conditions"], as_of=as_of).to_arrow()
    columns = [column.to_pylist() for column in ticks.drop_columns("timestamp_utc").columns]
    times = ticks["timestamp_utc"].cast("int64").to_pylist()
    return Counter(
        Row(symbol, ts_ns, _units(price), _units(volume), condition)
        for symbol, ts_ns, price, volume, condition in zip(columns[0], times, *columns[1:], strict=True)
    )


def orders_in(store: bt.Store, as_of: str | None = None) -> dict[int, int]:
    """A store's quantities of orders by number, as plain integers."""
    rows = store.sql("select order_id, quantity from orders", as_of=as_of).to_pylist()
    found = {UUID(row["order_id"]).int: _units(row["quantity"]) for row in rows}
    if len(found) != len(rows):
        raise WrongStoreError("an order is there twice")
    return found


def bars_in(store: bt.Store, timeframe: str) -> Bars:
    """A store's bars of a timeframe as plain integers."""
    bars = store.bars(None, timeframe).to_arrow().select(COLUMNS)
    symbols, _, *prices, turnover, vwap, counts = (column.to_pylist() for column in bars.columns)
    times = bars["timestamp_utc"].cast("int64").to_pylist()
    numbers = [[_units(value) for value in column] for column in prices]
    turnovers = [_units(value, 16) for value in turnover]
    vwaps = [None if value is None else _units(value) for value in vwap]
    found = list(zip(symbols, times, *numbers, turnovers, vwaps, counts, strict=True))
    assert len(set(found)) == len(found), f"bars of {timeframe} are there twice"
    return set(found)


def bars_of(state: State, seconds: int) -> Bars:
    """The bars that a state's rows make."""
    buckets: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in sorted(state.rows.elements(), key=lambda row: (row.symbol, row.ts_ns)):
        buckets[row.symbol, row.ts_ns // (seconds * SECOND) * seconds * SECOND].append(row)
    bars = set()
    for (symbol, start), rows in buckets.items():
        prices = [row.price for row in rows]
        counted = [row for row in rows if row.condition not in state.excludes]
        volume = sum(row.volume for row in counted)
        turnover = sum(row.price * row.volume for row in counted)
        vwap = _half_even(turnover, volume) if volume else None
        ends = (prices[0], max(prices), min(prices), prices[-1])
        bars.add((symbol, start, *ends, volume, turnover, vwap, len(counted)))
    return bars


def _check_bars(store: bt.Store, state: State) -> None:
    for timeframe, seconds in MATERIALIZED.items():
        stored, made = bars_in(store, timeframe), bars_of(state, seconds)
        if stored != made:
            raise WrongStoreError(
                f"bars of {timeframe}: stored only {sorted(stored - made)}, made only {sorted(made - stored)}"
            )


def _check_deeply(store: bt.Store, state: State) -> None:
    listed = store.sql("select symbol, timestamp_ns, price, volume, conditions from ticks").to_arrow().to_pylist()
    by_sql = Counter(Row(a, b, _units(c), _units(d), e) for a, b, c, d, e in (row.values() for row in listed))
    if by_sql != state.rows:
        raise WrongStoreError("sql reads other rows than ticks()")
    for name, then in state.tags.items():
        if rows_in(store, name) != then.rows or orders_in(store, name) != then.orders:
            raise WrongStoreError(f"version {name} is not what it was")
    report = store.verify(deep=True)
    if not report.ok:
        raise WrongStoreError(str(report))


def _difference(found: State, tags: set[str], allowed: Sequence[State]) -> str:
    lost, extra = allowed[0].rows - found.rows, found.rows - allowed[0].rows
    told = [
        f"the store is in none of {len(allowed)} allowed states: {lost.total()} rows lost, {extra.total()} too many"
    ]
    told += [f"orders {found.orders}, not {allowed[0].orders}"] if found.orders != allowed[0].orders else []
    told += [f"lost {sorted(lost.elements())[:5]}, too many {sorted(extra.elements())[:5]}, tags {sorted(tags)}"]
    return "; ".join(told)


def _schema(store: bt.Store) -> int:
    return max((one.version for one in store.migrations.status() if one.state == "applied"), default=0)


def _units(value: Any, decimals: int = 8) -> int:
    whole = value.scaleb(decimals)
    assert whole == int(whole)
    return int(whole)


def _half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    is_up = 2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1)
    return quotient + is_up
