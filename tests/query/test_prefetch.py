"""Rows that wait before they are asked for: the same rows, few for nothing, and no thread that outlives its store."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.query.ahead.predict import Asked, Predictor
from backtestr.query.ahead.rows import Filling, StoppedError, has_rows
from backtestr.query.ahead.state import load_state, save_state
from backtestr.storage.waiting import WaitingGroups

DAY = 86_400 * 10**9
FIRST = 19_724 * DAY
"""2024-01-02, a Tuesday."""
DAYS, EACH = 30, 20_000
MIB = 1 << 20


def trades(symbol: str, seed: int, each: int = EACH) -> pa.Table:
    """Trades between 14:00 and 20:00 of weekdays."""
    draw = np.random.default_rng(seed)
    days = [FIRST + n * DAY for n in range(DAYS * 7 // 5 + 2) if (n + 1) % 7 < 5][:DAYS]
    times = [day + np.sort(draw.integers(14 * 3_600, 20 * 3_600, each)) * 10**9 for day in days]
    return pa.table(
        {
            "symbol": [symbol] * (DAYS * each),
            "timestamp_utc": pa.array(np.concatenate(times), pa.timestamp("ns")),
            "price": pa.array(10_000 + np.cumsum(draw.integers(-1, 2, DAYS * each))).cast(pa.decimal128(21, 2)),
            "volume": pa.array(draw.integers(1, 900, DAYS * each)).cast(pa.decimal128(21, 0)),
        }
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ahead") / "store"
    with bt.open(made) as store:
        store.ingest(pa.concat_tables([trades(symbol, seed) for seed, symbol in enumerate("ABC")]), feed="f")
    return made


def weekday(number: int) -> int:
    return FIRST + ((number + 1) // 5 * 7 + (number + 1) % 5 - 1) * DAY


def settle(store: bt.Store) -> None:
    """Wait until all that was foretold is read, and then as if the caller worked for a while."""
    ahead = store._ahead
    assert ahead is not None
    deadline = time.monotonic() + 10
    while (thread := ahead._thread) is not None and not (ahead._calls.empty() and ahead.is_idle):
        assert thread.is_alive(), "the thread ended"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    ahead._noted_s = ahead._next_s = 0.0


Request = Callable[[bt.Store], Any]


def ticks(symbol: str, start: int, length: int = DAY, **more: Any) -> Request:
    return lambda store: store.ticks(symbol, start=start, end=start + length, **more)


def bars(symbol: str, timeframe: str, start: int, length: int = DAY) -> Request:
    return lambda store: store.bars(symbol, timeframe, start=start, end=start + length)


def from_files(store: bt.Store, requests: Iterable[Request]) -> list[bool]:
    """Whether each request had to decode something, the ones before thought about."""
    found = []
    for request in requests:
        before = store._readable().reader.groups.decoded_bytes
        request(store)
        found.append(store._readable().reader.groups.decoded_bytes > before)
        settle(store)
    return found


@pytest.fixture
def opened(path: Path) -> Iterator[bt.Store]:
    with bt.open(path, read_only=True) as store:
        yield store


WALKS = {
    "weekdays": [ticks("A", weekday(n)) for n in range(DAYS)],
    "all days": [ticks("A", FIRST + n * DAY) for n in range(DAYS)],
    "backwards": [ticks("A", weekday(DAYS - 1 - n)) for n in range(DAYS)],
    "two symbols": [ticks(symbol, weekday(n)) for n in range(DAYS) for symbol in "AB"],
    "columns": [ticks("A", weekday(n), columns=["price"]) for n in range(DAYS)],
    "stored bars": [bars("A", "1m", weekday(n)) for n in range(DAYS)],
    "computed bars": [bars("A", "20s", weekday(n)) for n in range(DAYS)],
    "weeks": [ticks("A", FIRST + (6 + 7 * n) * DAY, 7 * DAY) for n in range(7)],
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_that_nobody_declared_is_read_ahead(opened: bt.Store, name: str) -> None:
    later = from_files(opened, WALKS[name])[10 if name == "two symbols" else 5 :]
    assert sum(later) <= 0.1 * len(later)
    stats = opened.cache_stats()["ahead"]
    assert stats.wasted_bytes <= 0.05 * stats.read_bytes
    assert stats.came_true <= stats.predictions
    if name != "stored bars":
        assert stats.came_true + stats.outstanding + stats.cancelled >= 0.9 * stats.predictions > 0


def test_without_it_the_same_walk_comes_from_files(path: Path) -> None:
    with bt.open(path, read_only=True, read_ahead="off") as store:
        groups = store._readable().reader.groups
        found = []
        for request in WALKS["weekdays"]:
            before = groups.decoded_bytes
            request(store)
            found.append(groups.decoded_bytes > before)
        # a group of rows has more than three days
        assert sum(found) > DAYS // 4
        assert store._ahead is None
        assert set(store.cache_stats()["ahead"].to_dict().values()) == {0}


def test_it_holds_where_the_cache_takes_no_more(path: Path) -> None:
    """A full cache refuses what was not asked for before."""
    with bt.open(path, read_only=True, hot_cache_bytes="40MiB") as store:
        for symbol in "BC":
            for _ in range(3):
                store.ticks(symbol)
        later = from_files(store, WALKS["weekdays"])[5:]
        assert store.cache_stats()["hot"].evictions
        assert sum(later) <= 0.1 * len(later)


def test_two_symbols_that_are_asked_together(opened: bt.Store) -> None:
    draw = random.Random(4)
    days = draw.sample(range(DAYS), DAYS)
    found = from_files(opened, [ticks(symbol, weekday(n)) for n in days for symbol in "AB"])
    second = found[11::2]
    assert sum(second) <= 0.1 * len(second)


def test_of_random_requests_little_is_read_for_nothing(opened: bt.Store) -> None:
    draw = random.Random(5)
    hours = [weekday(draw.randrange(DAYS)) + draw.randrange(14 * 60, 20 * 60) * 60 * 10**9 for _ in range(300)]
    from_files(opened, [ticks(draw.choice("ABC"), start, 3_600 * 10**9) for start in hours])
    stats, groups = opened.cache_stats()["ahead"], opened._readable().reader.groups
    assert stats.wasted_bytes + opened._ahead._waiting.bytes <= 0.1 * groups.decoded_bytes  # type: ignore[union-attr]


def test_where_much_was_for_nothing_it_keeps_quiet(path: Path) -> None:
    """Walks that end as soon as they are believed in."""
    with bt.open(path, read_only=True, hot_cache_bytes="32MiB") as store:
        ahead = store._ahead
        assert ahead is not None
        ahead._waiting.wasted_bytes = 10 * MIB
        from_files(store, WALKS["weekdays"][:20])
        assert ahead.stats().predictions == 0
        ahead._waiting.wasted_bytes = 0
        from_files(store, WALKS["weekdays"][20:])
        assert ahead.stats().predictions > 0


def test_outstanding_predictions_are_few_and_are_dropped(path: Path) -> None:
    with bt.open(path, read_only=True) as store:
        for symbol in "ABC":
            from_files(store, [ticks(symbol, weekday(n)) for n in range(9)])
            assert store.cache_stats()["ahead"].outstanding <= 10
        assert store.cache_stats()["ahead"].outstanding > 3
        draw = random.Random(6)
        for _ in range(80):
            store.clear_cache()
            start = weekday(draw.randrange(20, DAYS)) + draw.randrange(14 * 3_600) * 10**9
            from_files(store, [ticks("C", start, 3_600 * 10**9)])
        stats = store.cache_stats()["ahead"]
        assert stats.outstanding <= 3
        assert stats.read_bytes == stats.used_bytes + stats.wasted_bytes + sum(
            one.bytes
            for one in store._ahead._waiting._groups.values()
            if not one.is_used  # type: ignore[union-attr]
        )


def plain_rows(rows: pa.Table) -> pa.Table:
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in rows.schema]
    columns = [column.cast(kind) for column, kind in zip(rows.columns, kinds, strict=True)]
    return pa.table(columns, rows.column_names).combine_chunks()


@pytest.mark.parametrize("seed", range(3))
def test_what_waits_is_what_is_stored(path: Path, seed: int, tmp_path: Path) -> None:
    """Walks of several symbols and columns beside changes of the store, next to a store without memory."""
    draw = random.Random(seed)
    with bt.open(tmp_path / "store", hot_cache_bytes=draw.choice(["4MiB", "1GiB"]), retention=0) as store:
        store.ingest(pa.concat_tables([trades("A", seed, 3_000), trades("B", seed + 9, 3_000)]), feed="f")
        for number in range(50):
            symbol, columns = draw.choice("AAAB"), draw.choice([None, None, ["volume", "price"]])
            day = weekday(number % DAYS)
            found = store.ticks(symbol, start=day, end=day + DAY, columns=columns).to_arrow()
            if number % 3:
                settle(store)
            with bt.open(tmp_path / "store", read_only=True, hot_cache_bytes=0) as plain:
                other = plain.ticks(symbol, start=day, end=day + DAY, columns=columns).to_arrow()
            assert plain_rows(found).equals(plain_rows(other))
            match draw.randrange(12):
                case 0:
                    store.delete(symbol, start=day + 2 * DAY, end=day + 2 * DAY + DAY // 2 + 3 * 3_600 * 10**9)
                case 1:
                    rows = trades(symbol, number, 3_000).slice(draw.randrange(DAYS * 3_000), 50)
                    store.append(rows, feed="f")
                case 2:
                    store.checkpoint()
                case 3:
                    store.gc()
        assert store.cache_stats()["ahead"].predictions


def test_threads_that_ask_beside_it(path: Path) -> None:
    wrong: list[str] = []
    expected: dict[tuple[str, int], int] = {}
    with bt.open(path, read_only=True, hot_cache_bytes="8MiB") as store:
        for symbol in "ABC":
            for number in range(DAYS):
                expected[symbol, number] = EACH

        def work(symbol: str) -> None:
            for number in range(DAYS):
                rows = store.ticks(symbol, start=weekday(number), end=weekday(number) + DAY)
                if rows.num_rows != expected[symbol, number]:
                    wrong.append(f"{symbol} {number}: {rows.num_rows}")
                if number % 9 == 0:
                    store.clear_cache()

        threads = [threading.Thread(target=work, args=(symbol,)) for symbol in "ABC"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        settle(store)
    assert not wrong


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "backtestr-ahead"]


def gone() -> bool:
    deadline = time.monotonic() + 10
    while names() and time.monotonic() < deadline:
        time.sleep(0.001)
    return not names()


def test_no_thread_is_left(path: Path) -> None:
    store = bt.open(path, read_only=True)
    for request in WALKS["weekdays"][:2]:
        request(store)
    assert not names()
    for request in WALKS["weekdays"][2:8]:
        request(store)
    assert names()
    store.close()
    store.close()
    assert not names()
    store = bt.open(path, read_only=True)
    for request in WALKS["weekdays"][:8]:
        request(store)
    lease = store._readable().lease.path
    assert lease is not None
    assert names()
    del store
    gc.collect()
    assert gone()
    gc.collect()
    assert not lease.exists()


def test_the_past_feeds_nothing(opened: bt.Store) -> None:
    past = opened.at(opened.history().to_pylist()[-1]["lsn"])
    for request in WALKS["weekdays"][:8]:
        request(past)
    past.close()
    for n in range(8):
        opened.ticks("A", start=weekday(n), end=weekday(n) + DAY, limit=5)
        opened.ticks("A", start=weekday(n))
        opened.ticks((name for name in "A"), start=weekday(n), end=weekday(n) + DAY)
    assert not names()


def test_an_error_in_the_background_is_nobodys(path: Path, tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        store.ingest(trades("A", 1), feed="f")
        file = max((file for file in store._version().of("ticks")), key=lambda file: file.interval)
    damaged = tmp_path / "store" / file.path
    data = bytearray(damaged.read_bytes())
    for place in range(len(data) // 8, len(data) // 2):
        data[place] ^= 1
    damaged.write_bytes(data)
    with bt.open(tmp_path / "store", read_only=True) as store:
        within = [n for n in range(DAYS) if weekday(n) + DAY <= (file.min_ns or 0)]
        from_files(store, [ticks("A", weekday(n)) for n in within])
        assert store.cache_stats()["ahead"].cancelled
        with pytest.raises(bt.errors.DataCorruptError):
            store.ticks("A", start=file.min_ns, end=(file.max_ns or 0) + 1)


def test_what_was_learnt_survives_reopening(path: Path, tmp_path: Path) -> None:
    decoded = []
    for symbol in "AC":
        with bt.open(path, read_only=True, state_dir=tmp_path) as store:
            walk = [ticks(symbol, FIRST + 4 * n * DAY, 4 * DAY) for n in range(10)]
            decoded.append(sum(from_files(store, walk)))
            folder = store._readable().state
    assert decoded[1] < decoded[0]
    assert folder is not None
    assert [file.name for file in folder.glob("read_ahead*")] == ["read_ahead.json"]
    assert load_state(folder)["runs"]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "newer", "a folder"])
def test_a_damaged_state_is_learnt_anew(path: Path, tmp_path: Path, damage: str) -> None:
    model = Predictor()
    for n in range(9):
        model.observe(Asked("ticks", ("A",), n * DAY, (n + 1) * DAY))
    with bt.open(path, read_only=True, state_dir=tmp_path) as store:
        folder = store._readable().state
    assert folder is not None
    save_state(folder, model.to_dict())
    assert load_state(folder) == json.loads(json.dumps(model.to_dict()))
    file = folder / "read_ahead.json"
    text = file.read_text()
    match damage:
        case "empty":
            file.write_text("")
        case "cut":
            file.write_text(text[: len(text) // 2])
        case "flipped":
            file.write_text(text.replace("ticks", "tocks", 1))
        case "newer":
            file.write_text(text.replace('"format":1', '"format":2'))
        case "a folder":
            file.unlink()
            file.mkdir()
    assert load_state(folder) is None
    if damage != "a folder":
        with bt.open(path, read_only=True, state_dir=tmp_path) as store:
            from_files(store, WALKS["weekdays"][:6])
        assert load_state(folder)["runs"]


def test_nothing_is_saved_where_it_is_off(path: Path, tmp_path: Path) -> None:
    with bt.open(path, read_only=True, state_dir=tmp_path, read_ahead="off") as store:
        for request in WALKS["weekdays"][:6]:
            request(store)
    assert not list(tmp_path.rglob("read_ahead*"))


def test_whether_there_are_rows(opened: bt.Store) -> None:
    version, groups = opened._version(), opened._readable().reader.groups
    opened.ticks("A")
    draw = random.Random(8)
    for _ in range(300):
        start = FIRST + draw.randrange(-5 * 24, 70 * 24) * DAY // 24
        length = draw.choice([DAY // 24, DAY, 2 * DAY])
        asked = Asked("ticks", ("A",), start, start + length)
        expected = opened.ticks("A", start=start, end=start + length).num_rows > 0
        assert has_rows(version, groups, WaitingGroups(0), asked) == expected


def test_groups_wait_for_those_they_were_read_for() -> None:
    waiting = WaitingGroups(100)
    waiting.put(("f", 0), "first", 40, 1)
    waiting.put(("f", 1), "second", 40, 1)
    assert waiting.share(("f", 1), 2) == "second"
    assert waiting.share(("f", 2), 2) is None
    waiting.use(("f", 0))
    waiting.use(("f", 0))
    assert (waiting.used_bytes, waiting.wasted_bytes) == (40, 0)
    waiting.drop(1)
    assert (waiting.peek(("f", 0)), waiting.peek(("f", 1)), waiting.bytes) == (None, "second", 40)
    waiting.drop(2)
    assert (waiting.bytes, waiting.wasted_bytes) == (0, 40)
    for number in range(4):
        waiting.put(("g", number), number, 40, number)
    assert (waiting.bytes, waiting.wasted_bytes, waiting.peek(("g", 3))) == (80, 120, 3)
    waiting.drop()
    assert (waiting.bytes, waiting.read_bytes) == (0, 240)


def test_who_asks_for_a_group_that_is_being_read_waits_for_it() -> None:
    waiting, place = WaitingGroups(100), ("f", 0)
    waiting.expect([place])
    began = threading.Event()

    def read() -> None:
        began.wait()
        waiting.put(place, "rows", 40, 1)

    reader = threading.Thread(target=read)
    reader.start()
    began.set()
    assert waiting.arrived(place) == "rows"
    reader.join()
    waiting.expect([("f", 1)])
    assert waiting.arrived(("f", 1)) is None
    waiting.expect([("f", number) for number in range(2, 99)])
    assert waiting._coming == set()


def test_a_group_that_its_caller_reads_is_not_read_ahead(opened: bt.Store) -> None:
    groups = opened._readable().reader.groups
    waiting = WaitingGroups(1 << 30)
    keeper = Filling(waiting, groups, 1)
    assert keeper.get("f", 0, 2) == [None, None]
    waiting.being_read.add(("f", 1))
    with pytest.raises(StoppedError):
        keeper.get("f", 0, 2)
    assert keeper.get("f", 2, 3) == [None]
    with pytest.raises(StoppedError):
        Filling(waiting, groups, None).get("f", 2, 3)
    with pytest.raises(StoppedError):
        Filling(waiting, groups, 1, lambda: True).get("f", 2, 3)


@pytest.mark.parametrize("ending", ["", "del store", "raise SystemExit", "store.close()", "os.fork() or sys.exit()"])
def test_the_interpreter_ends_beneath_it(path: Path, ending: str) -> None:
    script = f"""
import os, sys, warnings
import backtestr as bt
warnings.simplefilter("ignore")
store = bt.open({str(path)!r}, read_only=True)
for number in range(30):
    store.ticks("A", start={FIRST} + number * {DAY}, end={FIRST} + (number + 1) * {DAY})
{ending}
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr == ""
