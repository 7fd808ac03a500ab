"""Random ticks for statements about them, and instants to ask for."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from decimal import Decimal

import pyarrow as pa

FIRST = dt.datetime(2023, 12, 30, 22, 0)
HOURS = 24 * 8


def ticks(rng: random.Random, symbol: str, count: int, *, quotes: bool = False) -> pa.Table:
    """Random ticks with instants that collide, on edges of buckets and µs, and between them."""
    base = int(FIRST.replace(tzinfo=dt.UTC).timestamp()) * 10**9
    times = []
    for _ in range(count):
        at = rng.randrange(HOURS * 3_600) * 10**9
        at -= at % rng.choice([1, 60, 300, 3_600]) * 10**9
        times.append(base + at + rng.choice([0, 0, 1, -1, 999, 500_000_000, rng.randrange(10**9)]))
    columns = {
        "symbol": [symbol] * count,
        "timestamp_utc": pa.array(sorted(times), pa.timestamp("ns", "UTC")),
        "price": pa.array([Decimal(rng.randrange(1, 10**9)).scaleb(-rng.choice([0, 2, 8])) for _ in times]),
        "volume": pa.array([Decimal(rng.randrange(10**8)).scaleb(-rng.choice([0, 4, 8])) for _ in times]),
    }
    rows = {name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()}
    for name in ("price", "volume"):
        rows[name] = rows[name].cast(pa.decimal128(18, 8))
    if quotes:
        rows["bid"] = rows["price"]
        rows["ask"] = rows["price"]
        rows["tick_type"] = pa.array([rng.choice([0, 3]) for _ in times], pa.int8())
        rows["price"] = pa.array(
            [
                price if kind == 0 else None
                for price, kind in zip(rows["price"].to_pylist(), rows["tick_type"].to_pylist(), strict=True)
            ],
            pa.decimal128(18, 8),
        )
    return pa.table(rows)


def instant(rng: random.Random) -> dt.datetime:
    """An instant in or near the days of the ticks, often on the edge of a bucket."""
    at = FIRST + dt.timedelta(seconds=rng.randrange(-3_600, (HOURS + 1) * 3_600))
    unit = rng.choice([1, 60, 300, 3_600, 86_400])
    return (
        at
        - dt.timedelta(seconds=(at - dt.datetime(1970, 1, 1)).total_seconds() % unit)
        + dt.timedelta(microseconds=rng.choice([0, 0, 0, 1, 999_999]))
    )


def content(rows: pa.Table) -> Counter[str]:
    """Rows in no order."""
    return Counter(map(repr, zip(*(column.to_pylist() for column in rows.columns), strict=True)))
