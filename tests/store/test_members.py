"""Several files in one load: the same store as file by file, in any order."""

from __future__ import annotations

import itertools
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import SequenceConflictError
from backtestr.models.rules import DEFAULT_REJECT
from tests.store.test_merge import START, assert_bars_in_step, trades

SECOND = 1_000_000_000
DAY = 86_400
HEADER = "symbol,timestamp,price,volume,exchange,conditions\n"
Row = tuple[str, int, str, str, str]
"""Symbol, seconds after START, price, exchange, condition."""
ROWS = st.tuples(
    st.sampled_from(["A", "B"]),
    st.sampled_from([0, 0, 1, 61, 40 * DAY]),
    st.sampled_from(["1", "2", "-1"]),
    st.sampled_from(["Z", "B", ""]),
    st.sampled_from(["x", ""]),
)
FILES = st.lists(st.lists(ROWS, max_size=7), min_size=1, max_size=4)


def write(folder: Path, files: Sequence[Sequence[Row]]) -> list[Path]:
    """One text per file, all of one name."""
    paths = []
    for number, rows in enumerate(files):
        path = folder / str(number) / "ticks.csv"
        path.parent.mkdir(parents=True)
        lines = (f"{s},{START + at * SECOND},{price},1,{venue},{cond}\n" for s, at, price, venue, cond in rows)
        path.write_text(HEADER + "".join(lines))
        paths.append(path)
    return paths


def load(folder: Path, calls: Sequence[object], **options: object) -> tuple[list[dict[str, object]], object, list[int]]:
    """Ticks by name, bars, and the sums of rows in, accepted, rejected and duplicates, of a store loaded so."""
    sums = [0, 0, 0, 0]
    with bt.open(folder, **options) as store:
        for paths in calls:
            tried = store.ingest(paths, feed="f", max_rejected=1, dry_run=True)
            report = store.ingest(paths, feed="f", max_rejected=1)
            counts = [report.rows_in, report.accepted, report.rejected, report.duplicate]
            assert counts == [tried.rows_in, tried.accepted, tried.rejected, tried.duplicate]
            assert report.rows_in == report.accepted + report.rejected + report.duplicate
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
        if not store.sql("select 1 from ticks where tick_type <> 0 limit 1").to_pylist():
            assert_bars_in_step(store)
        codes = {row["id"]: row["code"] for row in store.sql("select * from exchanges").to_pylist()}
        ticks = [row | {"exchange_id": codes.get(row["exchange_id"])} for row in store.ticks().to_pylist()]
        bars = [store.bars(None, timeframe).to_pylist() for timeframe in ("1s", "1m", "1d")]
        assert store.quarantine().num_rows == sums[2]
    return ticks, bars, sums


def model(files: Sequence[Sequence[Row]]) -> list[tuple[str, int, int, Decimal, str | None, str | None]]:
    """What is kept: of each row as many copies as one file holds at most, each with its smallest ordinal."""
    ordinals: dict[Row, list[list[int]]] = defaultdict(list)
    copies: Counter[Row] = Counter()
    for rows in files:
        mine: dict[Row, list[int]] = defaultdict(list)
        for ordinal, row in enumerate(rows):
            if row[2] != "-1":
                mine[row].append(ordinal)
        copies |= Counter({row: len(found) for row, found in mine.items()})
        for row, found in mine.items():
            ordinals[row].append(found)
    kept = []
    for (symbol, at, price, venue, cond), count in copies.items():
        for copy in range(count):
            found = ordinals[symbol, at, price, venue, cond]
            smallest = min(one[copy] for one in found if copy < len(one))
            kept.append((symbol, START + at * SECOND, smallest, Decimal(price), venue or None, cond or None))
    return sorted(kept, key=lambda row: (*row[:4], row[4] or "", row[5] or ""))


@given(files=FILES, data=st.data())
def test_files_of_one_load_are_as_those_of_several(
    files: list[list[Row]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("s")
    paths = write(folder, files)
    together = load(folder / "together", [paths])
    kept = [
        (
            row["symbol"],
            row["timestamp_utc"].value,
            row["sequence"],
            row["price"],
            row["exchange_id"],
            row["conditions"],
        )
        for row in together[0]
    ]
    assert kept == model(files)
    assert together[2][:3:2] == [
        sum(map(len, files)),
        sum(row[2] == "-1" for rows in files for row in rows),
    ]
    order = data.draw(st.permutations(paths))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(paths) - 1)))))
    calls = [order[a:b] for a, b in itertools.pairwise([0, *cuts, len(order)]) if a < b]
    # With no memory to sort in, every batch becomes a sort run of its own.
    options = data.draw(st.sampled_from([{}, {"sort_memory_bytes": 1}]))
    assert load(folder / "again", calls, **options) == together


@pytest.mark.parametrize("name", [("one.csv", "two.csv"), ("a/one.csv", "b/one.csv")])
def test_members_of_an_archive(tmp_path: Path, name: tuple[str, str]) -> None:
    rows = [("A", 0, "1", "", ""), ("A", 0, "2", "", ""), ("A", 0, "2", "", "")]
    paths = write(tmp_path, [rows, rows[1:]])
    for order in (paths, paths[::-1]):
        with zipfile.ZipFile(tmp_path / f"{order[0].parent.name}.zip", "w") as archive:
            for path, inner in zip(order, name, strict=True):
                archive.write(path, inner)
    answers = [load(tmp_path / f"s{number}", [tmp_path / f"{number}.zip"]) for number in (0, 1)]
    assert answers[0] == answers[1] == load(tmp_path / "apart", paths)
    assert [(row["sequence"], row["price"]) for row in answers[0][0]] == [(0, 1), (0, 2), (1, 2)]
    assert answers[0][2] == [5, 3, 0, 2]


