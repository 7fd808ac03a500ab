"""Batches of ticks from several threads, each acknowledged when durable: the rate, and the delay at half of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr import _native
from ticks import trades

BATCH_ROWS = 1_000
THREADS = int(os.environ.get("BENCH_THREADS", "4"))
BATCHES = int(os.environ.get("BENCH_BATCHES", "400"))
"""Batches of each thread."""


@pytest.fixture(scope="module")
def ticks() -> pa.Table:
    assert _native.BUILD_PROFILE == "release", "build with: maturin develop --release"
    return trades(THREADS * BATCHES * BATCH_ROWS, symbols=1, days=5).drop_columns("symbol")


def appended(folder: Path, ticks: pa.Table, interval_s: float) -> tuple[float, np.ndarray]:
    """Seconds for all batches and the delay of each, where a thread sends one per interval, or as fast as it can."""
    delays = np.zeros((THREADS, BATCHES))
    with bt.open(folder, flush_rows=1_000_000_000) as store:

        def feed(thread: int) -> None:
            mine = ticks.slice(thread * BATCHES * BATCH_ROWS, BATCHES * BATCH_ROWS)
            began = time.perf_counter()
            for number in range(BATCHES):
                due = began + number * interval_s
                time.sleep(max(0.0, due - time.perf_counter()))
                # the delay counts from when the batch was due: one that waits for those before is late
                sent = due if interval_s else time.perf_counter()
                store.append(mine.slice(number * BATCH_ROWS, BATCH_ROWS), symbol=f"S{thread}", feed="bench")
                delays[thread, number] = time.perf_counter() - sent

        threads = [threading.Thread(target=feed, args=(thread,)) for thread in range(THREADS)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        assert store.info().ticks == ticks.num_rows
        assert len(store.ticks("S0").to_arrow()) == BATCHES * BATCH_ROWS
    return seconds, delays.ravel()


def synced(folder: Path, size: int) -> float:
    """Seconds that this disk takes to make one batch's bytes durable: what no store can be faster than."""
    with (folder / "probe").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, 200 * size)
        taken = []
        for _ in range(200):
            began = time.perf_counter()
            file.write(os.urandom(size))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def test_append(benchmark: Callable[..., object], ticks: pa.Table, tmp_path: Path) -> None:
    best = min(appended(tmp_path / str(number), ticks, 0.0)[0] for number in range(3))
    rate = ticks.num_rows / best
    interval_s = 2 * THREADS * BATCH_ROWS / rate
    _, delays = appended(tmp_path / "half", ticks, interval_s)
    at = np.percentile(delays, [50, 99]) * 1e3
    disk = synced(tmp_path, 16_384) * 1e3
    print(
        f"\n{THREADS} threads, batches of {BATCH_ROWS}: {rate / 1e6:.2f} M ticks/s acknowledged; at half of that "
        f"{at[0]:.1f} ms in the middle, {at[1]:.1f} ms at p99; a sync of this disk takes {disk:.1f} ms"
    )
    benchmark.pedantic(appended, (tmp_path / "again", ticks, 0.0), rounds=1)
