"""Walks: the windows of a range, each with the rows that a plain request has, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    DataCorruptError,
    StoreClosedError,
    SymbolNotFoundError,
    TimeframeError,
)
from backtestr.query.ahead import stretch
from backtestr.query.ahead.passing import Passing
from tests.query.ticks import FIRST, HOURS, ticks

LAST = FIRST + dt.timedelta(hours=HOURS)
SYMBOLS = ["A", "B", "Q"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine days over New Year: files of two months that overlap, quotes, a symbol of one hour, live rows at the end."""
    rng = random.Random(3)
    made = tmp_path_factory.mktemp("walk") / "store"
    with bt.open(made, flush_seconds="1h") as store:
        for _ in range(2):
            store.ingest(pa.concat_tables([ticks(rng, "A", 3_000), ticks(rng, "B", 40)]), feed="f")
        store.ingest(ticks(rng, "Q", 500, quotes=True), feed="q")
        store.append(ticks(rng, "A", 60), feed="f")
    return made


@pytest.fixture(scope="module")
def store(path: Path) -> Iterator[bt.Store]:
    with bt.open(path, read_only=True) as opened:
        yield opened


def no_threads() -> None:
    """Wait until no walk's thread is left; they end soon after they are told to."""
    deadline = time.monotonic() + 10
    while any(thread.name == "backtestr-walk" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a walk's thread is left behind"
        time.sleep(0.001)


def floor(at: dt.datetime, by: str) -> dt.datetime:
    """Start of a window, by the calendar."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match by:
        case "hour":
            return at.replace(minute=0, second=0, microsecond=0)
        case "day":
            return day
        case "week":
            return day - dt.timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case "4h":
            return day.replace(hour=at.hour // 4 * 4)
    raise AssertionError(by)


def following(at: dt.datetime, by: str) -> dt.datetime:
    """Start of the next window, found by looking for it."""
    jump = {"hour": 1, "4h": 4, "day": 24, "week": 24 * 7, "month": 24 * 31, "year": 24 * 366}[by]
    return floor(floor(at, by) + dt.timedelta(hours=jump), by)


def plain(rows: pa.Table) -> pa.Table:
    """One chunk without dictionaries, which may hold more than the rows need."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in rows.schema]
    columns = [column.cast(kind) for column, kind in zip(rows.columns, kinds, strict=True)]
    return pa.table(columns, rows.column_names).combine_chunks()


INSTANTS = st.none() | st.datetimes(FIRST - dt.timedelta(days=40), LAST + dt.timedelta(days=40))


@example("day", None, None, ["A"], None, False)
@example("hour", None, LAST, ["B"], "4h", False)
@example("month", FIRST, LAST, ["A", "B"], "20s", True)
@given(
    st.sampled_from(["hour", "day", "week", "month", "year", "4h"]),
    INSTANTS,
    INSTANTS,
    st.lists(st.sampled_from(["A", "B"]), min_size=1, unique=True),
    st.sampled_from([None, None, "1m", "4h", "1d", "20s"]),
    st.booleans(),
)
def test_any_walk_has_the_rows_of_plain_requests(
    store: bt.Store,
    by: str,
    start: dt.datetime | None,
    end: dt.datetime | None,
    symbols: list[str],
    timeframe: str | None,
    empty: bool,
) -> None:
    if start is not None and end is not None and start >= end:
        start, end = end, start + dt.timedelta(microseconds=1)

    def request(low: dt.datetime | None, high: dt.datetime | None) -> pa.Table:
        if timeframe is None:
            return store.ticks(symbols, start=low, end=high).to_arrow()
        return store.bars(symbols, timeframe, start=low, end=high).to_arrow()

    found = list(store.walk(symbols, start, end, by=by, timeframe=timeframe, empty=empty))
    assert sum(len(rows) for _, _, rows in found) == request(start, end).num_rows
    if not found:
        return
    low = found[0].start.replace(tzinfo=None)
    for window in found:
        begin, until = (at.replace(tzinfo=None) for at in window[:2])
        if empty:
            assert begin == low
        assert begin == floor(begin, by) or begin == start
        assert until == (following(begin, by) if end is None else min(end, following(begin, by)))
        assert low <= begin < until
        assert plain(window.rows.to_arrow()).equals(plain(request(begin, until)))
        assert empty or len(window.rows)
        low = until


@pytest.mark.parametrize("timeframe", [None, "1m", "20s"])
def test_windows_of_many_symbols(tmp_path: Path, timeframe: str | None) -> None:
    rng = random.Random(9)
    with bt.open(tmp_path / "store") as opened:
        opened.ingest(pa.concat_tables([ticks(rng, f"S{n}", 60 + 9 * n) for n in range(12)]), feed="f")
        for start, end, rows in opened.walk(None, by="4h", timeframe=timeframe):
            ask = opened.ticks if timeframe is None else partial(opened.bars, timeframe=timeframe)
            assert plain(rows.to_arrow()).equals(plain(ask(None, start=start, end=end).to_arrow()))


def test_empty_windows_come_where_they_are_asked_for(store: bt.Store) -> None:
    start, end = dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 4, 12)
    assert list(store.walk("A", start, end)) == []
    found = [(low.day, high.day, high.hour, len(rows)) for low, high, rows in store.walk("A", start, end, empty=True)]
    assert found == [(1, 2, 0, 0), (2, 3, 0, 0), (3, 4, 0, 0), (4, 4, 12, 0)]
    assert next(store.walk("A", end="2023-12-31", empty=True)).start.date() == FIRST.date()


