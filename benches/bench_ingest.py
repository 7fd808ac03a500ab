"""Files and frames into a committed store, validated and with bars, beside DuckDB's bare CSV to partitioned Parquet."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

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


def ingested(data: object, folder: Path, **options: object) -> bt.IngestReport:
    """The report of a load into a store of its own: made, opened, loaded and closed."""
    shutil.rmtree(folder, ignore_errors=True)
    with bt.open(folder) as store:
        return store.ingest(data, feed="bench", **options)


def check(report: bt.IngestReport, folder: Path) -> None:
    """Nothing is missing, and the bars are of all ticks."""
    assert report.is_reconciled
    assert report.accepted == report.rows_in
    with bt.open(folder, read_only=True) as store:
        days = store.sql("select sum(trade_count)::bigint as n from bars where timeframe = '1d'").to_pylist()
        assert days == [{"n": report.accepted}]


def said(what: str, report: bt.IngestReport) -> str:
    per_tick = report.bytes_on_disk / report.accepted
    return (
        f"{what}: {report.ticks_per_s / 1e6:.2f} M ticks/s, {report.files} files, {per_tick:.2f} bytes a tick with bars"
    )


def test_csv(benchmark, ticks: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    csv.write_csv(ticks, path)
    peers_s: list[float] = []

    def peer() -> None:
        # by turns with ours, so that what else the machine does falls on both
        peers_s.append(duckdb_parquet(path, tmp_path / "hive"))

    report = benchmark.pedantic(
        ingested, (path, tmp_path / "store"), {"source": "csv"}, setup=peer, rounds=ROUNDS, warmup_rounds=1
    )
    check(report, tmp_path / "store")
    ours_s, peer_s = benchmark.stats.stats.median, statistics.median(peers_s[1:])
    benchmark.extra_info |= {"ticks_per_s": ticks.num_rows / ours_s, "ratio_to_duckdb": peer_s / ours_s}
    print(
        f"\n{said('CSV', report)}; medians of {ROUNDS}, the store made, opened and closed too: "
        f"{ticks.num_rows / ours_s / 1e6:.2f} M ticks/s, DuckDB {ticks.num_rows / peer_s / 1e6:.2f}, "
        f"ratio {peer_s / ours_s:.2f}"
    )


def test_arrow(benchmark, ticks: pa.Table, tmp_path: Path) -> None:
    report = benchmark.pedantic(ingested, (ticks, tmp_path / "store"), rounds=ROUNDS, warmup_rounds=1)
    check(report, tmp_path / "store")
    benchmark.extra_info |= {"ticks_per_s": report.ticks_per_s}
    print(f"\n{said('Arrow table', report)}")


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
    report = benchmark.pedantic(ingested, (rows, tmp_path / "store"), rounds=ROUNDS, warmup_rounds=1)
    check(report, tmp_path / "store")
    benchmark.extra_info |= {"files": report.files, "seconds": report.seconds}
    print(f"\n{said(f'{len(report.symbols)} symbols, {len(names):,} ticks', report)}, {report.seconds:.2f} s")
