"""Windows of ten million stored ticks and days of bars, beside DuckDB over its own partitioned Parquet files."""

from __future__ import annotations

import datetime as dt
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import backtestr as bt
from ticks import trades

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
WINDOWS = 100
Window = tuple[str, dt.date, dt.datetime, dt.datetime]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[bt.Store, Path]:
    """The same rows in a store and in hive partitions."""
    folder = tmp_path_factory.mktemp("query")
    ticks = trades(ROWS, symbols=4, days=5)
    duckdb.sql(
        f"copy (select *, timestamp_utc::date as date from ticks order by symbol, timestamp_utc) to '{folder}/hive' "
        "(format parquet, compression zstd, partition_by (symbol, date))"
    )
    store = bt.open(folder / "store")
    store.ingest(ticks, feed="bench")
    return store, folder / "hive"


def windows(store: bt.Store) -> list[Window]:
    rng = random.Random(1)
    days = sorted({time.date() for time in store.bars("SYM0", "1d").to_arrow()["timestamp_utc"].to_pylist()})
    found = []
    for _ in range(WINDOWS):
        day = rng.choice(days)
        start = dt.datetime.combine(day, dt.time(14, 30)) + dt.timedelta(minutes=rng.randrange(330))
        found.append((f"SYM{rng.randrange(4)}", day, start, start + dt.timedelta(hours=1)))
    return found


def quantiles_ms(ask: Callable[..., Any], asked: list[Window]) -> tuple[float, float]:
    """Median and 99th percentile."""
    times = []
    for window in asked:
        started = time.perf_counter()
        ask(*window)
        times.append((time.perf_counter() - started) * 1e3)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


CASES: dict[str, tuple[Callable[..., Any], str]] = {
    "one hour of ticks": (
        lambda store, symbol, _, start, end: store.ticks(symbol, start=start, end=end).to_arrow(),
        "select * from read_parquet('{hive}/**/*.parquet', hive_partitioning = true) "
        "where symbol = $symbol and date = $day and timestamp_utc >= $start and timestamp_utc < $end",
    ),
    "one day of 5m bars": (
        lambda store, symbol, day, *_: store.bars(symbol, "5m", start=day, end=day + dt.timedelta(days=1)).to_arrow(),
        "select time_bucket(interval '5 minutes', timestamp_utc) as t, arg_min(price, timestamp_utc), max(price), "
        "min(price), arg_max(price, timestamp_utc), sum(volume), $start, $end from read_parquet('{hive}/**/*.parquet', "
        "hive_partitioning = true) where symbol = $symbol and date = $day group by t order by t",
    ),
    "SQL over one day": (
        lambda store, symbol, day, *_: store.sql(
            "select count(*), max(price) from ticks where symbol = ? and timestamp_utc >= ? and timestamp_utc < ?",
            [symbol, day, day + dt.timedelta(days=1)],
        ).to_arrow(),
        "select count(*), max(price), $start, $end from read_parquet('{hive}/**/*.parquet', hive_partitioning = true) "
        "where symbol = $symbol and date = $day",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_query(benchmark, stores: tuple[bt.Store, Path], case: str) -> None:
    store, hive = stores
    own, text = CASES[case]
    asked = windows(store)
    peer = duckdb.connect()
    peer.execute("set parquet_metadata_cache = true")

    def ask(symbol: str, day: dt.date, start: dt.datetime, end: dt.datetime) -> Any:
        values = {"symbol": symbol, "day": day, "start": start, "end": end}
        return peer.sql(text.format(hive=hive), params=values).to_arrow_table()

    first = own(store, *asked[0])
    assert first.num_rows == ask(*asked[0]).num_rows
    mine = quantiles_ms(lambda *window: own(store, *window), asked)
    theirs = quantiles_ms(ask, asked)
    benchmark.pedantic(own, (store, *asked[0]), rounds=5)
    benchmark.extra_info |= {"p50_ms": mine[0], "p99_ms": mine[1], "ratio_to_duckdb": theirs[0] / mine[0]}
    print(
        f"\n{case}, {first.num_rows} rows: p50 {mine[0]:.2f} ms, p99 {mine[1]:.2f} ms; "
        f"DuckDB p50 {theirs[0]:.2f} ms, ratio {theirs[0] / mine[0]:.1f}"
    )


YEAR = """
select time_bucket(interval '5 minutes', timestamp_utc) as start, max(price) as high, min(price) as low,
    sum(volume) as volume, count(*) as trades from ticks where symbol = 'SYM0' group by all order by start
"""


def test_five_minutes_of_a_year(benchmark, tmp_path: Path) -> None:
    """A year of ticks aggregated by SQL: from bars, and from the ticks, which is what the peer would read."""
    with bt.open(tmp_path / "store") as store:
        store.ingest(trades(ROWS, symbols=1, days=252), feed="bench")
        routed, direct = (store.explain(YEAR, route=route) for route in (True, False))
        assert routed.routed
        assert store.sql(YEAR).to_arrow() == store.sql(YEAR, route=False).to_arrow()
        times = {}
        for route in (True, False):
            taken = []
            for _ in range(5):
                started = time.perf_counter()
                store.sql(YEAR, route=route)
                taken.append(time.perf_counter() - started)
            times[route] = sorted(taken)[2] * 1e3
        benchmark.pedantic(store.sql, (YEAR,), rounds=5)
        benchmark.extra_info |= {"bytes": routed.bytes, "bytes_ratio": direct.bytes / routed.bytes}
        print(
            f"\n5m of a year, {ROWS:,} ticks: {routed.bytes:,} bytes of bars for {direct.bytes:,} of ticks "
            f"({direct.bytes / routed.bytes:.0f} times fewer), {times[True]:.1f} ms for {times[False]:.1f} ms"
        )
