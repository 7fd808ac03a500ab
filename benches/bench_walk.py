"""Reading ahead: walks over 250 days, declared and not, symbols asked together, random requests; each beside without.

Every consumer works on a window as long as a plain request for one takes. It is `computing` (sums in Arrow, which leave
the interpreter to others), `waiting` (for a network, say), or a `python` loop that holds the interpreter.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import backtestr as bt
from ticks import trades

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
DAYS = 250
ROUNDS = 5
FIRST = dt.datetime(2024, 1, 2)
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
Request = tuple[str, dt.datetime, dt.datetime]
Work = Callable[[bt.Frame, float], None]


def computing(rows: bt.Frame, seconds: float) -> None:
    until, prices = time.perf_counter() + seconds, rows.to_arrow()["price"]
    while time.perf_counter() < until:
        pc.sum(prices)


def waiting(_: bt.Frame, seconds: float) -> None:
    time.sleep(seconds)


def python(_: bt.Frame, seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


WORKS: list[Work] = [computing, waiting, python]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols, each with 250 days of ``ROWS / 250`` ticks."""
    made = tmp_path_factory.mktemp("walk") / "store"
    with bt.open(made) as store:
        store.ingest(trades(2 * ROWS, symbols=2, days=DAYS), feed="bench")
    return made


