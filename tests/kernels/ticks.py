"""Tick tables and bar tables as rows of fractions, for the kernels' tests."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

FIXED = pa.decimal128(18, 8)
DAY = 86_400 * 10**9


def decimal(value: Fraction | int | None) -> Decimal | None:
    return None if value is None else Decimal(int(value * 10**8)).scaleb(-8)


def table(rows: list[dict[str, Any]], unit: str = "ns", symbol: pa.DataType | None = None) -> pa.Table:
    per_unit = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[unit]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["symbol", "ts", "price", "volume"]
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        match name:
            case "symbol":
                columns[name] = pa.array(values, pa.string()).cast(symbol or pa.string())
            case "ts":
                columns["timestamp_utc"] = pa.array([v // per_unit for v in values], pa.timestamp(unit))
            case "conditions":
                columns[name] = pa.array(values, pa.string())
            case "sequence" | "epoch":
                columns[name] = pa.array(values, pa.int64())
            case "tick_type":
                columns[name] = pa.array(values, pa.int8())
            case _:
                columns[name] = pa.array([decimal(v) for v in values], FIXED)
    return pa.table(columns)


def rows_of(bars: pa.Table) -> list[tuple[Any, ...]]:
    bars = bars.set_column(3, "timestamp_utc", bars["timestamp_utc"].cast(pa.int64()))
    exact = [
        [Fraction(v) if isinstance(v, Decimal) else v for v in bars[name].to_pylist()] for name in bars.column_names
    ]
    return list(zip(*exact, strict=True))


def instants(unit_ns: int = 1) -> st.SearchStrategy[int]:
    near = st.integers(-3 * DAY, 3 * DAY)
    dense = st.integers(-120, 120).map(lambda s: s * 10**9 + s % 7 * 10**8)
    return st.one_of(dense, near).map(lambda ns: ns // unit_ns * unit_ns)


def fixed(low: int, high: int) -> st.SearchStrategy[Fraction]:
    return st.one_of(
        st.integers(low, high).map(lambda v: Fraction(v, 10**8)),
        st.sampled_from([Fraction(max(low, v), 10**8) for v in (0, 1, 10**8, 150_000_000, 3 * 10**8)]),
    )


@st.composite
def trades(draw: st.DrawFn, sequence: bool = False, unit_ns: int = 1, size: int = 40) -> list[dict[str, Any]]:
    row = {
        "symbol": st.sampled_from(["B", "A", "é", "a symbol longer than twelve", "AB"]),
        "ts": instants(unit_ns),
        "price": fixed(-(10**12), 10**12),
        "volume": fixed(0, 10**12),
    }
    if sequence:
        row["sequence"] = st.integers(-3, 5)
    return draw(st.lists(st.fixed_dictionaries(row), max_size=size))
