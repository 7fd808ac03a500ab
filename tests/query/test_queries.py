"""What is remembered of requests: counted right, kept beside other processes, never in a query's way."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import StoreClosedError
from backtestr.query.runs import Runs
from backtestr.query.tally import MAX_FILE_BYTES, MAX_KINDS, read_tallies
from tests.query.clocks import Clock

NS = 1_000_000
TRADES = {"ts": [f"2024-01-02T14:30:{second:02}" for second in range(60)], "price": [10] * 60, "volume": [1] * 60}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(tmp_path: Path, state: Path) -> Iterator[bt.Store]:
    with bt.open(tmp_path / "store", state_dir=state) as opened:
        for symbol in ("A", "B"):
            opened.ingest(TRADES, symbol=symbol, feed="example")
        yield opened


def asked(store: bt.Store) -> dict[str, int]:
    return {row["request"]: row["runs"] for row in store.queries().to_pylist()}


def kept(state: Path) -> Path:
    (path,) = state.glob("**/queries-*.json")
    return path


def test_requests_that_are_alike_are_one(store: bt.Store) -> None:
    store.ticks("A", start="2024-01-02T14:30:10", end="2024-01-02T14:30:20")
    store.ticks("B", start="2024-01-02T14:30:10", end="2024-01-02T14:30:50")
    store.ticks(["A", "B"], columns=["price"])
    store.ticks(iter(["A", "B"]))
    store.bars("A", "60s", limit=1)
    store.bars("A", "1m", limit=2, order="desc")
    store.bars("A", "2m", price="trade")
    store.sql("select count(*) from ticks where symbol = 'A'")
    store.sql("select count(*)  from ticks where symbol = 'nobody'")
    store.sql("select count(*) from ticks where symbol = ?", ["B"])
    for refused in (lambda: store.ticks("C"), lambda: store.bars("A", "7m"), lambda: store.sql("select nothing")):
        with pytest.raises(bt.errors.BacktestrError):
            refused()
    assert asked(store) == {
        "ticks: 1 symbol, up to 1m": 2,
        "ticks: up to 10 symbols, all time, 1 columns": 1,
        "ticks: all symbols, all time": 1,
        "bars of 1m: 1 symbol, all time, limit": 2,
        "bars of 2m: 1 symbol, all time, trade prices": 1,
        "select count(*) from ticks where symbol = ?": 3,
    }


def test_figures_are_those_of_the_clock(store: bt.Store) -> None:
    rng = random.Random(1)
    took = [rng.randrange(1, 90) * NS for _ in range(21)]
    store._runs.clock = clock = Clock(took)
    rows = [len(store.ticks("A", end=f"2024-01-02T14:30:{second:02}")) for second in range(1, 22)]
    assert clock.is_done
    (row,) = store.queries().to_pylist()
    assert (row["request"], row["runs"]) == ("ticks: 1 symbol, open time", 21)
    assert row["rows"] == statistics.median(rows)
    assert row["median_ms"] == statistics.median(took) / NS
    assert row["slowest_ms"] == max(took) / NS
    assert row["total_ms"] == sum(took) / NS


def test_the_newest_runs_count_for_medians(store: bt.Store) -> None:
    store._runs.clock = Clock([900 * NS] * 100 + [2 * NS] * 33)
    for _ in range(133):
        store.ticks("A")
    (row,) = store.queries().to_pylist()
    assert (row["runs"], row["median_ms"], row["slowest_ms"]) == (133, 2, 900)
    assert row["total_ms"] == 90_066


def test_it_outlives_the_store_and_adds_up(store: bt.Store, tmp_path: Path, state: Path) -> None:
    store.ticks("A")
    store.close()
    with bt.open(tmp_path / "store", state_dir=state, read_only=True) as again:
        past = again.at(2)
        past.ticks("A")
        again.ticks("B")
        past.close()
        assert asked(again) == {"ticks: 1 symbol, all time": 3}
    with pytest.raises(StoreClosedError):
        again.queries()
    assert not list((tmp_path / "store").rglob("queries*"))
    assert sorted(path.name for path in kept(state).parent.iterdir()) == [kept(state).name, kept(state).name + ".lock"]


def test_a_store_that_nobody_closed_is_remembered(store: bt.Store, tmp_path: Path, state: Path) -> None:
    code = f"import backtestr as bt; s = bt.open({str(tmp_path / 'store')!r}, read_only=True, state_dir={str(state)!r})"
    subprocess.run([sys.executable, "-c", code + "; s.ticks('A'); s.ticks('B')"], check=True)
    assert asked(store) == {"ticks: 1 symbol, all time": 2}


def test_forked_children_count_nothing_twice(store: bt.Store, state: Path) -> None:
    store.ticks("A")
    child = os.fork()
    if child == 0:
        store._runs.save()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not list(state.glob("**/queries-*.json"))
    assert asked(store) == {"ticks: 1 symbol, all time": 1}


def test_off_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with bt.open(tmp_path / "store", state_dir="off") as store:
        store.ingest(TRADES, symbol="A", feed="example")
        store.ticks("A")
        store.sql("select 1")
        assert asked(store) == {}
        plan = store.explain(symbols="A")
        assert (plan.measured, plan.advice) == (None, None)
        assert plan.estimate is not None
        assert plan.estimate.ms is None
        assert "no runs yet" in str(plan)
    assert not (tmp_path / "home").exists()


ADDED = """
import sys, pyarrow as pa
from pathlib import Path
from backtestr.query.runs import Runs
rows = pa.table({"a": [1]})
for _ in range(50):
    runs = Runs(Path(sys.argv[1]))
    for _ in range(3):
        runs.request(runs.clock(), rows, "A", None, (None, None))
    runs.save()
    while runs._tallies:
        runs.save()
