"""Versions: reading the past, tags, differences, and the way back."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import ArgumentError, StoreReadOnlyError, VersionNotFoundError
from backtestr.storage.commit import FILES, Commit
from backtestr.storage.snapshot import Version

MINUTE_NS = 60_000_000_000


def trades(symbol: str, rows: list[tuple[int, str]]) -> pa.Table:
    """Trades of (minute, price), one unit each."""
    return pa.table(
        {
            "symbol": [symbol] * len(rows),
            "timestamp_utc": pa.array([minute * MINUTE_NS for minute, _ in rows], pa.timestamp("ns")),
            "price": [price for _, price in rows],
            "volume": ["1"] * len(rows),
        }
    )


def state(store: bt.Store) -> dict[str, Any]:
    """Everything that readers can ask of ticks and bars."""
    names = store.symbols()
    return {
        "ticks": store.ticks(names).to_arrow() if names else None,
        "bars": store.sql("select * from bars order by all").to_arrow(),
        "rows": store.sql("select * exclude (feed) from ticks order by all").to_arrow(),
        "spec": store.bar_spec,
        "exchanges": store.sql("from exchanges order by id").to_pylist(),
        "owners": store.sql("from symbol_feeds order by all").to_pylist(),
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bt.Store]:
    with bt.open(tmp_path / "s") as store:
        yield store


def change(store: bt.Store, number: int) -> int:
    """The n-th of several kinds of commits; returns its LSN."""
    symbol = f"S{number % 3}"
    kind = number % 4
    if kind == 2 and symbol in store.symbols():
        return int(store.delete(symbol, start=number * MINUTE_NS // 2).lsn or store.info().lsn)
    if kind == 3 and number > 3:
        return int(store.set_bar_spec(bt.BarSpec(volume_excludes=(f"X{number}",))).lsn or store.info().lsn)
    return int(store.ingest(trades(symbol, [(number, f"{number + 1}.5"), (number, "2")]), feed="f").lsn)


def test_every_version_reads_as_it_was(store: bt.Store) -> None:
    written = {}
    for number in range(14):
        lsn = change(store, number)
        written[lsn] = state(store)
    for lsn, expected in written.items():
        assert state(store.at(lsn)) == expected
    assert store.history().to_arrow()["lsn"].to_pylist() == list(range(1, max(written) + 1))
    with bt.open(store.info().path, read_only=True) as reader:
        assert all(state(reader.at(lsn)) == expected for lsn, expected in written.items())


def test_an_instant_reads_the_last_version_before_it(store: bt.Store) -> None:
    store.ingest(trades("A", [(0, "1")]), feed="f")
    times = store.history().to_arrow()["committed_utc"].cast(pa.int64()).to_pylist()
    store.ingest(trades("B", [(0, "1")]), feed="f")
    assert store.at(pa_instant(times[-1])).symbols() == ["A"]
    assert store.at(dt.datetime.now(dt.UTC)).symbols() == ["A", "B"]
    with pytest.raises(VersionNotFoundError, match="first is younger"):
        store.at(dt.datetime(2001, 1, 1, tzinfo=dt.UTC))


def pa_instant(ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(ns // 10**9, dt.UTC):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z"


def test_reads_take_as_of(store: bt.Store) -> None:
    lsn = store.ingest(trades("A", [(0, "1"), (1, "2")]), feed="f").lsn
    store.delete("A", start=MINUTE_NS)
    assert store.ticks("A", as_of=lsn).to_arrow().num_rows == 2
    assert store.bars("A", "1m", as_of=lsn).to_arrow().num_rows == 2
    assert store.bars("A", "1s", as_of=lsn).to_arrow().num_rows == 2
    assert store.sql("select count(*) as n from ticks", as_of=lsn).to_pylist() == [{"n": 2}]
    assert store.sql("select count(*) as n from ticks").to_pylist() == [{"n": 1}]


def test_the_past_is_read_only_and_pickles(store: bt.Store) -> None:
    lsn = store.ingest(trades("A", [(0, "1")]), feed="f").lsn
    store.ingest(trades("B", [(0, "1")]), feed="f")
    past = store.at(lsn)
    with pytest.raises(StoreReadOnlyError, match=f"version {lsn}"):
        past.delete("A")
    assert past.refresh() == lsn
    assert past.info().lsn == lsn
    assert past.history().to_arrow()["lsn"].to_pylist()[-1] == lsn
    with pickle.loads(pickle.dumps(past)) as again:
        assert again.symbols() == ["A"]
    past.close()
    assert store.symbols() == ["A", "B"]


def test_tags_name_versions(store: bt.Store) -> None:
    lsn = store.ingest(trades("A", [(0, "1")]), feed="f").lsn
    assert store.tag("before B") == lsn
    store.ingest(trades("B", [(0, "1")]), feed="f")
    assert store.at("before B").symbols() == ["A"]
    assert store.ticks(as_of="before B").to_arrow().num_rows == 1
    assert store.tag("before B", lsn) == lsn
    with pytest.raises(ArgumentError, match="names version"):
        store.tag("before B")
    with pytest.raises(ArgumentError, match="instant"):
        store.tag("2024-01-02")
    with pytest.raises(ArgumentError, match="a tag is a name"):
        store.tag(" ")
    assert store.history().to_arrow()["tags"].to_pylist()[lsn - 1] == ["before B"]


@pytest.mark.parametrize("when", [0, -1, 99, "no such tag"])
def test_an_unknown_version_is_an_error(store: bt.Store, when: object) -> None:
    with pytest.raises(VersionNotFoundError):
        store.at(when)  # type: ignore[arg-type]


@pytest.mark.parametrize("when", [True, 1.5, object()])
def test_what_is_no_version_is_refused(store: bt.Store, when: object) -> None:
    with pytest.raises(ArgumentError):
        store.at(when)  # type: ignore[arg-type]


def test_a_difference_counts_rows_and_bars(store: bt.Store) -> None:
    first = store.ingest(trades("A", [(0, "1"), (0, "1"), (1, "2")]), feed="f").lsn
    store.ingest(trades("B", [(5, "1")]), feed="f")
    store.delete("A", start=MINUTE_NS)
    diff = store.diff(first)
    assert diff.ticks_added == {"B": 1}
    assert diff.ticks_removed == {"A": 1}
    assert diff.symbols_added == ("B",)
    assert diff.symbols_removed == ()
    # A: its bar of minute 1 went, and those of 5m to 1d changed; B: one bar of each timeframe came.
    assert diff.bars_changed == {"A": 7, "B": 7}
    back = store.diff(store.info().lsn, first)
    assert (back.ticks_added, back.ticks_removed) == ({"A": 1}, {"B": 1})
    assert store.diff(first, first).to_dict()["files_added"] == 0


def test_revert_brings_a_version_back(store: bt.Store) -> None:
    states = {}
    for number in range(9):
        lsn = change(store, number)
        states[lsn] = state(store)
    newest = store.info().lsn
    for lsn in (4, newest, 2):
        reverted = store.revert(lsn)
        assert state(store) == states[lsn]
        assert state(store.at(reverted)) == states[lsn]
    assert state(store.at(newest)) == states[newest]
    assert store.revert(2) == store.info().lsn
    # What comes after goes by the state that was brought back.
    assert store.ingest(trades("S0", [(0, "1.5"), (0, "2")]), feed="f").duplicate == 2
    with bt.open(store.info().path, read_only=True) as reader:
        assert state(reader) == state(store)


@given(st.lists(st.tuples(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5))), max_size=8), st.integers(0, 8))
def test_records_at_once_are_records_one_by_one(steps: list[tuple[list[int], list[int]]], cut: int) -> None:
    held: set[str] = set()
    records = []
    for lsn, (removed, added) in enumerate(steps, 1):
        gone = {str(n) for n in removed} & held
        new = {str(n) for n in added} - (held - gone)
        held = (held - gone) | new
        records.append((lsn, lsn, Commit("x", added=_files(sorted(new)), removed=tuple(sorted(gone)))))
    version = Version().apply_all(records[:cut]).apply_all(records[cut:])
    assert sorted(version.files["file_id"].to_pylist()) == sorted(held)


def _files(ids: list[str]) -> pa.Table:
    rows = [(file_id, "ticks", "i", "p", 1, 1, b"x" * 32, 0, None, None) for file_id in ids]
    return pa.Table.from_pylist([dict(zip(FILES.names, row, strict=True)) for row in rows], FILES)
