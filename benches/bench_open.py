"""Opening and asking a store of 100,000 files, 1,000,000 entries of (file, symbol), and 64 MiB of log behind them."""

from __future__ import annotations

import statistics
import subprocess
import sys
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


MEMORY = """
import backtestr as bt, gc, pathlib, sys

def megabytes():
    gc.collect()
    told = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(told["VmRSS"].split()[0]) * 1_024 / 1e6

day = 86_400_000_000_000
store = bt.open(sys.argv[1], read_only=True)
listing = store._version().listing
print(megabytes())
symbol = store.symbols()[0]
for ask in (
    lambda: listing.spans(symbol, 10_957 * day, 10_962 * day),
    lambda: store.latest(symbol),
    lambda: store.latest(),
    lambda: store.info(),
    lambda: listing.files_of("ticks", 10_957 * day, 10_962 * day),
    lambda: store.clear_cache(symbol),
):
    ask()
print(megabytes())
print(listing.nbytes / 1e6)
store._readable().journal._saved_lsn = store._version().lsn
store.close()
"""


def memory(path: Path) -> list[float]:
    """MB of a process that opened a store, and of one that also asked for something of each kind; its index alone."""
    command = [sys.executable, "-c", MEMORY, str(path)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return [float(line) for line in run.stdout.split()]


def test_memory(benchmark: Callable[..., object], tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    make_store(large, files=FILES, tail_bytes=1)
    make_store(small, files=1, tail_bytes=1)
    opened_, asked, own = (one - other for one, other in zip(memory(large), memory(small), strict=True))
    print(
        f"\n{FILES:,} files: the index takes {own:.0f} MB by its own account; the process takes {opened_:.0f} MB more "
        f"than for one file once it is open, {asked:.0f} MB after the first requests"
    )
    assert asked < 200
    benchmark.pedantic(lambda: memory(small), rounds=1)


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
        names = [f"S{number:04}" for number in range(1_000)]
        listing.last_rows(names)
        began = time.perf_counter()
        listing.last_rows(names)
        newest = 1e3 * (time.perf_counter() - began)
        print(
            f"\n{FILES:,} files: a commit {np.median(taken):.2f} ms, p99 {np.percentile(taken, 99):.1f}; the first "
            f"request {first:.0f} ms, then {np.median(asked):.2f}, p99 {np.percentile(asked, 99):.2f}; "
            f"the newest ticks of 1,000 symbols {newest:.1f} ms"
        )
        benchmark.pedantic(ask, rounds=100)
        journal._saved_lsn = journal.version.lsn
