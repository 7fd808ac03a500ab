"""Whatever is changed in a store's files is found, and what can be put right is."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError, DataCorruptError, StoreLockedError, StoreReadOnlyError
from backtestr.models import VerifyReport
from backtestr.storage.commit import Commit
from backtestr.storage.encode import measure_layout
from backtestr.storage.write import FileWriter
from tests.store.test_history import change, state, trades

MONTH_MINUTES = 31 * 24 * 60


def fill(store: bt.Store) -> None:
    """Two symbols over three months, an earlier version, a snapshot and a rejected row."""
    for symbol in ("A", "B"):
        rows = [(minute, f"{1 + minute % 7}.25") for minute in range(0, 3 * MONTH_MINUTES, 97)]
        store.ingest(trades(symbol, rows), feed="f")
    store.delete("B", start=0, end=60_000_000_000)
    store.checkpoint()
    bad = trades("C", [(0, "1"), (1, "-1")])
    store.ingest(bad, feed="f", max_rejected=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "s"
    with bt.open(path) as store:
        fill(store)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "s"))


def listed(path: Path, table: str) -> list[Path]:
    with bt.open(path, read_only=True) as store:
        return [path / file.path for file in store._version().of(table)]


def kinds(report: VerifyReport) -> list[str]:
    return [problem.kind for problem in report.problems]


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def test_a_sound_store_is_in_order(path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    with bt.open(path, read_only=True) as store:
        report = store.verify(deep=True, progress=lambda *now: told.append(now))
        assert report.ok, str(report)
        assert report.orphans == ()
        assert report.files == store.info().files
        assert report.rows == store.info().ticks + store.info().bars + store.info().quarantined
        assert report.bars_compared == store.info().bars
        assert (report.commits, report.snapshots, report.past_missing) == (store.info().lsn, 1, 0)
        assert report.past_files > 0
        assert {what.split()[0] for *_, what in told} == {"checking", "comparing"}
        assert all(done < (total or 0) for done, total, _ in told)
        assert store.at(2).verify(deep=True).ok
        assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert not (path / "LOCK.json").exists()


def test_stores_of_many_commits_are_in_order(tmp_path: Path, vendor_like: Callable[[bt.Store], None]) -> None:
    with bt.open(tmp_path / "s") as store:
        for number in range(12):
            change(store, number)
            if number % 5 == 4:
                store.checkpoint()
        store.revert(4)
        vendor_like(store)
        store.checkpoint()
        report = store.verify(deep=True)
        assert report.ok, str(report)
        assert report.snapshots == 2


@pytest.fixture
def vendor_like() -> Callable[[bt.Store], None]:
    samples = Path(__file__).parents[2] / "samples"

    def load(store: bt.Store) -> None:
        store.ingest(samples / "lean/equity/usa/tick/ibm/20131008_trade.zip")
        store.ingest(samples / "questdb/btc_trades.csv", feed="coinbase")
        quotes = {"bid": ["1.5", None, "1.25"], "ask": [None, "2", "2"], "timestamp_utc": [1, 2, 3]}
        for rows in (slice(0, 1), slice(0, 2), slice(0, 3)):
            some = pa.table({name: values[rows] for name, values in quotes.items()})
            store.ingest(some, symbol=f"Q{rows.stop}", feed="quotes")

    return load


@pytest.mark.parametrize("table", ["ticks", "bars", "quarantine"])
def test_every_flipped_bit_of_a_file_is_found(path: Path, table: str) -> None:
    file = listed(path, table)[0]
    good = file.read_bytes()
    places = [0, 5, len(good) - 1, len(good) - 5, len(good) - 20, len(good) - 200]
    places += random.Random(7).sample(range(len(good)), 40)
    with bt.open(path, read_only=True) as store:
        for at in places:
            flip(file, at, 1 << at % 8)
            report = store.verify()
            assert kinds(report) == ["damaged"], at
            assert report.problems[0].path == str(file.relative_to(path))
            if table == "ticks":
                assert report.problems[0].symbols
                assert " from 1970-" in report.problems[0].message
            file.write_bytes(good)
        for size in (0, 3, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:size])
            assert kinds(store.verify()) == ["damaged"]
        file.unlink()
        assert kinds(store.verify()) == ["missing"]
        file.write_bytes(good)
        assert store.verify().ok


def test_every_flipped_bit_of_log_and_snapshot_is_found(path: Path) -> None:
    (log,) = (path / "log").glob("*.log")
    (snapshot,) = (path / "snapshots").iterdir()
    with bt.open(path, read_only=True) as store:
        for file, kind in ((log, "log"), (snapshot, "snapshot")):
            good = file.read_bytes()
            for at in [0, 60, 64, len(good) - 1, *random.Random(3).sample(range(len(good)), 30)]:
                flip(file, at, 1 << at % 8)
                assert kinds(store.verify()) == [kind], at
                file.write_bytes(good)
            file.write_bytes(good[: len(good) // 2])
            assert kinds(store.verify()) == [kind]
            file.write_bytes(good)
        log.unlink()
        assert kinds(store.verify()) == ["log"]


def test_a_snapshot_of_other_content_is_found(path: Path, tmp_path: Path) -> None:
    with bt.open(path) as store:
        version = store._version()
        wrong = version.apply(version.lsn, version.time_ns, Commit("", removed=(*version.file_by_id,)))
        from backtestr.storage.checkpoint import write_snapshot

        write_snapshot(store._storage.layout, wrong)  # type: ignore[union-attr]
        report = store.verify()
        assert kinds(report) == ["snapshot"]
        assert report.snapshots == 1


def test_symbols_of_the_damaged_group_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        rows = [(minute % 40_000, "1.5") for minute in range(9_000)]
        store.ingest(pa.concat_tables([trades(name, rows) for name in "ABC"]), feed="f")
    (file,) = listed(path, "ticks")
    with bt.open(path, read_only=True) as store:
        start, size = 4, file.stat().st_size
        flip(file, start + size // 50)
        assert store.verify().problems[0].symbols == ("A",)


def wrong_commit(store: bt.Store, table: str, alter: Callable[[pa.Table], pa.Table]) -> None:
    """Replace the first file of a table by one of other rows, described as they are."""
    from concurrent.futures import ThreadPoolExecutor

    storage = store._readable()
    file = storage.journal.begin().of(table)[0]
    rows = alter(pa.concat_tables([rows for _, rows in storage.reader.file_parts(file)]))
    with ThreadPoolExecutor(1) as pool:
        columns = measure_layout(rows)
        options = {"zstd_level": 3, "max_bytes": 1 << 26, "columns": columns}
        writer = FileWriter(pool, storage.layout, table, file.interval, **options)  # type: ignore[arg-type]
        writer.add(rows, last=True)
        writer.finish()
        written = writer.written()
    storage.journal.commit(Commit("wrong", written.files, written.index, removed=(file.file_id,)))


def other_high(rows: pa.Table) -> pa.Table:
    highs = rows["high"].to_pylist()
    highs[5] += 1
    return rows.set_column(rows.schema.get_field_index("high"), "high", pa.array(highs, rows.schema.field("high").type))


@pytest.mark.parametrize(
    ("table", "alter", "said"),
    [
        ("bars", other_high, "not that of the ticks in high"),
        ("bars", lambda rows: rows.slice(1), "is missing"),
        ("bars", lambda rows: rows.slice(0, rows.num_rows - 1), "is missing"),
        ("ticks", lambda rows: rows.slice(1), "not that of the ticks"),
        ("ticks", lambda rows: rows.slice(0, 300), "one the ticks do not make"),
    ],
)
def test_bars_out_of_step_are_found_and_made_anew(
    path: Path, table: str, alter: Callable[[pa.Table], pa.Table], said: str
) -> None:
    with bt.open(path) as store:
        wrong_commit(store, table, alter)
        assert store.verify().ok
        report = store.verify(deep=True)
        assert set(kinds(report)) == {"bars"}
        assert any(said in problem.message for problem in report.problems), str(report)
        assert store.repair().lsn == report.lsn
        tried = store.repair(deep=True, dry_run=True)
        assert (tried.ok, tried.lsn, tried.symbols) == (True, report.lsn, report.problems[0].symbols)
        done = store.repair(deep=True)
        assert done.ok, str(done)
        assert done.lsn == report.lsn + 1
        assert store.verify(deep=True).ok
        expected = bt.aggregate_bars(store.ticks("A").to_arrow(), ["1h"])["high"].to_pylist()
        assert store.bars("A", "1h").to_arrow()["high"].to_pylist() == expected


@pytest.mark.parametrize("table", ["ticks", "bars"])
def test_rows_out_of_order_are_found(path: Path, table: str) -> None:
    def swapped(rows: pa.Table) -> pa.Table:
        order = list(range(rows.num_rows))
        order[20], order[21] = order[21], order[20]
        return rows.take(order)

    with bt.open(path) as store:
        wrong_commit(store, table, swapped)
        (problem,) = store.verify().problems
        assert (problem.kind, "row 21 is out of order" in problem.message) == ("content", True)


def test_an_index_that_is_wrong_is_found(path: Path) -> None:
    with bt.open(path) as store:
        storage = store._readable()
        file = storage.journal.begin().of("ticks")[0]
        version = storage.journal.version
        index = version.listing.of_files([file.file_id])
        for name in ("first_row", "rows", "min_ns", "max_ns", "groups", "trades", "max_sequence"):
            values = index[name].to_pylist()
            values[0] += 1
            wrong = index.set_column(
                index.schema.get_field_index(name),
                index.schema.field(name),
                pa.array(values, index.schema.field(name).type),
            )
            line = version.files.filter(
                pa.array([value == file.file_id for value in version.files["file_id"].to_pylist()])
            )
            storage.journal.commit(Commit("wrong", line, wrong, removed=(file.file_id,)))
            report = store.verify()
            assert [(p.kind, name in p.message) for p in report.problems] == [("content", True)], name


def test_strays_are_named_and_go_when_they_are_old(path: Path) -> None:
    young, old = path / "data/ticks/1970-01/x.parquet", path / "data/bars/y.parquet"
    for stray in (young, old):
        stray.write_bytes(b"stray")
    os.utime(old, (0, time.time() - 7_200))
    with bt.open(path) as store:
        report = store.verify()
        assert report.ok
        assert report.orphans == ("data/bars/y.parquet", "data/ticks/1970-01/x.parquet")
        assert store.repair(dry_run=True).removed == ("data/bars/y.parquet",)
        assert old.exists()
        done = store.repair()
        assert (done.removed, done.orphans_kept) == (("data/bars/y.parquet",), ("data/ticks/1970-01/x.parquet",))
        assert (old.exists(), young.exists()) == (False, True)
        assert store.repair(grace_s=0).removed == ("data/ticks/1970-01/x.parquet",)
        with pytest.raises(ArgumentError):
            store.repair(grace_s=-1)


@pytest.mark.parametrize("harm", ["flip", "delete"])
def test_repair_drops_snapshots_and_makes_bars_anew(path: Path, harm: str) -> None:
    bars, (snapshot,) = listed(path, "bars"), (path / "snapshots").iterdir()
    with bt.open(path, read_only=True) as store:
        expected = state(store)
    flip(snapshot, 50)
    for file in bars:
        if harm == "delete":
            file.unlink()
        else:
            flip(file, file.stat().st_size // 3)
    (path / "data/empty/orders.parquet").write_bytes(b"x")
    with bt.open(path) as store:
        with pytest.raises(DataCorruptError):
            store.sql("select count(*) from bars")
        report = store.repair()
        assert report.ok, str(report)
        assert report.rebuilt == tuple(sorted(str(file.relative_to(path)) for file in bars))
        assert not snapshot.exists()
        assert store.history().to_pylist()[-1]["kind"] == "repair"
        assert state(store) == expected
        # earlier versions keep the damaged files: nothing can bring those back
        left = store.verify(deep=True)
        assert all("only earlier versions" in problem.message for problem in left.problems)
        assert left.ok == (harm == "delete")
        assert left.orphans == ()
        assert store.sql("select count(*) as n from orders").to_pylist() == [{"n": 0}]


def test_a_damaged_file_of_ticks_is_left_with_its_bars(path: Path) -> None:
    ticks, bars = listed(path, "ticks")[0], listed(path, "bars")[0]
    good = ticks.read_bytes()
    flip(ticks, 100)
    bars.unlink()
    with bt.open(path) as store:
        lsn = store.info().lsn
        report = store.repair(deep=True)
        assert not report.ok
        assert {"damaged", "missing"} <= {problem.kind for problem in report.problems}
        assert (report.rebuilt, report.lsn) == ((), lsn)
    ticks.write_bytes(good)
    with bt.open(path) as store:
        assert store.repair().ok
        assert store.verify(deep=True).ok


def test_repair_waits_for_no_other_writer(path: Path) -> None:
    stray = path / "data/ticks/x.parquet"
    stray.write_bytes(b"x")
    code = "import backtestr as bt, sys; s = bt.open(sys.argv[1]); s.checkpoint(); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with bt.open(path) as store:
            with pytest.raises(StoreLockedError):
                store.repair(grace_s=0)
            assert store.verify().ok
        assert stray.exists()
        writer.communicate(b"\n")
    with bt.open(path, read_only=True) as store, pytest.raises(StoreReadOnlyError):
        store.repair()


def test_a_damaged_log_keeps_all_orphans(path: Path) -> None:
    (log,) = (path / "log").glob("*.log")
    stray = path / "data/ticks/x.parquet"
    stray.write_bytes(b"x")
    with bt.open(path) as store:
        store.checkpoint()
        flip(log, 2_000)
        report = store.repair(grace_s=0)
        assert kinds(report) == ["log"]
        assert report.removed == ()
        assert "data/ticks/x.parquet" in report.orphans_kept
        assert stray.exists()


def test_identity_is_checked(path: Path) -> None:
    with bt.open(path, read_only=True) as store:
        (path / "STORE.json").write_text("{}", encoding="utf-8")
        assert "identity" in kinds(store.verify())
