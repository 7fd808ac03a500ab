"""Files and frames into a committed store, validated and with bars, beside DuckDB's bare CSV to partitioned Parquet."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

import backtestr as bt
from backtestr import _native
from ticks import decimals, trades

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
COLUMNS = "{'symbol': 'VARCHAR', 'timestamp_utc': 'TIMESTAMP', 'price': 'DECIMAL(18,8)', 'volume': 'DECIMAL(18,8)'}"


@pytest.fixture(scope="module")
def ticks() -> pa.Table:
    assert _native.BUILD_PROFILE == "release", "build with: maturin develop --release"
    return trades(ROWS, symbols=4, days=5)


def duckdb_parquet(path: Path, folder: Path) -> float:
    """Seconds for what a user would write instead; nothing is validated, merged, aggregated or synced."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    duckdb.sql(
        f"copy (select *, timestamp_utc::date as date from read_csv('{path}', header = true, columns = {COLUMNS}) "
        f"order by symbol, timestamp_utc) to '{folder}' (format parquet, compression zstd, partition_by (symbol, date))"
    )
    return time.perf_counter() - started


class Loads:
    """Loads of the same data by turns with something else, each into a new store; only the loads are timed."""

    def __init__(self, benchmark: Any, data: object, folder: Path, between: Callable[[], object] = int) -> None:
        self.data, self.folder, self.between = data, folder, between
        self.store: bt.Store | None = None
        self.report: bt.IngestReport = benchmark.pedantic(
            self.load, setup=self.begin, teardown=self.end, rounds=ROUNDS, warmup_rounds=1
        )
        self.median_s: float = benchmark.stats.stats.median
        self.check()

    def begin(self) -> None:
        self.between()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.store = bt.open(self.folder)

    def load(self) -> bt.IngestReport:
        assert self.store is not None
        return self.store.ingest(self.data, feed="bench")

    def end(self) -> None:
        assert self.store is not None
        self.store.close()

    def check(self) -> None:
        """Nothing is missing, and the bars are of all ticks."""
        assert self.report.accepted == self.report.rows_in
        with bt.open(self.folder, read_only=True) as store:
            days = store.sql("select sum(trade_count)::bigint as n from bars where timeframe = '1d'").to_pylist()
            assert days == [{"n": self.report.accepted}]

    def __str__(self) -> str:
        report = self.report
        per_tick = report.bytes_on_disk / report.accepted
        rate = report.accepted / self.median_s / 1e6
        return f"{rate:.2f} M ticks/s, {report.files} files, {per_tick:.2f} bytes a tick with bars"


def test_csv(benchmark, ticks: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    csv.write_csv(ticks, path)
    peers_s: list[float] = []
    # by turns, so that what else the machine does falls on both
    loads = Loads(benchmark, path, tmp_path / "store", lambda: peers_s.append(duckdb_parquet(path, tmp_path / "hive")))
    assert loads.report.accepted == ticks.num_rows
    peer_s = statistics.median(peers_s[1:])
    benchmark.extra_info |= {"ratio_to_duckdb": peer_s / loads.median_s}
    print(f"\nCSV: {loads}; DuckDB {ticks.num_rows / peer_s / 1e6:.2f} M rows/s, ratio {peer_s / loads.median_s:.2f}")


def test_arrow(benchmark, ticks: pa.Table, tmp_path: Path) -> None:
    print(f"\nArrow table: {Loads(benchmark, ticks, tmp_path / 'store')}")


def test_many_symbols(benchmark, tmp_path: Path) -> None:
    """542 symbols over one day, in order of time, most of them illiquid."""
    rng = np.random.default_rng(3)
    count = min(ROWS, 2_000_000)
    names = rng.zipf(1.3, count * 4) - 1
    names = names[names < 542][:count].astype(np.int32)
    time_us = np.sort(rng.integers(0, 23_400_000_000, len(names))) + 1_704_205_800_000_000
    cents = 10_000 + names + rng.integers(-50, 50, len(names))
    symbols = pa.DictionaryArray.from_arrays(pa.array(names), pa.array([f"S{n:03}" for n in range(542)]))
    rows = pa.table(
        {
            "symbol": symbols,
            "timestamp_utc": pa.array(time_us, pa.timestamp("us")),
            "price": decimals(cents * 10**6),
            "volume": decimals(rng.integers(1, 100, len(names)) * 10**8),
        }
    )
    loads = Loads(benchmark, rows, tmp_path / "store")
    print(f"\n{len(loads.report.symbols)} symbols, {len(names):,} ticks: {loads}, {loads.median_s:.2f} s")
