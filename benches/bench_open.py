"""Opening and asking a store of 100,000 files, 1,000,000 entries of (file, symbol), and 64 MiB of log behind them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import backtestr as bt
from backtestr.storage.layout import DAY_NS
from sizes import FIRST_DAY, SYMBOLS, loads, make_store

FILES = 100_000
TAIL_BYTES = 64 << 20


def opened(path: Path, *, read_only: bool) -> float:
    """Seconds until a store can be read, or written."""
    began = time.perf_counter()
    store = bt.open(path, read_only=read_only)
    if not read_only:
        store._writable().journal.begin()
    seconds = time.perf_counter() - began
    # a snapshot at close would spare the next run the log
    store._readable().journal._saved_lsn = store._version().lsn
    store.close()
    return seconds


def test_open(benchmark: Callable[..., object], tmp_path: Path) -> None:
    path = tmp_path / "store"
    records = make_store(path, files=FILES, tail_bytes=TAIL_BYTES)
    opened(path, read_only=True)
    told = [
        f"{what} {statistics.median(opened(path, read_only=read_only) for _ in range(5)):.2f} s"
        for what, read_only in (("to read", True), ("to write", False))
    ]
    began = time.perf_counter()
    (path / "log" / "00000000000000000001.log").read_bytes()
    print(
        f"\nopen with {records:,} records behind the snapshot: {', '.join(told)}; reading the log's bytes alone "
        f"{time.perf_counter() - began:.2f} s"
    )
    benchmark.pedantic(lambda: opened(path, read_only=True), rounds=3)


def test_commit_and_prune(benchmark: Callable[..., object], tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_store(path, files=FILES, tail_bytes=1)
    with bt.open(path) as store:
        journal = store._writable().journal
        journal.begin()
        new, taken = loads(2 * FILES), []
        for _ in range(200):
            commit = next(new)
            began = time.perf_counter()
            journal.commit(commit)
            taken.append(1e3 * (time.perf_counter() - began))
        listing = journal.version.listing
        began = time.perf_counter()
        listing.spans("S0001")
        first = 1e3 * (time.perf_counter() - began)
        draw, asked = np.random.default_rng(1), []

        def ask() -> None:
            day = FIRST_DAY + int(draw.integers(0, FILES * 10 // SYMBOLS))
            began = time.perf_counter()
            assert listing.spans(f"S{draw.integers(SYMBOLS):04}", day * DAY_NS, (day + 5) * DAY_NS)
            asked.append(1e3 * (time.perf_counter() - began))

        for _ in range(1_000):
            ask()
        size = listing.nbytes
        print(
            f"\n{FILES:,} files: a commit {np.median(taken):.2f} ms, p99 {np.percentile(taken, 99):.1f}; the first "
            f"request {first:.0f} ms, then {np.median(asked):.2f}, p99 {np.percentile(asked, 99):.2f}; "
            f"index {size / 1e6:.0f} MB"
        )
        benchmark.pedantic(ask, rounds=100)
        journal._saved_lsn = journal.version.lsn
