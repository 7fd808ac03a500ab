"""Latency of reads: windows of ten million stored ticks, bars, the newest ticks; with rows in memory, and without.

ArcticDB holds other libraries back, so it has an interpreter of its own: BENCH_ARCTICDB=/path/to/python.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import backtestr as bt
from ticks import trades

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
ARCTICDB = os.environ.get("BENCH_ARCTICDB")
WINDOWS = 200
DAYS = [dt.date(2024, 1, 2) + dt.timedelta(days=day) for day in range(5)]
HOUR = dt.timedelta(hours=1)
Window = tuple[str, dt.datetime, dt.datetime]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four symbols over five days, one of 542 and one of 1,000 over a day; the first one's ticks too."""
    made = tmp_path_factory.mktemp("read")
    for name, ticks in (
        ("four", trades(ROWS, symbols=4, days=5)),
        ("many", trades(ROWS // 5, symbols=542, days=1)),
        ("thousand", trades(ROWS // 10, symbols=1_000, days=1)),
    ):
        with bt.open(made / name) as store:
            store.ingest(ticks, feed="bench")
        if name == "four" and ARCTICDB:
            with pa.OSFile(str(made / "ticks.arrow"), "wb") as sink, pa.ipc.new_file(sink, ticks.schema) as writer:
                writer.write_table(ticks)
    return made


@pytest.fixture(scope="module", params=["in memory", "no cache"])
def opened(request: pytest.FixtureRequest, folder: Path) -> Iterator[Callable[[str], bt.Store]]:
    """Opens the stores, with a cache or without."""
    stores = {}
    for name in ("four", "many", "thousand"):
        options = {"hot_cache_bytes": 0} if request.param == "no cache" else {}
        stores[name] = bt.open(folder / name, read_only=True, **options)
    yield stores.__getitem__
    for store in stores.values():
        store.close()


def windows() -> list[Window]:
    draw, found = random.Random(1), []
    for _ in range(WINDOWS):
        start = dt.datetime.combine(draw.choice(DAYS), dt.time(14, 30)) + dt.timedelta(minutes=draw.randrange(330))
        found.append((f"SYM{draw.randrange(4)}", start, start + HOUR))
    return found


def measure(ask: Callable[..., Any], asked: list[Any]) -> dict[str, float]:
    """Median, 99th percentile and processor time of a request in ms, everything asked for once before."""
    for window in asked:
        ask(*window)
    times, cpu = [], time.process_time()
    for window in asked:
        started = time.perf_counter()
        ask(*window)
        times.append((time.perf_counter() - started) * 1e3)
    cpu = (time.process_time() - cpu) / len(asked) * 1e3
    times.sort()
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[int(len(times) * 0.99)], "cpu_ms": cpu}


def report(benchmark: Any, what: str, ask: Callable[..., Any], asked: list[Any]) -> None:
    figures = measure(ask, asked)
    benchmark.pedantic(ask, asked[0], rounds=5)
    benchmark.extra_info |= figures
    print(f"\n{what}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


def test_one_hour_of_ticks(benchmark: Any, opened: Callable[[str], bt.Store]) -> None:
    store, asked = opened("four"), windows()
    read = lambda *window: store.ticks(window[0], start=window[1], end=window[2]).to_arrow()  # noqa: E731
    found = read(*asked[0])
    whole = store.ticks(asked[0][0], start=asked[0][1].date(), end=asked[0][1].date() + dt.timedelta(days=1)).to_arrow()
    at = pa.array(asked[0][1:], found.schema.field("timestamp_utc").type)
    kept = pc.and_(pc.greater_equal(whole["timestamp_utc"], at[0]), pc.less(whole["timestamp_utc"], at[1]))
    assert whole.filter(kept)["sequence"].to_pylist() == found["sequence"].to_pylist()
    hits = store.cache_stats()["hot"].hits
    report(benchmark, f"one hour of ticks, {found.num_rows} rows", read, asked)
    tables = [(read(*window),) for window in asked]
    print("  the sum of its prices: p50_ms {p50_ms:.3f}".format(**measure(lambda t: pc.sum(t["price"]), tables)))
    print(f"  row groups found in memory: {store.cache_stats()['hot'].hits - hits}")


@pytest.mark.skipif(not ARCTICDB, reason="BENCH_ARCTICDB names no interpreter that has arcticdb")
def test_one_hour_of_ticks_by_arcticdb(folder: Path) -> None:
    text = json.dumps([[symbol, start.isoformat(), end.isoformat()] for symbol, start, end in windows()])
    script = Path(__file__).with_name("peer_arcticdb.py")
    command = [str(ARCTICDB), str(script), str(folder / "ticks.arrow"), str(folder / "arctic")]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)  # noqa: S603 - our own script
    print(f"\nArcticDB, one hour of ticks: {run.stdout.strip()}")


def test_one_day_of_bars(benchmark: Any, opened: Callable[[str], bt.Store]) -> None:
    store = opened("four")
    asked = [(f"SYM{n % 4}", day, day + dt.timedelta(days=1)) for n in range(20) for day in DAYS]
    read = lambda *window: store.bars(window[0], "5m", start=window[1], end=window[2]).to_arrow()  # noqa: E731
    assert read(*asked[0]).num_rows == 78
    report(benchmark, "one day of 5m bars", read, asked)


def test_one_hour_of_an_illiquid_symbol(benchmark: Any, opened: Callable[[str], bt.Store]) -> None:
    store = opened("many")
    asked = [(f"SYM{n * 5}", start, start + HOUR) for n in range(100) for start in [dt.datetime(2024, 1, 2, 16)]]
    read = lambda *window: store.ticks(window[0], start=window[1], end=window[2]).to_arrow()  # noqa: E731
    assert read(*asked[0]).num_rows
    report(benchmark, "one hour of a symbol of a 542-symbol file", read, asked)


def test_bars_of_all_symbols(benchmark: Any, opened: Callable[[str], bt.Store]) -> None:
    store = opened("many")
    read = lambda: store.bars(None, "1m").to_arrow()  # noqa: E731
    found = read()
    assert len(found["symbol"].unique()) == 542
    report(benchmark, f"1m bars of 542 symbols, {found.num_rows} rows", read, [()] * 20)


def test_newest_tick_of_each_symbol(benchmark: Any, opened: Callable[[str], bt.Store]) -> None:
    store = opened("thousand")
    names = store.symbols()
    assert store.latest(names).num_rows == 1_000
    report(benchmark, "newest tick of 1,000 symbols", lambda: store.latest(names).to_arrow(), [()] * 50)