def test_columns_prices_and_explanations_are_those_of_requests(store: bt.Store) -> None:
    start, end, rows = next(store.walk("A", columns=["price", "timestamp_utc"]))
    assert rows.to_arrow().equals(store.ticks("A", end=end, columns=["price", "timestamp_utc"]).to_arrow())
    assert rows.explain() == store.explain(symbols=["A"], start=start, end=end, columns=["price", "timestamp_utc"])
    for price in (None, "mid"):
        begin, until, bars = next(store.walk("Q", timeframe="1h", price=price, by="week"))
        assert bars.to_arrow().equals(store.bars("Q", "1h", start=begin, end=until, price=price).to_arrow())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"symbols": "C"}, SymbolNotFoundError),
        ({"by": "fortnight"}, ArgumentError),
        ({"by": 5}, ArgumentError),
        ({"by": "7m"}, ArgumentError),
        ({"columns": ["prices"]}, ArgumentError),
        ({"timeframe": "7m"}, TimeframeError),
        ({"price": "bid"}, ArgumentError),
        ({"timeframe": "1m", "columns": ["open"]}, ArgumentError),
        ({"timeframe": "1m", "price": "best"}, ArgumentError),
        ({"start": "2024-01-02", "end": "2024-01-02"}, ArgumentError),
    ],
)
def test_what_is_wrong_shows_at_once(store: bt.Store, given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        store.walk(**{"symbols": "A"} | given)
    no_threads()


def test_a_walk_of_nothing_ends(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as opened:
        assert list(opened.walk()) == []
        assert list(opened.walk(None, "2024-01-01", "2024-01-03", empty=True)) == []


def leases(path: Path) -> list[Path]:
    return list((path / "readers").iterdir())


def test_a_walk_left_early_stops(path: Path) -> None:
    with bt.open(path, read_only=True) as opened:
        for _ in opened.walk("A", by="hour"):
            break
        no_threads()
        with contextlib.suppress(ValueError), opened.walk("A", by="hour") as walk:
            raise ValueError(next(walk).start)
        assert not any(thread.name == "backtestr-walk" for thread in threading.enumerate())
        assert list(walk) == []
        with contextlib.suppress(KeyboardInterrupt):
            raise KeyboardInterrupt(next(opened.walk("A", by="hour")))
        no_threads()
        opened.walk("A", by="hour")
        gc.collect()
        no_threads()
        assert opened._storage.lease._in_use == {}


def test_a_closed_store_ends_its_walks(path: Path) -> None:
    others = leases(path)
    opened = bt.open(path, read_only=True)
    walk = opened.walk("A", by="hour")
    first = next(walk)
    past = opened.at(opened.history().to_pylist()[-1]["lsn"])
    past.close()
    assert next(walk).start > first.start
    opened.close()
    assert not any(thread.name == "backtestr-walk" for thread in threading.enumerate())
    with pytest.raises(StoreClosedError, match="walk"):
        next(walk)
    assert list(walk) == []
    assert leases(path) == others


def test_an_error_of_the_thread_comes_to_the_caller(tmp_path: Path) -> None:
    rng = random.Random(1)
    with bt.open(tmp_path / "store") as opened:
        opened.ingest(ticks(rng, "A", 3_000), feed="f")
        files = {file.interval: tmp_path / "store" / file.path for file in opened._version().of("ticks")}
    assert sorted(files) == ["2023-12", "2024-01"]
    data = bytearray(files["2024-01"].read_bytes())
    data[len(data) // 4] ^= 1
    files["2024-01"].write_bytes(data)
    with bt.open(tmp_path / "store", read_only=True) as opened:
        walk = opened.walk("A", by="day")
        got = []
        with pytest.raises(DataCorruptError):
            got.extend(window.start.day for window in walk)
        assert got == [30, 31]
        assert list(walk) == []
        no_threads()
        assert opened._storage.lease._in_use == {}


def test_a_walk_reads_one_version(tmp_path: Path) -> None:
    """Appends, loads, deletions and clean-ups beside it do not show, and take nothing that it reads."""
    rng = random.Random(2)
    with bt.open(tmp_path / "store", retention=0) as opened:
        opened.ingest(ticks(rng, "A", 3_000), feed="f")
        opened.append(ticks(rng, "A", 50), feed="f")
        before = opened.ticks("A").to_arrow()
        walk = opened.walk("A", by="hour")
        parts = [next(walk).rows.to_arrow()]
        opened.append(ticks(rng, "A", 50), feed="f")
        opened.ingest(ticks(rng, "A", 3_000), feed="f")
        opened.delete("A")
        assert opened.gc(retention=0).files == 0
        parts += [window.rows.to_arrow() for window in walk]
        assert pa.concat_tables(parts).unify_dictionaries().combine_chunks().equals(before.combine_chunks())
        assert list(opened.walk()) == []
        no_threads()
        assert opened.gc(retention=0).files


def test_a_walk_of_the_past(tmp_path: Path) -> None:
    rng = random.Random(2)
    with bt.open(tmp_path / "store") as opened:
        lsn = opened.ingest(ticks(rng, "A", 300), feed="f").lsn
        opened.delete("A")
        assert sum(len(rows) for _, _, rows in opened.walk("A", as_of=lsn)) == 300
        assert sum(len(rows) for _, _, rows in opened.at(lsn).walk("A")) == 300


def test_a_walk_leaves_the_cache_as_it_is(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", hot_cache_bytes="8MiB") as opened:
        opened.ingest(ticks(random.Random(5), "A", 60_000), feed="f")
        day = {"start": "2024-01-02", "end": "2024-01-03"}
        held = opened.ticks("A", **day).to_arrow()
        before = opened.cache_stats()["hot"]
        assert sum(window.rows.num_rows for window in opened.walk("A", by="hour")) == 60_000
        assert opened.cache_stats()["hot"] == before
        assert opened.ticks("A", **day).to_arrow().equals(held)
        assert opened.cache_stats()["hot"].misses == before.misses


def test_few_row_groups_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a read and of the one before, each decoded once."""
    rows, held = 320_000, []
    at = pa.array(np.arange(rows) * 10 * 10**9 + 1_704_067_200 * 10**9, pa.timestamp("ns"))
    price = pa.array(np.arange(rows) % 1_000 + 1).cast(pa.decimal128(21, 0))
    turn = Passing.turn

    def counted(self: Passing) -> None:
        turn(self)
        held.append(len(self._before))

    monkeypatch.setattr(stretch, "_ROWS", 20_000)
    monkeypatch.setattr(Passing, "turn", counted)
    with bt.open(tmp_path / "store", hot_cache_bytes=0) as opened:
        opened.ingest(pa.table({"timestamp_utc": at, "price": price, "volume": price}), symbol="A", feed="f")
        groups = sum(span.groups for span in opened._version().listing.spans("A"))
        assert sum(window.rows.num_rows for window in opened.walk("A", by="hour")) == rows
    assert groups > 9
    assert len(held) > 15
    assert max(held) <= 3


def test_little_waits(store: bt.Store) -> None:
    walk = store.walk("A", by="hour")
    deadline = time.monotonic() + 10
    while len(walk._belt._waiting) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(walk._belt._waiting) == 2
    starts = [window.start for window in walk]
    assert starts == sorted(starts)
    assert walk.passed == len(starts)
    assert walk.waits < walk.passed


def test_without_a_cache_one_stretch_waits(path: Path) -> None:
    with bt.open(path, read_only=True, hot_cache_bytes=0) as opened:
        walk = opened.walk("A", by="day")
        windows = [next(walk)]
        time.sleep(0.02)
        assert len(walk._belt._waiting) <= 1
        assert sum(len(rows) for _, _, rows in [*windows, *walk]) == opened.ticks("A").num_rows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told(path: Path) -> None:
    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
import backtestr as bt
store = bt.open({str(path)!r}, read_only=True)
walk = store.walk("A", by="hour")
next(walk)
child = os.fork()
if child == 0:
    try:
        next(walk)
    except bt.errors.StoreClosedError:
        walk.close()
        del walk
        sys.exit(7)
    sys.exit(8)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, len(list(walk)) > 100)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["7", "True"]


@pytest.mark.parametrize("ending", ["", "walk = None", "raise SystemExit", "store.close()"])
def test_the_interpreter_ends_beneath_a_walk(path: Path, ending: str) -> None:
    script = f"import backtestr as bt; store = bt.open({str(path)!r}); walk = store.walk(None, by='hour'); {ending}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr == ""
