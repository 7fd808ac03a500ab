"""One writer that ingests, appends, deletes, checkpoints and cleans up beside readers that are killed now and then.

Every answer must be that of one committed version: after commit n the volumes are those of `expected(n)`.
It fails on the first wrong answer.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Any

import pyarrow as pa

import backtestr as bt
from backtestr.errors import VersionNotFoundError
from backtestr.persist import gc

FIRST = 4
"""LSN from which on the cycle of commits runs."""
_CYCLE, _APPENDS = 7, {4, 5}
_ROWS = 60
_EXTRA = 7
_DAY_NS = 86_400 * 10**9


def expected(lsn: int) -> dict[str, int]:
    """Volume by symbol after a commit: A is set to its number, B comes, goes, A is set, L grows twice, is flushed."""
    cycle, step = divmod(lsn - FIRST, _CYCLE)
    volumes = {"A": lsn - (0, 1, 2, 0, 1, 2, 3)[step]}
    volumes |= {"B": _EXTRA} if step == 1 else {}
    live = 2 * cycle + (0, 0, 0, 0, 1, 2, 2)[step]
    return volumes | ({"L": live} if live else {})


def has_live_rows(lsn: int) -> bool:
    """Whether rows are live after a commit: the next change of files would flush them, by a commit of its own."""
    return (lsn - FIRST) % _CYCLE in _APPENDS


def commit(store: bt.Store, lsn: int) -> None:
    """Make the commit of that number."""
    cycle, step = divmod(lsn - FIRST, _CYCLE)
    if step == 1:
        done = store.ingest(_rows("B", [_EXTRA] + [0] * 5), feed="soak").lsn
    elif step == 2:
        done = store.delete("B").lsn
    elif step in _APPENDS:
        row = _rows("L", [1]).set_column(1, "timestamp_utc", pa.array([2 * cycle + step], pa.timestamp("ms")))
        done = store.append(row, feed="soak").lsn
    elif step == _CYCLE - 1:
        done = store.checkpoint()
    else:
        volumes = [lsn if row == lsn % _ROWS else 0 for row in range(_ROWS)]
        done = store.ingest(_rows("A", volumes), feed="soak", mode="replace").lsn
    if done != lsn:
        raise AssertionError(f"commit {done} where {lsn} was due")


def _rows(symbol: str, volumes: list[int]) -> pa.Table:
    return pa.table(
        {
            "symbol": [symbol] * len(volumes),
            "timestamp_utc": pa.array([day * _DAY_NS for day in range(len(volumes))], pa.timestamp("ns")),
            "price": ["1.5"] * len(volumes),
            "volume": [str(volume) for volume in volumes],
        }
    )


def begin(path: Path) -> None:
    """Make the store, and commits up to where the cycle begins."""
    with bt.open(path) as store:
        while store.info().lsn < FIRST - 1:
            store.ingest(_rows("A", [store.info().lsn + 1]), feed="soak", mode="replace")
        commit(store, FIRST)


def _by_ticks(store: bt.Store, lsn: int | None) -> dict[str, int]:
    rows = store.ticks(columns=["symbol", "volume"], as_of=lsn).to_arrow()
    return _sums(rows)


def _by_sql(store: bt.Store, lsn: int | None) -> dict[str, int]:
    rows = store.sql("select symbol, sum(volume) as volume from ticks group by all", as_of=lsn).to_pylist()
    return {row["symbol"]: int(row["volume"]) for row in rows}


def _by_bars(store: bt.Store, lsn: int | None) -> dict[str, int]:
    timeframe = random.choice(["1m", "1d", "20m"])
    return _sums(store.bars(None, timeframe, as_of=lsn).to_arrow().select(["symbol", "volume"]))


def _sums(rows: pa.Table) -> dict[str, int]:
    plain = rows.set_column(0, "symbol", rows["symbol"].cast(pa.string()))
    sums = plain.group_by("symbol").aggregate([("volume", "sum")]).to_pylist()
    return {row["symbol"]: int(row["volume_sum"]) for row in sums}


_ASK = (_by_ticks, _by_sql, _by_bars)


def _judge(answer: dict[str, int], lsn: int, how: str) -> None:
    if answer != expected(lsn):
        raise AssertionError(f"{how} of version {lsn}: {answer}, not {expected(lsn)}")


def read(path: str, seed: int, ready: Semaphore, stop: Event, results: Any) -> None:
    """Ask again and again until told to stop; the first wrong answer or error is the result."""
    ready.release()
    random.seed(seed)
    asked: Counter[str] = Counter()
    failure = None
    try:
        while not stop.is_set():
            with bt.open(path, read_only=True, threads=1) as store:
                _ask_for_a_while(store, stop, asked)
    except BaseException:
        failure = traceback.format_exc()
    results.put((dict(asked), failure))


def _ask_for_a_while(store: bt.Store, stop: Event, asked: Counter[str]) -> None:
    wrong: list[BaseException] = []
    over = threading.Event()

    def beside() -> None:
        """Ask while the other thread refreshes: whichever version it is, the answer must be that of one."""
        try:
            while not over.is_set():
                answer = _by_ticks(store, None)
                if not any(answer == expected(answer["A"] + more) for more in range(4)):
                    raise AssertionError(f"no version has {answer}")
                asked["beside"] += 1
                time.sleep(0.05)
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        for _ in range(random.randrange(5, 40)):
            if stop.is_set():
                break
            _ask_once(store, asked)
            time.sleep(random.uniform(0, 0.05))
    finally:
        over.set()
        thread.join()
    if wrong:
        raise wrong[0]


def _ask_once(store: bt.Store, asked: Counter[str]) -> None:
    ask, lsn = random.choice(_ASK), store.info().lsn
    kind = random.choice(["now", "now", "refresh", "past", "as_of"])
    asked[kind] += 1
    if kind == "refresh":
        store.refresh()
    elif kind == "now":
        _judge(ask(store, None), lsn, ask.__name__)
    else:
        then = random.randint(max(FIRST, lsn - 12), lsn)
        try:
            if kind == "as_of":
                _judge(ask(store, then), then, f"as_of {ask.__name__}")
                return
            past = store.at(then)
        except VersionNotFoundError:
            asked["gone"] += 1
            return
        for _ in range(3):
            store.refresh()
            _judge(random.choice(_ASK)(past, None), then, "at")
        past.close()


class Stopwatch:
    """How long the writer spends on anything a reader holds."""

    def __init__(self) -> None:
        self.lock_s = self.leases_s = 0.0
        self._flock, self._read_leases = fcntl.flock, gc.read_leases

    def start(self) -> None:
        """Time all locks that this process takes or tries, and all looks at leases."""
        fcntl.flock = self._timed_flock
        gc.read_leases = self._timed_leases

    def _timed_flock(self, *arguments: Any) -> None:
        began = time.perf_counter()
        try:
            self._flock(*arguments)
        finally:
            self.lock_s = max(self.lock_s, time.perf_counter() - began)

    def _timed_leases(self, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._read_leases(*arguments, **options)
        finally:
            self.leases_s = max(self.leases_s, time.perf_counter() - began)


def soak(path: Path, *, seconds: float, readers: int) -> dict[str, Any]:
    """Run it; gives the figures.

    Raises:
        AssertionError: a reader got a wrong answer or an error, or the store is not in order afterwards.
    """
    begin(path)
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()

    def start(seed: int) -> Any:
        process = context.Process(target=read, args=(str(path), seed, ready, stop, results), daemon=True)
        process.start()
        return process

    running = [start(seed) for seed in range(readers)]
    for _ in range(readers):
        # a slow machine takes seconds to import
        assert ready.acquire(timeout=60), "a reader does not begin"
    watch, removed, held, killed, lsn = Stopwatch(), Counter[str](), 0, 0, FIRST
    watch.start()
    began = time.monotonic()
    killed_at = began
    try:
        with bt.open(path, flush_seconds=86_400) as store:
            while time.monotonic() - began < seconds and results.empty():
                lsn += 1
                commit(store, lsn)
                if lsn % 5 == 0 and not has_live_rows(lsn):
                    store.checkpoint()
                if lsn % 3 == 0 and not has_live_rows(lsn):
                    report = store.gc(retention=0 if lsn % 2 else 0.5)
                    removed.update({"files": report.files, "snapshots": report.snapshots, "leases": report.leases})
                    held = max(held, report.held_by_leases)
                if time.monotonic() - killed_at > 2.5:
                    victim = random.randrange(readers)
                    os.kill(running[victim].pid, signal.SIGKILL)
                    running[victim].join()
                    killed, killed_at = killed + 1, time.monotonic()
                    running[victim] = start(readers + killed)
    finally:
        stop.set()
    asked: Counter[str] = Counter()
    for _ in range(readers):
        counts, failure = results.get(timeout=60)
        asked.update(counts)
        if failure:
            raise AssertionError(f"a reader failed:\n{failure}")
    for process in running:
        process.join()
    with bt.open(path) as store:
        _judge(_by_sql(store, None), lsn, "sql at the end")
        left = store.gc(retention=0, grace_s=0)
        report = store.verify(deep=True)
        found = {file for file in (path / "data").rglob("*.parquet") if file.parent.name != "empty"}
        if not report.ok or report.orphans or len(found) != store.info().files or left.held_by_leases:
            raise AssertionError(f"afterwards: {report}\n{left}\n{len(found)} files, {store.info().files} live")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "readers": readers,
        "killed": killed,
        "commits": lsn,
        "answers": dict(asked),
        "removed": dict(removed),
        "most_files_held_by_leases": held,
        "longest_lock_ms": round(watch.lock_s * 1e3, 3),
        "longest_look_at_leases_ms": round(watch.leases_s * 1e3, 3),
    }