def test_a_file_given_twice_is_there_once(tmp_path: Path) -> None:
    rows = [("A", 0, "1", "", ""), ("A", 0, "1", "", ""), ("A", 1, "-1", "", "")]
    (path,) = write(tmp_path, [rows])
    assert load(tmp_path / "s", [[path, path]])[2] == [6, 2, 2, 2]
    with bt.open(tmp_path / "s") as store:
        assert store.quarantine().to_arrow()["line"].to_pylist() == [4, 4]


def test_files_of_other_columns(tmp_path: Path) -> None:
    texts = {
        "trades": "symbol,timestamp,price,volume\nA,2024-01-02T14:30:00Z,1,1\nA,2024-03-02T14:30:00Z,1,1\n",
        "quotes": "symbol,timestamp,bid,ask,exchange\nA,2024-01-02T14:30:00Z,1,2,X\nB,2024-04-02T14:30:00Z,1,2,X\n",
        "more": "symbol,timestamp,bid,ask,bid_size\nB,2024-04-02T14:30:00Z,1,2,5\nC,2024-04-02T14:30:00Z,1,2,5\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in texts]
    apart = load(tmp_path / "apart", paths)
    for number, order in enumerate(itertools.permutations(paths)):
        for memory in (1, 1 << 20):
            assert load(tmp_path / f"{number}-{memory}", [order], sort_memory_bytes=memory) == apart


def test_frames_in_files(tmp_path: Path) -> None:
    first, second = trades([(0, "1", "1"), (0, "2", "1")]), trades([(0, "2", "1"), (0, "2", "1"), (0, "1", "1")])
    paths = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    for table, path in zip((first, second), paths, strict=True):
        pq.write_table(table, path)
    answers = [load(tmp_path / str(n), calls) for n, calls in enumerate(([paths], [paths[::-1]], paths))]
    assert answers[0] == answers[1] == answers[2]
    assert [(row["sequence"], row["price"]) for row in answers[0][0]] == [(0, 1), (0, 2), (1, 2)]


def test_a_stream_of_batches_is_one_member(tmp_path: Path) -> None:
    batch = trades([(0, "1", "1")]).to_batches()[0]
    with bt.open(tmp_path / "s") as store:
        report = store.ingest(pa.RecordBatchReader.from_batches(batch.schema, [batch, batch]), feed="f")
        assert (report.accepted, report.duplicate) == (2, 0)
        assert store.ticks("A").to_arrow()["sequence"].to_pylist() == [0, 1]


def test_rules_on_neighbours_look_within_a_file(tmp_path: Path) -> None:
    paths = write(tmp_path, [[("A", 0, "1", "", "")], [("A", 9, "2", "", "")]])
    strict = bt.ValidationRules(max_jump=0.1, reject=DEFAULT_REJECT | {"out_of_order", "price_jump"}, flag=frozenset())
    for number, order in enumerate((paths, paths[::-1])):
        with bt.open(tmp_path / f"s{number}") as store:
            assert store.ingest(order, feed="f", rules=strict).accepted == 2


def test_numbered_rows_of_several_files(tmp_path: Path, numbered_feed) -> None:
    paths = []
    for name, prices in {"a": ["1", "2"], "b": ["2", "3"], "c": ["9", "4"]}.items():
        first = {"a": 0, "b": 1, "c": 1}[name]
        rows = trades([(first + n, price, "1") for n, price in enumerate(prices)], sequence=[first, first + 1])
        paths.append(tmp_path / f"{name}.parquet")
        pq.write_table(rows, paths[-1])
    for number, order in enumerate((paths[:2], paths[1::-1])):
        with bt.open(tmp_path / str(number)) as store:
            report = numbered_feed(store, order)
            assert (report.accepted, report.duplicate) == (3, 1)
            assert store.ticks("A").to_arrow()["sequence"].to_pylist() == [0, 1, 2]
            assert_bars_in_step(store)
    for number, order in enumerate(itertools.permutations(paths), 2):
        with bt.open(tmp_path / str(number)) as store:
            with pytest.raises(SequenceConflictError, match=r"sequence [12]"):
                numbered_feed(store, order)
            assert store.symbols() == []


def test_replace_with_several_files(tmp_path: Path) -> None:
    old = [("A", 0, "1", "", ""), ("A", 5, "1", "", ""), ("A", 9, "1", "", "")]
    new = [[("A", 1, "2", "", ""), ("A", 5, "3", "", "")], [("A", 5, "3", "", ""), ("A", 5, "1", "", "")]]
    before, *paths = write(tmp_path, [old, *new])
    for number, order in enumerate((paths, paths[::-1])):
        with bt.open(tmp_path / f"s{number}") as store:
            store.ingest(before, feed="f")
            report = store.ingest(order, feed="f", mode="replace")
            assert (report.accepted, report.duplicate, report.replaced) == (3, 1, 1)
            ticks = store.ticks("A").to_arrow()
            assert ticks["price"].to_pylist() == [1, 2, 3, 1, 1]
            assert ticks["sequence"].to_pylist() == [0, 0, 0, 1, 2]
            assert_bars_in_step(store)


def test_a_large_load_of_new_and_old_symbols(tmp_path: Path) -> None:
    calls = write(tmp_path, [[("A", 0, "1", "Z", "x")], [("A", 1, "2", "Z", "x"), ("B", 1, "2", "Z", "x")]])
    small, large = (load(tmp_path / f"s{limit}", calls, sort_memory_bytes=limit) for limit in (1 << 20, 1))
    assert small == large