"""


def test_processes_and_threads_lose_none(tmp_path: Path) -> None:
    others = [subprocess.Popen([sys.executable, "-c", ADDED, str(tmp_path)]) for _ in range(2)]
    runs, rows = Runs(tmp_path), pa.table({"a": [1]})

    def work() -> None:
        for _ in range(3_000):
            runs.request(runs.clock(), rows, "A", None, (None, None))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    (tally,) = runs.known().values()
    assert tally.runs == 9_000 + 2 * 50 * 3


def test_garbage_collection_may_save_at_any_time(tmp_path: Path) -> None:
    runs, rows = Runs(tmp_path), pa.table({"a": [1]})

    def work() -> None:
        with runs._saving, runs._counting:
            runs.request(runs.clock(), rows, "A", None, (None, None))
            runs.save()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(runs.known()) == 1


def test_it_is_written_down_now_and_then(tmp_path: Path) -> None:
    clock = Clock([])
    runs, rows = Runs(tmp_path, now=clock), pa.table({"a": [1]})
    for _ in range(1_024):
        runs.request(runs.clock(), rows, "A", None, (None, None))
    assert not list(tmp_path.iterdir())
    clock.at += 301 * 1_000_000_000
    for _ in range(1_024):
        runs.request(runs.clock(), rows, "A", None, (None, None))
    for thread in threading.enumerate():
        if thread.name == "backtestr-history":
            thread.join()
    (tally,) = read_tallies(kept(tmp_path)).values()
    assert tally.runs == 2_048


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_costs_the_history_only(store: bt.Store, state: Path, seed: int) -> None:
    store.ticks("A")
    store.bars("A", "2m")
    store.sql("select 1")
    assert len(asked(store)) == 3
    path, rng = kept(state), random.Random(seed)
    whole = path.read_bytes()
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'0123456789-[]{}",:. aexn\x00\xff')
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        str(store.explain(symbols="A"))
        str(store.queries())


@pytest.mark.parametrize(
    "told",
    [
        '["ticks", [], [1, 1, 0, 0, 1, 1e400], [[1, 1, 1]], []]',
        '["ticks", [], [1, 1, 0, 0, 1, -1], [[1, 1, 1]], []]',
        '["ticks", [], [1, 1, 0, 0, 1, 99999999999999999999], [[1, 1, 1]], []]',
        '["ticks", [], [true, 1, 0, 0, 1, 1], [[1, 1, 1]], []]',
        '["ticks", [], [0, 1, 0, 0, 1, 1], [[1, 1, 1]], []]',
        '["ticks", [], [1, 1, 0, 0, 1, 1], [], []]',
        '["ticks", [], [1, 1, 0, 0, 1, 1], [[1, 1]], []]',
        '["ticks", [7], [1, 1, 0, 0, 1, 1], [[1, 1, 1]], []]',
        '["ticks", [], [1, 1, 0, 0, 1, 1], [[1, 1, 1]], [["ticks", "x", 1, 1]]]',
        '["\\ud800", [], [1, 1, 0, 0, 1, 1], [[1, 1, 1]], []]',
        "[" * 100_000,
        "null",
    ],
)
def test_what_is_no_history_is_none(tmp_path: Path, told: str) -> None:
    path = tmp_path / "queries.json"
    good = '["ticks", [], [1, 1, 0, 0, 1, 1], [[1, 1, 1]], [["ticks", null, -1, 1]]]'
    path.write_text(f'{{"format": 1, "requests": {{"a": {good}}}}}', encoding="utf-8")
    assert len(read_tallies(path)) == 1
    path.write_text(f'{{"format": 1, "requests": {{"a": {told}}}}}', encoding="utf-8")
    assert read_tallies(path) == {}
    path.write_text(f'{{"format": 2, "requests": {{"a": {good}}}}}', encoding="utf-8")
    assert read_tallies(path) == {}


def test_a_file_of_odd_timeframes_is_no_obstacle(store: bt.Store, state: Path) -> None:
    store.bars("A", "2m")
    store.queries()
    text = kept(state).read_text(encoding="utf-8")
    assert '["2m"]' in text
    kept(state).write_text(text.replace('["2m"]', '["no timeframe"]').replace("[1, ", "[5, "), encoding="utf-8")
    assert store.explain(symbols="A").advice is None


@pytest.mark.parametrize("hindrance", ["a file in the way", "a folder in the way", "NUL", "locked"])
def test_what_cannot_be_written_stays_in_memory(store: bt.Store, tmp_path: Path, hindrance: str) -> None:
    state = tmp_path / "other"
    with bt.open(tmp_path / "store", state_dir=state if hindrance != "NUL" else "a\0b", read_only=True) as other:
        folder = state / other._storage.layout.check()  # type: ignore[union-attr]
        if hindrance == "a file in the way":
            state.write_text("mine", encoding="utf-8")
        elif hindrance == "a folder in the way":
            other._runs._path.mkdir(parents=True)  # type: ignore[union-attr]
            (folder / other._runs._path.name / "mine").mkdir()  # type: ignore[union-attr]
        elif hindrance == "locked":
            import fcntl

            folder.mkdir(parents=True)
            held = (folder / f"{other._runs._path.name}.lock").open("w")  # type: ignore[union-attr]
            fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(3):
            other.ticks("A")
            other.sql("select 1")
        assert asked(other) == {"ticks: 1 symbol, all time": 3, "select ?": 3}
        assert asked(other) == {"ticks: 1 symbol, all time": 3, "select ?": 3}
        if hindrance == "locked":
            held.close()
            assert asked(other) == {"ticks: 1 symbol, all time": 3, "select ?": 3}
            assert len(read_tallies(other._runs._path)) == 2  # type: ignore[arg-type]


def test_a_full_disk_leaves_what_was_there(store: bt.Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ticks("A")
    store.queries()
    before = kept(state).read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    store.ticks("A")
    assert asked(store) == {"ticks: 1 symbol, all time": 2}
    assert kept(state).read_bytes() == before
    assert [path.name for path in kept(state).parent.iterdir() if path.suffix == ".new"] == []
    monkeypatch.undo()
    store.close()
    assert b"[2, " in kept(state).read_bytes()


def test_it_stays_small(tmp_path: Path) -> None:
    runs, rows = Runs(tmp_path, Clock([1] * 10**6), now=iter(range(1, 10**6)).__next__), pa.table({"a": [1]})
    for number in range(3 * MAX_KINDS):
        for _ in range(40):
            runs.request(runs.clock(), rows, "A", f"{1 + number}d", (None, None), price="x" * 3_000)
    known = runs.known()
    assert MAX_FILE_BYTES // 2 < kept(tmp_path).stat().st_size <= MAX_FILE_BYTES
    assert 0 < len(known) <= MAX_KINDS
    assert f"bars of {3 * MAX_KINDS}d: 1 symbol, all time, {'x' * 3_000} prices" in known
    assert not any(kind.startswith("bars of 1d:") for kind in known)
    json.loads(kept(tmp_path).read_text(encoding="utf-8"))
    for number in range(2 * MAX_KINDS):
        runs.request(runs.clock(), rows, "A", f"{10_000 + number}d", (None, None))
    assert len(runs.known()) == MAX_KINDS


def test_only_the_user_may_read_it(store: bt.Store, state: Path) -> None:
    store.ticks("A")
    store.close()
    assert kept(state).parent.stat().st_mode & 0o077 == 0
