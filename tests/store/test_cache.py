"""Reads with rows kept in memory, and without: the same rows, whatever is kept, evicted or changed meanwhile."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import DataCorruptError, SymbolNotFoundError
from backtestr.schema import STORED_BARS, TICKS

START_NS = 1_704_205_800_000_000_000
STEP_NS = 700_000_000
SIZES = {"LARGE": 70_000, "SMALL": 900, "TINY": 3, "ODD": 9_000}
TEXTS = ["symbol", "conditions", "timeframe", "price_basis"]


def trades(symbol: str, rows: int, *, seed: int, first: int = 0) -> pa.Table:
    """Trades in order of time, some of one instant, with conditions and exchanges on some."""
    draw = np.random.default_rng(seed)
    time_ns = START_NS + STEP_NS * (first + np.sort(draw.integers(0, rows, rows)))
    cents = 10_000 + np.cumsum(draw.integers(-2, 3, rows))
    return pa.table(
        {
            "symbol": [symbol] * rows,
            "timestamp_utc": pa.array(time_ns, pa.timestamp("ns", "UTC")),
            "price": pa.array(cents).cast(pa.decimal128(21, 2)),
            "volume": pa.array(draw.integers(1, 2_000, rows)).cast(pa.decimal128(21, 2)),
            "exchange": pa.array(draw.choice(["N", "Q", "P"], rows), mask=draw.random(rows) < 0.1),
            "conditions": pa.array(draw.choice(["@", "I", "T I"], rows), mask=draw.random(rows) < 0.5),
        }
    )


def as_read(rows: pa.Table) -> pa.Table:
    """One chunk of plain columns."""
    plain = [rows[name].cast(pa.string()) if name in TEXTS else rows[name] for name in rows.column_names]
    return pa.table(dict(zip(rows.column_names, plain, strict=True))).combine_chunks()


def stored_rows(path: Path, table: str, schema: pa.Schema) -> pa.Table:
    """All rows of a store's files by pyarrow, without our reader, in the order of a read."""
    with bt.open(path, read_only=True) as store:
        files = [path / file.path for file in store._version().of(table)]
    parts = []
    for file in files:
        found = pq.ParquetFile(file).read()
        names = found.column_names
        columns = []
        for field in schema:
            kind = pa.string() if field.name in TEXTS else field.type
            if field.name in names:
                column = found[field.name]
                if pa.types.is_timestamp(kind):
                    column = column.cast(pa.timestamp("ns")).cast(kind)
                columns.append(column.cast(kind))
            elif field.nullable:
                columns.append(pa.nulls(found.num_rows, kind))
            else:
                columns.append(pa.array(np.zeros(found.num_rows, np.int8), kind))
        parts.append(pa.table(columns, schema.names))
    order = ("timeframe", "symbol", "timestamp_utc", "sequence", "price", "volume")
    keys = [(name, "ascending") for name in order if name in schema.names]
    return pa.concat_tables(parts).sort_by(keys).combine_chunks()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several files: symbols with groups of their own and shared ones, and one whose files overlap."""
    folder = tmp_path_factory.mktemp("cache") / "store"
    with bt.open(folder) as store:
        store.ingest(pa.concat_tables([trades(s, n, seed=7) for s, n in SIZES.items()]), feed="f")
        store.ingest(trades("LARGE", 20_000, seed=8, first=90_000), feed="f")
        more = trades("MIXED", 600, seed=9)
        store.ingest(more.take(list(range(0, 600, 2))), feed="f")
        store.ingest(more.take(list(range(1, 600, 2))), feed="f")
    return folder


@pytest.fixture(scope="module")
def ticks(path: Path) -> pa.Table:
    return stored_rows(path, "ticks", TICKS)


@pytest.fixture(scope="module")
def bars(path: Path) -> pa.Table:
    return stored_rows(path, "bars", STORED_BARS)


@pytest.fixture(scope="module")
def stores(path: Path) -> Iterator[list[bt.Store]]:
    """Without a cache, with one for everything, and with one that holds a group or two."""
    opened = [bt.open(path, read_only=True, hot_cache_bytes=size) for size in (0, "1GiB", "2MiB")]
    yield opened
    for store in opened:
        store.close()


def window(rows: pa.Table, symbols: list[str], start: int | None, end: int | None) -> pa.Table:
    at = rows["timestamp_utc"].cast(pa.int64()).to_numpy()
    keep = np.isin(rows["symbol"].to_numpy(zero_copy_only=False), symbols)
    keep &= at >= (-(2**63) if start is None else start)
    keep &= at < (2**63 - 1 if end is None else end)
    return rows.filter(pa.array(keep)).combine_chunks()


INSTANTS = st.one_of(st.none(), st.integers(-10, 120_000))
COLUMNS = st.one_of(st.none(), st.lists(st.sampled_from(TICKS.names), min_size=1, unique=True))
SYMBOLS = st.lists(st.sampled_from([*SIZES, "MIXED"]), min_size=1, max_size=4, unique=True)


@given(
    SYMBOLS, INSTANTS, INSTANTS, st.one_of(st.none(), st.lists(st.sampled_from(TICKS.names), min_size=1, unique=True))
)
def test_any_window_of_ticks(
    stores: list[bt.Store],
    ticks: pa.Table,
    symbols: list[str],
    one: int | None,
    other: int | None,
    columns: list[str] | None,
) -> None:
    start, end = (None if at is None else START_NS + at * STEP_NS for at in (one, other))
    if start is not None and end is not None and start >= end:
        start, end = end, start + 1
    expected = window(ticks, symbols, start, end).select(columns or TICKS.names)
    for store in stores:
        found = store.ticks(symbols, start=start, end=end, columns=columns).to_arrow()
        assert found.schema == pa.schema([TICKS.field(name) for name in columns or TICKS.names])
        assert as_read(found).equals(expected)


def test_windows_that_begin_or_end_with_a_group(stores: list[bt.Store], ticks: pa.Table) -> None:
    edges = set()
    for file in stores[0]._version().of("ticks"):
        for low, high in stores[0]._storage.reader.groups.footer(file).native.times_ns:
            edges |= {low, low + 1, high, high + 1}
    assert len(edges) > 12
    for symbol in ("LARGE", "MIXED"):
        for edge in sorted(edges):
            for start, end in ((edge, None), (None, edge), (edge - 1, edge), (edge, edge + 1)):
                expected = window(ticks, [symbol], start, end)["sequence"].to_pylist()
                for store in stores[:2]:
                    found = store.ticks(symbol, start=start, end=end, columns=["sequence"]).to_arrow()
                    assert found["sequence"].to_pylist() == expected, (symbol, start, end)


@given(SYMBOLS, st.sampled_from(["1m", "1h", "1d"]), INSTANTS)
def test_any_window_of_bars(
    stores: list[bt.Store], bars: pa.Table, symbols: list[str], timeframe: str, at: int | None
) -> None:
    start = None if at is None else START_NS + at * STEP_NS
    expected = window(bars, symbols, start, None)
    expected = expected.filter(pc.equal(expected["timeframe"], timeframe)).combine_chunks()
    for store in stores:
        found = store.bars(symbols, timeframe, start=start).to_arrow().drop_columns("vwap")
        assert as_read(found).equals(expected)


@pytest.mark.parametrize("options", [{"hot_cache_bytes": "3MiB"}, {"hot_cache_ttl": 0.002}, {}])
def test_threads_that_share_a_cache(path: Path, ticks: pa.Table, options: dict[str, Any]) -> None:
    wrong: list[str] = []

    def work(store: bt.Store, seed: int) -> None:
        draw = Random(seed)
        for _ in range(40):
            symbols = draw.sample([*SIZES, "MIXED"], 2)
            start = START_NS + draw.randrange(100_000) * STEP_NS
            end = start + draw.randrange(1, 20_000) * STEP_NS
            columns = draw.choice([None, ["price"], ["timestamp_utc", "symbol", "volume"]])
            found = store.ticks(symbols, start=start, end=end, columns=columns).to_arrow()
            if not as_read(found).equals(window(ticks, symbols, start, end).select(columns or TICKS.names)):
                wrong.append(f"{symbols} {start} {end} {columns}")
            if draw.random() < 0.05:
                store.clear_cache(draw.choice([None, symbols]))

    with bt.open(path, read_only=True, **options) as store:
        threads = [threading.Thread(target=work, args=(store, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = store.cache_stats()["hot"]
    assert not wrong
    assert stats.misses
    assert stats.bytes <= stats.max_bytes


def corrected(store: bt.Store) -> None:
    wrong = store.ticks("A", end=START_NS + 300 * STEP_NS).to_arrow().slice(10, 5)
    price = pa.array([Decimal("7.25")] * 5, TICKS.field("price").type)
    store.correct(wrong.set_column(wrong.schema.get_field_index("price"), "price", price), replacing=wrong)


CHANGES: dict[str, Callable[[bt.Store], object]] = {
    "ingest": lambda store: store.ingest(trades("A", 12_000, seed=1), feed="f"),
    "delete": lambda store: store.delete("A", start=START_NS + 100 * STEP_NS, end=START_NS + 200 * STEP_NS),
    "correct": corrected,
    "append": lambda store: store.append(trades("A", 500, seed=3, first=11_800), feed="f"),
    "flush": lambda store: store.checkpoint(),
    "another symbol": lambda store: store.ingest(trades("B", 5_000, seed=2), feed="f"),
    "revert": lambda store: store.revert(3),
    "gc": lambda store: store.gc(),
}


def test_what_changes_is_seen(tmp_path: Path) -> None:
    """After each change the same requests, of a store with a full cache and of one that opens anew."""
    answers = []
    with bt.open(tmp_path / "store", retention=0) as store:
        for name, change in CHANGES.items():
            change(store)
            for _ in range(2):
                kept = [as_read(store.ticks().to_arrow()), as_read(store.bars(None, "1m").to_arrow())]
            with bt.open(tmp_path / "store", read_only=True, hot_cache_bytes=0) as fresh:
                anew = [as_read(fresh.ticks().to_arrow()), as_read(fresh.bars(None, "1m").to_arrow())]
            assert kept == anew, name
            answers.append(kept[0])
        assert store.cache_stats()["hot"].hits
    assert sum(one != other for one, other in zip(answers[1:], answers, strict=False)) == 5


def test_a_window_decodes_the_groups_that_it_reaches(path: Path, ticks: pa.Table) -> None:
    at = window(ticks, ["LARGE"], None, None)["timestamp_utc"].cast(pa.int64()).to_numpy()
    with bt.open(path, read_only=True) as store:
        before = store.cache_stats()["hot"]
        assert (before.hits, before.misses, before.bytes) == (0, 0, 0)
        assert store.ticks("LARGE", start=int(at[30_000]), end=int(at[30_100])).num_rows
        assert store.cache_stats()["hot"].misses == 1
        store.ticks("LARGE", start=int(at[30_050]), end=int(at[30_060]))
        after = store.cache_stats()["hot"]
        assert (after.hits, after.misses, after.groups) == (1, 1, 1)


def test_columns_join_those_that_are_held(path: Path) -> None:
    with bt.open(path, read_only=True) as store:
        store.ticks("ODD", columns=["price"])
        held = store.cache_stats()["hot"]
        store.ticks("ODD", columns=["volume"])
        store.ticks("ODD", columns=["volume", "price"])
        joined = store.cache_stats()["hot"]
    assert held.groups == joined.groups
    assert held.bytes < joined.bytes


def test_what_is_asked_for_often_stays_through_a_scan(path: Path) -> None:
    with bt.open(path, read_only=True, hot_cache_bytes="3MiB") as store:
        # counting begins when half of the budget is taken
        store.ticks("LARGE", end=START_NS + 100 * STEP_NS)
        for _ in range(10):
            store.ticks("ODD")
        store.ticks(["LARGE", "SMALL", "MIXED"])
        before = store.cache_stats()["hot"]
        store.ticks("ODD")
        after = store.cache_stats()["hot"]
    assert before.evictions
    assert before.bytes <= before.max_bytes
    assert after.misses == before.misses


def test_what_nobody_asks_for_leaves(path: Path) -> None:
    with bt.open(path, read_only=True, hot_cache_ttl=0.05) as store:
        store.ticks("ODD")
        assert store.cache_stats()["hot"].groups
        deadline = time.monotonic() + 10
        while store.cache_stats()["hot"].groups:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert store.cache_stats()["hot"].evictions


def test_clearing_takes_a_symbol_or_all(path: Path) -> None:
    with bt.open(path, read_only=True) as store:
        store.ticks(["ODD", "LARGE"])
        both = store.cache_stats()["hot"].groups
        store.clear_cache("ODD")
        one = store.cache_stats()["hot"].groups
        misses = store.cache_stats()["hot"].misses
        store.ticks("LARGE")
        assert store.cache_stats()["hot"].misses == misses
        store.clear_cache()
        assert both > one > store.cache_stats()["hot"].groups == 0
        with pytest.raises(SymbolNotFoundError):
            store.clear_cache("NONE")


def test_no_budget_is_no_cache(path: Path) -> None:
    with bt.open(path, read_only=True, hot_cache_bytes=0) as store:
        store.ticks("ODD")
        store.clear_cache("ODD")
        assert set(store.cache_stats()["hot"].to_dict().values()) == {0}


def test_files_that_pyarrow_encoded_are_read(path: Path, ticks: pa.Table, tmp_path: Path) -> None:
    """As older stores have them: the same row groups, other pages."""
    copied = tmp_path / "store"
    shutil.copytree(path, copied)
    with bt.open(copied, read_only=True) as store:
        files = [copied / file.path for file in store._version().of("ticks")]
    for file in files:
        old = pq.ParquetFile(file)
        groups = [old.read_row_group(group) for group in range(old.num_row_groups)]
        with pq.ParquetWriter(file, old.schema_arrow, write_page_checksum=True, store_schema=False) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=1 << 20)
    with pytest.raises(DataCorruptError, match="footer"), bt.open(copied, read_only=True) as store:
        store.ticks("ODD")
    with bt.open(copied, read_only=True, verify="never") as store:
        assert not store._storage.reader.groups.footer(store._version().of("ticks")[0]).is_own
        for symbols in (["ODD"], ["LARGE", "TINY", "MIXED"]):
            assert as_read(store.ticks(symbols).to_arrow()).equals(window(ticks, symbols, None, None))


def test_the_newest_ticks(stores: list[bt.Store], ticks: pa.Table) -> None:
    names = sorted([*SIZES, "MIXED"])
    last = [window(ticks, [name], None, None) for name in names]
    expected = pa.concat_tables([rows.slice(rows.num_rows - 1) for rows in last]).combine_chunks()
    for store in stores:
        found = store.latest().to_arrow()
        assert found.schema == TICKS
        assert as_read(found).equals(expected)
        assert as_read(store.latest(["TINY", "ODD"]).to_arrow()) == as_read(store.latest(["ODD", "TINY"]).to_arrow())
        with pytest.raises(SymbolNotFoundError):
            store.latest("NONE")


@settings(max_examples=settings.default.max_examples // 5)
@example([("A", 1, False)] * 4)
@example([("B", 0, True), ("B", 0, False), ("A", 1, False), ("A", 1, True), ("A", 2, True)])
@example([("A", 1, False), ("A", 1, False), ("A", 2, True)])
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2), st.booleans()), min_size=2, max_size=6))
def test_the_newest_ticks_of_files_and_live_rows(parts: list[tuple[str, int, bool]]) -> None:
    """Batches of one instant each, so that files and live rows share the newest one."""
    with tempfile.TemporaryDirectory() as folder, bt.open(folder) as store:
        for seed, (symbol, instant, is_live) in enumerate(parts):
            at = pa.array([START_NS + instant * STEP_NS] * (1 + seed % 3), pa.timestamp("ns", "UTC"))
            rows = trades(symbol, len(at), seed=seed).set_column(1, "timestamp_utc", at)
            (store.append if is_live else store.ingest)(rows, feed="f")
            whole = store.ticks().to_pylist()
            last = {row["symbol"]: row for row in whole}
            assert store.latest().to_pylist() == [last[name] for name in sorted(last)]
        assert store.latest(as_of=store.history().to_pylist()[-1]["lsn"]).num_rows == len(last)


@pytest.mark.parametrize(("filed", "live"), [(9, 3), (3, 9)])
def test_the_newest_tick_by_sequence_where_a_live_one_shares_its_instant(tmp_path: Path, filed: int, live: int) -> None:
    row = trades("A", 1, seed=0)
    with bt.open(tmp_path / "store") as store:
        store.ingest(row.append_column("sequence", pa.array([filed])), feed="f")
        store.append(row.append_column("sequence", pa.array([live])), feed="f")
        assert store.latest("A").to_pylist() == store.ticks("A").to_pylist()[-1:]
        assert store.latest("A").to_pylist()[0]["sequence"] == 9