@pytest.fixture
def open_store(path: Path, tmp_path: Path) -> Iterator[Callable[..., bt.Store]]:
    opened: list[bt.Store] = []

    def make(**options: Any) -> bt.Store:
        opened.append(bt.open(path, read_only=True, state_dir=tmp_path / f"{len(opened)}", **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def day(number: int) -> Request:
    return "SYM0", FIRST + number * DAY, FIRST + (number + 1) * DAY


def ask(store: bt.Store, request: Request) -> bt.Frame:
    return store.ticks(request[0], start=request[1], end=request[2])


def one_decode_s(store: bt.Store) -> float:
    """Seconds of a plain request for a day that is not in memory, the median."""
    times = []
    for number in range(0, DAYS, 5):
        started = time.perf_counter()
        ask(store, day(number))
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def go(store: bt.Store, requests: Iterable[Request], work: Callable[[bt.Frame], None]) -> tuple[float, list[bool]]:
    """Seconds in all, and whether each request found its rows in memory."""
    groups, hits = store._readable().reader.groups, []
    started = time.perf_counter()
    for request in requests:
        before = groups.decoded_bytes
        rows = ask(store, request)
        hits.append(groups.decoded_bytes == before)
        work(rows)
    return time.perf_counter() - started, hits


def resident_mib() -> float:
    """Memory of this process that is its own: pages of files are left out."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("work", WORKS)
def test_declared_walk(benchmark: Any, open_store: Callable[..., bt.Store], work: Work) -> None:
    plain, store = open_store(read_ahead="off", hot_cache_bytes="64MiB"), open_store(hot_cache_bytes="64MiB")
    seconds = one_decode_s(plain)
    expected = [ask(plain, day(number)).num_rows for number in range(DAYS)]
    ratios, waits, memory = [], [], []
    for _ in range(ROUNDS):
        plain.clear_cache()
        without_s, _hits = go(plain, map(day, range(DAYS)), lambda rows: work(rows, seconds))
        found = []
        started = time.perf_counter()
        walk = store.walk("SYM0", by="day")
        for window in walk:
            found.append(window.rows.num_rows)
            work(window.rows, seconds)
            if len(found) in {DAYS // 5, DAYS}:
                memory.append(resident_mib())
        ratios.append(without_s / (time.perf_counter() - started))
        waits.append(walk.waits)
        assert found == expected
    ratios.sort()
    hit_rate = 1 - sorted(waits)[ROUNDS // 2] / DAYS
    figures = {
        "ratio": ratios[ROUNDS // 2],
        "hit_rate": hit_rate,
        "grown_mib": max(late - early for early, late in zip(memory[::2], memory[1::2], strict=True)),
        "decode_ms": seconds * 1e3,
    }
    benchmark.pedantic(lambda: sum(1 for _ in store.walk("SYM0", by="day")), rounds=2)
    report(benchmark, f"declared walk over {DAYS} days, {work.__name__}", figures)
    print(f"  times as fast, each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


@pytest.mark.parametrize("work", WORKS)
def test_undeclared_walk(benchmark: Any, open_store: Callable[..., bt.Store], work: Work) -> None:
    seconds = one_decode_s(open_store(read_ahead="off"))
    ratios, rates = [], []
    for _ in range(ROUNDS):
        taken = {}
        for name in ("off", "on"):
            with open_store(read_ahead=name, hot_cache_bytes="256MiB") as store:
                taken[name], hits = go(store, map(day, range(DAYS)), lambda rows: work(rows, seconds))
                stats = store.cache_stats()["ahead"]
        ratios.append(taken["off"] / taken["on"])
        rates.append(sum(hits[5:]) / len(hits[5:]))
    figures = {
        "ratio": sorted(ratios)[ROUNDS // 2],
        "hit_rate": sorted(rates)[ROUNDS // 2],
        "wasted": stats.wasted_bytes / max(stats.read_bytes, 1),
    }
    benchmark.pedantic(lambda: None)
    report(benchmark, f"undeclared walk over {DAYS} days, {work.__name__}", figures)


def test_two_symbols_asked_together(benchmark: Any, open_store: Callable[..., bt.Store]) -> None:
    store = open_store()
    seconds = one_decode_s(open_store(read_ahead="off"))
    days = random.Random(3).sample(range(DAYS), 100)
    requests = [(symbol, *day(number)[1:]) for number in days for symbol in ("SYM0", "SYM1")]
    _, hits = go(store, requests, lambda rows: waiting(rows, seconds))
    second = hits[11::2]
    benchmark.pedantic(lambda: None)
    report(benchmark, "two symbols asked together", {"hit_rate": sum(second) / len(second)})


def test_random_requests(benchmark: Any, open_store: Callable[..., bt.Store]) -> None:
    store, draw = open_store(hot_cache_bytes="256MiB"), random.Random(4)
    starts = [
        FIRST + draw.randrange(DAYS) * DAY + dt.timedelta(minutes=14 * 60 + draw.randrange(390)) for _ in range(3_000)
    ]
    requests = [(f"SYM{draw.randrange(2)}", start, start + draw.choice([HOUR, DAY])) for start in starts]
    go(store, requests, lambda rows: waiting(rows, 0.001))
    stats, groups = store.cache_stats()["ahead"], store._readable().reader.groups
    read = stats.read_bytes + groups.decoded_bytes
    benchmark.pedantic(lambda: None)
    report(benchmark, "random requests", {"wasted": stats.wasted_bytes / read, "read_mib": read / 2**20})


def test_what_the_caller_pays(benchmark: Any, open_store: Callable[..., bt.Store]) -> None:
    """Hours of one day in memory, in blocks of a thousand requests, by turns with and without."""
    stores = {"with": open_store(), "without": open_store(read_ahead="off")}
    draw, times = random.Random(5), {"with": [], "without": []}
    starts = [FIRST + dt.timedelta(minutes=14 * 60 + 30 + draw.randrange(330)) for _ in range(1_000)]
    for number in range(20):
        for name, store in stores.items():
            for start in starts:
                began = time.perf_counter()
                ask(store, ("SYM0", start, start + HOUR))
                if number:
                    times[name].append((time.perf_counter() - began) * 1e6)
    figures = {}
    for name, some in times.items():
        some.sort()
        figures |= {f"{name}_p50_us": some[len(some) // 2], f"{name}_p99_us": some[len(some) * 99 // 100]}
        figures[f"{name}_mean_us"] = sum(some) / len(some)
    benchmark.pedantic(lambda: ask(stores["with"], ("SYM0", starts[0], starts[0] + HOUR)), rounds=5)
    report(benchmark, "one hour of ticks in memory", figures)


def report(benchmark: Any, what: str, figures: dict[str, float]) -> None:
    benchmark.extra_info |= figures
    print(f"\n{what}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
