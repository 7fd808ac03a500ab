"""Rows of a statement batch by batch: the same as whole, of one version, in bounded memory."""

from __future__ import annotations

import datetime as dt
import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError, SQLError, StoreClosedError

MONTHS = 6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[bt.Store]:
    """A file of 5,000 ticks a month, and some that only the log holds."""
    with bt.open(tmp_path / "store", flush_rows=10**6, flush_seconds=10**6) as opened:
        for month in range(1, MONTHS + 1):
            opened.ingest(trades(dt.datetime(2024, month, 1), 5_000), symbol="A", feed="a")
        opened.append(trades(dt.datetime(2024, MONTHS + 1, 1), 10), symbol="B", feed="a")
        yield opened


def trades(first: dt.datetime, count: int) -> dict[str, list[object]]:
    times = [first + dt.timedelta(seconds=second) for second in range(count)]
    return {"ts": times, "price": [1 + second % 5 for second in range(count)], "volume": [1] * count}


def held(store: bt.Store) -> int:
    gc.collect()
    return sum(store._storage.lease._in_use.values())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("select * from ticks order by symbol, timestamp_ns, sequence", None),
        ("select * from bars where timeframe = '2m' order by symbol, timestamp_utc", None),
        (
            "select symbol, date_trunc('hour', timestamp_utc) as h, max(price) p from ticks group by all order by all",
            None,
        ),
        ("select price, count(*) as n from ticks where symbol = ? group by price order by price", ["A"]),
        ("select mine.x, count(*) as n from ticks, mine where price = mine.x group by all order by all", None),
        ("select * from ticks where false", None),
    ],
)
def test_the_same_rows(store: bt.Store, text: str, params: list[str] | None) -> None:
    tables = {"mine": pa.table({"x": [1, 2]})} if "mine" in text else None
    whole = store.sql(text, params, tables=tables).to_arrow()
    with store.stream(text, params, tables=tables, batch_rows=3_000) as reader:
        batches = list(reader)
    assert pa.Table.from_batches(batches, whole.schema).equals(whole)
    assert all(0 < batch.num_rows <= 3_000 for batch in batches)
    frame = store.sql(text, params, tables=tables).reader(batch_rows=3_000)
    assert frame.read_all().equals(whole)
    assert held(store) == 0


def test_one_version_beside_changes(store: bt.Store) -> None:
    reader = store.stream("select timestamp_utc from ticks where symbol = 'A'", batch_rows=100)
    rows = reader.read_next_batch().num_rows
    files = set(store._path.glob("data/ticks/**/*.parquet"))
    store.delete("A")
    assert store.gc(retention=0).files == 0
    assert files <= set(store._path.glob("data/ticks/**/*.parquet"))
    assert rows + sum(batch.num_rows for batch in reader) == 5_000 * MONTHS
    assert held(store) == 0
    assert store.gc(retention=0).files > 0
    past = store.sql("select count(*) as n from ticks").to_pylist()
    assert past == [{"n": 10}]


def test_versions_of_the_past(store: bt.Store) -> None:
    lsn = store.refresh()
    store.delete("A")
    count = "select * from ticks"
    assert store.stream(count).read_all().num_rows == 10
    assert store.stream(count, as_of=lsn).read_all().num_rows == 5_000 * MONTHS + 10
    past = store.at(lsn)
    assert past.stream(count).read_all().num_rows == 5_000 * MONTHS + 10
    past.close()


@pytest.mark.parametrize("read", [0, 1])
def test_a_reader_that_is_dropped_lets_go(store: bt.Store, read: int) -> None:
    reader = store.stream("select * from ticks, range(1000)", batch_rows=100)
    for _ in range(read):
        reader.read_next_batch()
    assert held(store) == 1
    del reader
    assert held(store) == 0


def test_what_fails_lets_go(store: bt.Store) -> None:
    text = "select case when range = 900000 then 'x' else '1' end::integer from range(1000000)"
    with pytest.raises(SQLError, match="the query failed: Conversion Error"):
        store.stream(text, batch_rows=100).read_all()
    for refused in ("select", "select nothing from ticks", "copy ticks to 'x.csv'", "select * from ticks; select 1"):
        with pytest.raises(SQLError):
            store.stream(refused)
    for rows in (0, -1, True, 1.5, "7", None):
        with pytest.raises(ArgumentError, match="batch_rows="):
            store.stream("select 1", batch_rows=rows)  # type: ignore[arg-type]
    assert held(store) == 0


def test_a_store_that_is_closed_ends_it(store: bt.Store) -> None:
    reader = store.stream("select * from ticks, range(1000)", batch_rows=100)
    reader.read_next_batch()
    store.close()
    with pytest.raises(StoreClosedError):
        reader.read_all()
    assert not list((store._path / "readers").iterdir())
    with pytest.raises(StoreClosedError):
        store.stream("select 1")


LARGE = """
import re, sys, pathlib, backtestr as bt
with bt.open(sys.argv[1], read_only=True, memory_limit="200MB") as store:
    rows = 0
    for batch in store.stream("select t.*, range as n from ticks t, range(500)"):
        rows += batch.num_rows
    # ru_maxrss begins with what the process that started this one had
    peak = re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
    print(rows, int(peak[1]) // 1024)
"""


def test_memory_is_bounded(store: bt.Store) -> None:
    """Fifteen million rows of more than 100 bytes each."""
    run = subprocess.run([sys.executable, "-c", LARGE, str(store._path)], check=True, capture_output=True, text=True)
    rows, megabytes = map(int, run.stdout.split())
    assert rows == 500 * (5_000 * MONTHS + 10)
    assert megabytes < 600
