"""One line of advice, by what was asked for and what it took."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import backtestr as bt
from tests.query.clocks import Clock

MS = 1_000_000
FAST, SLOW = 20 * MS, 200 * MS


def trades(first: dt.datetime, count: int = 120) -> dict[str, list[object]]:
    times = [first + dt.timedelta(seconds=second) for second in range(count)]
    return {"ts": times, "price": [10] * count, "volume": [1] * count}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bt.Store]:
    """Ticks of January in twenty files, of February and March in one each."""
    with bt.open(tmp_path / "store", state_dir=tmp_path / "state") as opened:
        for day in range(1, 21):
            opened.ingest(trades(dt.datetime(2024, 1, day)), symbol="A", feed="a")
        for month in (2, 3):
            opened.ingest(trades(dt.datetime(2024, month, 1)), symbol="A", feed="a")
        yield opened


def advice(store: bt.Store) -> str | None:
    plan = store.explain(symbols="A")
    assert ("advice" in str(plan)) == (plan.advice is not None)
    return plan.advice


def take(store: bt.Store, *took: int) -> None:
    store._runs.clock = Clock(took)


def test_no_requests_no_advice(store: bt.Store) -> None:
    assert advice(store) is None


def test_what_is_fast_and_stored_needs_none(store: bt.Store) -> None:
    take(store, *[FAST] * 30)
    for _ in range(10):
        store.ticks("A")
        store.bars("A", "5m")
        store.sql("select * from ticks")
    assert advice(store) is None


def test_a_timeframe_that_is_computed_again_and_again(store: bt.Store) -> None:
    take(store, *[50 * MS] * 5, 80 * MS)
    store.bars("A", "2m")
    assert advice(store) is None
    for _ in range(4):
        store.bars("A", "120s", start="2024-02-01")
    store.sql("select * from bars where timeframe = '2m'")
    assert advice(store) == (
        "materialise 2m: it is not stored, and requests that compute it ran 6 times, 0.3 s in all; "
        "a store made with materialized_timeframes='1m 2m 5m 15m 30m 1h 4h 1d' holds it"
    )


def test_what_it_says_of_a_timeframe_works(store: bt.Store, tmp_path: Path) -> None:
    for _ in range(2):
        store.bars("A", "2m")
    said = re.search(r"materialized_timeframes='([^']*)'", advice(store) or "")
    assert said is not None
    with bt.open(tmp_path / "other", state_dir=tmp_path / "state", materialized_timeframes=said[1]) as other:
        other.ingest(trades(dt.datetime(2024, 1, 1)), symbol="A", feed="a")
        for _ in range(2):
            other.bars("A", "2m")
        assert other.explain(symbols="A", timeframe="2m").scans[0].table == "bars"
        assert advice(other) is None


def test_the_timeframe_that_took_most(store: bt.Store) -> None:
    take(store, *[10 * MS] * 20, *[90 * MS] * 3)
    for timeframe in ["2m"] * 20 + ["3h"] * 3:
        store.bars("A", timeframe)
    assert (advice(store) or "").startswith("materialise 3h: ")


def test_intervals_of_many_small_files(store: bt.Store, tmp_path: Path) -> None:
    take(store, *[SLOW] * 3)
    for _ in range(3):
        store.ticks("A", start="2024-01-05", end="2024-02-15")
    assert advice(store) == (
        "merge ticks of 2024-01: slow requests read its 20 files, where 1 would hold the same; "
        "loading them anew in one call of ingest with mode='replace' makes them so"
    )


def test_what_it_says_of_files_works(store: bt.Store, tmp_path: Path) -> None:
    for day in range(1, 21):
        lines = ["timestamp_utc,price,volume", *(f"{row},10,1" for row in trades(dt.datetime(2024, 1, day))["ts"])]
        (tmp_path / f"{day:02}.csv").write_text("\n".join(lines), encoding="utf-8")
    take(store, SLOW, SLOW, SLOW, SLOW)
    for _ in range(2):
        store.ticks("A", start="2024-01-05", end="2024-02-15")
    before = store.ticks("A").to_arrow().drop_columns(["sequence"])
    store.ingest(
        [tmp_path / f"{day:02}.csv" for day in range(1, 21)], source="csv", symbol="A", feed="a", mode="replace"
    )
    assert store.ticks("A").to_arrow().drop_columns(["sequence"]).equals(before)
    assert not (advice(store) or "").startswith("merge")


def test_slow_intervals(store: bt.Store) -> None:
    take(store, *[SLOW] * 5, *[3 * SLOW] * 2)
    for _ in range(5):
        store.bars("A", "1m", start="2024-02-01", end="2024-02-02")
    for _ in range(2):
        store.sql("select max(volume) from ticks where timestamp_utc >= '2024-02-01'")
    assert advice(store) == (
        "7 runs took more than 100 ms, 2.2 s in all, the newest reading bars of 2024-02 (5), ticks of 2024-02 (2), "
        "ticks of 2024-03 (2); most of it is select max(volume) from ticks where timestamp_utc >= ?"
    )


def test_computing_bars_reads_ticks(store: bt.Store) -> None:
    take(store, SLOW, SLOW)
    for _ in range(2):
        store.bars("A", "5m", start="2024-02-01", end="2024-02-02")
    assert "bars of 2024-02 (2)" in (advice(store) or "")
    take(store, *[SLOW] * 2)
    for _ in range(2):
        store.bars("A", "2m", start="2024-01-01", end="2024-01-02")
    # both are at work, and files matter as much as the timeframe here
    assert (advice(store) or "").startswith(("merge ticks of 2024-01", "materialise 2m"))


def test_one_slow_run_is_no_sign(store: bt.Store) -> None:
    take(store, SLOW, *[FAST] * 4, SLOW)
    for _ in range(5):
        store.ticks("A", start="2024-02-01")
    store.sql("select 1")
    assert advice(store) is None


def test_what_reads_no_file_is_named_too(store: bt.Store) -> None:
    take(store, SLOW, SLOW)
    for _ in range(2):
        store.sql("select sum(range) from range(10)")
    assert advice(store) == (
        "2 runs took more than 100 ms, 0.4 s in all; most of it is select sum(range) from range(?)"
    )


def test_intervals_that_are_no_more(store: bt.Store) -> None:
    take(store, SLOW, SLOW)
    for _ in range(2):
        store.ticks("A", start="2024-01-01", end="2024-01-02")
    store.delete("A", start="2024-01-01", end="2024-02-01")
    assert "2024-01" not in (advice(store) or "")
    assert "2 runs took more than 100 ms" in (advice(store) or "")
