"""Identity of rows: merging, replacing, deleting, correcting; bars always in step with ticks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    FeedConflictError,
    InvalidTickError,
    SequenceConflictError,
    SymbolNotFoundError,
    TooManyRejectedError,
)

START = 1_704_205_800_000_000_000  # 2024-01-02T14:30:00Z
SECOND = 1_000_000_000


def trades(rows: list[tuple[int, str, str]], symbol: str = "A", **columns: list[int]) -> pa.Table:
    """Trades as (seconds after START, price, volume)."""
    table = pa.table(
        {
            "symbol": pa.array([symbol] * len(rows), pa.string()),
            "timestamp_utc": pa.array([START + s * SECOND for s, _, _ in rows], pa.timestamp("ns", "UTC")),
            "price": pa.array([p for _, p, _ in rows], pa.string()).cast(pa.decimal128(18, 8)),
            "volume": pa.array([v for _, _, v in rows], pa.string()).cast(pa.decimal128(18, 8)),
        }
    )
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.int64()))
    return table


def assert_bars_in_step(store: bt.Store, stored: str = "1m 5m 15m 30m 1h 4h 1d") -> None:
    """Bars equal those computed anew from the ticks, and as many are stored: a read computes what is missing."""
    held = 0
    for symbol in store.symbols():
        ticks = store.ticks(symbol).to_arrow()
        for timeframe in ("1m", "5m", "15m", "30m", "1h", "4h", "1d"):
            want = bt.aggregate_bars(ticks, [timeframe]).to_pylist()
            assert store.bars(symbol, timeframe).to_pylist() == want, (symbol, timeframe)
            held += len(want) if timeframe in stored.split() else 0
    assert store.info().bars == held


@pytest.fixture
def store(tmp_path: Path):
    with bt.open(tmp_path / "store") as opened:
        yield opened


def test_the_same_rows_again_are_duplicates(store: bt.Store) -> None:
    rows = trades([(0, "1.5", "2"), (0, "1.5", "2"), (61, "1.6", "1")])
    first = store.ingest(rows, feed="f")
    again = store.ingest(rows, feed="f")
    assert (first.accepted, first.duplicate) == (3, 0)
    assert (again.accepted, again.duplicate) == (0, 3)
    assert store.ticks("A").num_rows == 3
    assert_bars_in_step(store)


def test_more_copies_than_stored_are_added(store: bt.Store) -> None:
    store.ingest(trades([(0, "1.5", "2"), (5, "1", "1")]), feed="f")
    report = store.ingest(trades([(0, "1.5", "2"), (0, "1.5", "2"), (0, "1.5", "2")]), feed="f")
    assert (report.accepted, report.duplicate) == (2, 1)
    assert store.ticks("A").num_rows == 4
    assert_bars_in_step(store)


@given(
    files=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["1", "2"]), st.just("1")), max_size=6),
        min_size=2,
        max_size=3,
    )
)
def test_the_order_of_files_never_changes_an_answer(files: list[list[tuple[int, str, str]]], tmp_path_factory) -> None:
    answers = []
    for order in itertools.permutations(files):
        with bt.open(tmp_path_factory.mktemp("s") / "store") as store:
            for rows in order:
                store.ingest(trades(rows), feed="f")
            ticks = store.ticks().to_pylist()
            bars = [store.bars(None, timeframe).to_pylist() for timeframe in ("1s", "1m", "1d")]
            if store.symbols():
                assert_bars_in_step(store)
        answers.append((ticks, bars))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("feeds", [("f", "f", "f"), ("g", "f", "h")])
def test_ties_of_exchange_or_feed_go_by_its_name(feeds: tuple[str, str, str], tmp_path: Path) -> None:
    venues = ["Z", "B", "é", None]
    # File by file the venues are seen in another order.
    pairs = list(itertools.product(venues, repeat=2))
    files = [[first for first, _ in pairs], [second for _, second in reversed(pairs)], venues[::-1] * 4]
    answers = []
    for number, order in enumerate(itertools.permutations(range(3))):
        with bt.open(tmp_path / str(number)) as store:
            for file in order:
                rows = trades([(at, "1", "1") for at in range(len(pairs))])
                rows = rows.append_column("exchange", pa.array(files[file], pa.string()))
                store.ingest(rows, feed=feeds[file], allow_mixed=True)
            exchanges = {row["id"]: row["code"] for row in store.sql("select * from exchanges").to_pylist()}
            names = {row["id"]: row["name"] for row in store.sql("select * from feeds").to_pylist()}
            ticks = [
                row | {"exchange_id": exchanges.get(row["exchange_id"]), "feed_id": names[row["feed_id"]]}
                for row in store.ticks().to_pylist()
            ]
            answers.append((ticks, [store.bars(None, timeframe).to_pylist() for timeframe in ("1s", "1m", "1d")]))
    assert all(answer == answers[0] for answer in answers)


def test_a_late_file_rebuilds_the_bars_it_touches(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1"), (3600, "2", "1"), (86400, "3", "1")]), feed="f")
    store.ingest(trades([(30, "9", "1"), (7200, "5", "1")]), feed="f")
    assert store.bars("A", "1m").to_arrow()["high"].to_pylist()[0] == 9
    assert_bars_in_step(store)


def test_rows_numbered_by_the_feed(store: bt.Store, numbered_feed) -> None:
    numbered_feed(store, trades([(0, "1", "1"), (1, "2", "1")], sequence=[10, 11]))
    again = numbered_feed(store, trades([(1, "2", "1"), (2, "3", "1")], sequence=[11, 12]))
    assert (again.accepted, again.duplicate) == (1, 1)
    with pytest.raises(SequenceConflictError, match="sequence 12"):
        numbered_feed(store, trades([(2, "4", "1")], sequence=[12]))
    assert store.ticks("A").to_arrow()["sequence"].to_pylist() == [10, 11, 12]
    corrected = store.correct(trades([(2, "4", "1")], sequence=[12]))
    assert (corrected.removed, corrected.added) == (1, 1)
    assert store.ticks("A").to_arrow()["price"].to_pylist()[-1] == 4
    store.cancel(trades([(0, "1", "1")], sequence=[10]))
    assert store.ticks("A").num_rows == 2
    assert_bars_in_step(store)


def test_correct_by_value(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1"), (1, "2", "1"), (1, "2", "1")]), feed="f")
    old = store.ticks("A").to_arrow().slice(2, 1)
    position = old.schema.get_field_index("price")
    new = old.set_column(position, old.schema.field("price"), pa.array(["7"], pa.string()).cast(pa.decimal128(18, 8)))
    with pytest.raises(ArgumentError, match="replacing="):
        store.correct(new)
    store.correct(new, replacing=old)
    assert sorted(store.ticks("A").to_arrow()["price"].to_pylist()) == [1, 2, 7]
    with pytest.raises(InvalidTickError, match="not stored"):
        store.cancel(trades([(9, "9", "9")], sequence=[0]))
    assert_bars_in_step(store)


def test_replace_takes_out_the_range_of_the_input(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1"), (10, "2", "1"), (20, "3", "1"), (30, "4", "1")]), feed="f")
    report = store.ingest(trades([(10, "8", "1"), (20, "9", "1")]), feed="f", mode="replace")
    assert (report.accepted, report.replaced) == (2, 2)
    assert store.ticks("A").to_arrow()["price"].to_pylist() == [1, 8, 9, 4]
    assert_bars_in_step(store)


def test_delete(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1"), (60, "2", "1"), (120, "3", "1")]), feed="f")
    plan = store.delete("A", start=START + 60 * SECOND, end=START + 120 * SECOND, dry_run=True)
    assert plan.removed == 1
    assert store.ticks("A").num_rows == 3
    store.delete("A", start=START + 60 * SECOND, end=START + 120 * SECOND)
    assert store.ticks("A").to_arrow()["price"].to_pylist() == [1, 3]
    assert_bars_in_step(store)
    with pytest.raises(SymbolNotFoundError, match="'B'"):
        store.delete("B")
    store.delete("A")
    assert store.symbols() == []


def test_a_symbol_belongs_to_one_feed(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1")]), feed="f")
    with pytest.raises(FeedConflictError, match="symbol="):
        store.ingest(trades([(0, "1", "1")]), feed="g")
    store.ingest(trades([(0, "1", "1")]), feed="g", allow_mixed=True)
    assert store.ticks("A").num_rows == 2


def test_first_trades_turn_quote_bars_into_trade_bars(store: bt.Store) -> None:
    quotes = pa.table(
        {
            "symbol": ["A"] * 2,
            "timestamp_utc": pa.array([START, START + 86_400 * SECOND], pa.timestamp("ns", "UTC")),
            "bid": pa.array(["1", "2"]).cast(pa.decimal128(18, 8)),
            "ask": pa.array(["2", "3"]).cast(pa.decimal128(18, 8)),
        }
    )
    store.ingest(quotes, feed="f")
    assert store.bars("A", "1d").to_arrow()["price_basis"].to_pylist() == ["mid", "mid"]
    store.ingest(trades([(0, "7", "1")]), feed="f")
    assert store.bars("A", "1d").to_arrow()["price_basis"].to_pylist() == ["trade"]
    assert store.bars("A", "1d", price="mid").num_rows == 2
    sql = store.sql("select price_basis, count(*) n from bars where timeframe = '1d' group by 1").to_pylist()
    assert sql == [{"price_basis": "trade", "n": 1}]


def test_too_many_rejected_loads_nothing(store: bt.Store) -> None:
    rows = trades([(0, "1", "1"), (1, "-1", "1")])
    with pytest.raises(TooManyRejectedError, match="price_negative: 1"):
        store.ingest(rows, feed="f")
    assert store.symbols() == []
    report = store.ingest(rows, feed="f", max_rejected=0.5)
    assert (report.accepted, report.rejected, report.reasons) == (1, 1, {"price_negative": 1})
    assert store.quarantine().to_pylist()[0]["reasons"] == ["price_negative"]


def test_dry_run_writes_nothing(store: bt.Store) -> None:
    report = store.ingest(trades([(0, "1", "1")]), feed="f", dry_run=True)
    assert report.accepted == 1
    assert store.symbols() == []
