"""Migrations: up, down, refusals, and what readers of either schema see."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    MigrationError,
    MigrationIrreversibleError,
    MigrationMissingError,
    MigrationModifiedError,
    MigrationNewerError,
    MigrationOrderError,
    SQLError,
    StoreLockedError,
    StoreReadOnlyError,
)
from backtestr.persist import migrate, rehearse, upgrade
from backtestr.persist.migrate import Migration, read_migrations, shipped

FROZEN = Path(__file__).parents[1] / "data" / "store_v1.tar.xz"
INDICATORS = [
    "sma_20", "ema_20", "rsi_14", "bollinger_upper", "bollinger_lower", "macd_line", "macd_signal", "macd_histogram",
]  # fmt: skip
INSERT = 'insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values '
DROP = "update financial_data.data_columns set dropped_lsn = getvariable('lsn') where "


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the store that the release before migration 0002 wrote."""
    with tarfile.open(FROZEN) as archive:
        archive.extractall(tmp_path / "v1", filter="data")
    return tmp_path / "v1"


@pytest.fixture
def store(path: Path) -> Iterator[bt.Store]:
    with bt.open(path) as store:
        # tests ship more migrations than the release had when the store was opened
        store._readable().journal._known_schema = 9
        yield store


def third(up: str, down: str = "delete from financial_data.data_columns where field_id >= 90", number: int = 3) -> Any:
    return Migration(number, f"test{number}", up, down)


def ship(monkeypatch: pytest.MonkeyPatch, *more: Migration, base: tuple[Migration, ...] | None = None) -> None:
    """Let the release have these migrations, after its own ones."""
    have = (*(shipped() if base is None else base), *more)
    monkeypatch.setattr(migrate, "shipped", lambda: have)


def schema(store: bt.Store) -> dict[str, Any]:
    rows = store.sql("from data_columns order by all").to_pylist()
    applied = store.sql("select version, name, checksum from schema_migrations order by all").to_pylist()
    return {"columns": rows, "applied": applied}


def data(store: bt.Store) -> dict[str, Any]:
    hidden = ", ".join(name for name in INDICATORS if name in columns(store))
    exclude = f"exclude ({hidden})" if hidden else ""
    return {
        "ticks": store.ticks().to_arrow(),
        "1m": store.bars(None, "1m").to_arrow(),
        "30s": store.bars(None, "30s").to_arrow(),
        "sql": store.sql(f"select * {exclude} from bars order by all").to_arrow(),
        "feeds": store.sql("select * from ticks order by all").to_arrow(),
    }


def columns(store: bt.Store, table: str = "bars") -> list[str]:
    return [row["column_name"] for row in store.sql(f"describe {table}").to_pylist()]


def files(path: Path) -> dict[str, str]:
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.parent.name not in {"log", "readers"})
    passing = {"LOCK", "LOCK.json", "reserve"}
    return {
        str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in found if f.name not in passing
    }


def test_a_store_of_version_1_goes_up_and_down(store: bt.Store, path: Path) -> None:
    before, rows, held = schema(store), data(store), files(path)
    assert len(rows["ticks"]) == 5
    assert [one.state for one in store.migrations.status()] == ["applied", "pending"]
    with pytest.raises(SQLError, match="sma_20"):
        store.sql("select sma_20 from bars")
    up = store.migrations.up()
    assert (up.schema_before, up.schema_after, up.lsn) == (1, 2, 4)
    assert columns(store)[-8:] == INDICATORS
    for timeframe in ("1m", "30s"):
        shown = store.sql(f"select {', '.join(INDICATORS)} from bars where timeframe = '{timeframe}'").to_arrow()
        assert shown.num_rows > 0
        assert all(column.type == pa.float64() and column.null_count == len(column) for column in shown)
    assert data(store) == rows
    assert store.migrations.up().lsn is None
    down = store.migrations.down()
    assert (down.schema_before, down.schema_after, down.lsn) == (2, 1, 5)
    assert (schema(store), data(store), files(path)) == (before, rows, held)
    assert store.migrations.up().lsn == 6
    again = store.migrations.plan(1)
    assert again.dry_run
    assert again.estimated_s is not None
    assert 0 < again.estimated_s < 10


def test_the_past_has_its_own_schema_beside_the_present(store: bt.Store) -> None:
    lsn = store.info().lsn
    new = store.migrations.up().lsn
    old = store.at(lsn)
    assert "sma_20" not in columns(old)
    assert columns(store.at(new))[-8:] == INDICATORS
    failures: list[BaseException] = []

    def read(when: int, *, has: bool) -> None:
        try:
            for _ in range(20):
                names = store.sql("select * from bars limit 1", as_of=when).to_arrow().column_names
                assert ("sma_20" in names) is has
                both = store.sql("select count(*) n from financial_data.bars where timeframe = '30s'", as_of=when)
                assert both.to_pylist() == [{"n": 5}]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(when,), kwargs={"has": when == new}) for when in (lsn, new) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with pytest.raises(StoreReadOnlyError):
        old.migrations.up()
    assert store.revert(lsn) == new + 1
    assert [one.state for one in store.migrations.status()] == ["applied", "pending"]
    assert "sma_20" not in columns(store)


def test_a_reader_sees_the_new_schema_after_refresh(store: bt.Store, path: Path) -> None:
    with bt.open(path, read_only=True) as reader:
        assert "sma_20" not in columns(reader)
        store.migrations.up()
        assert "sma_20" not in columns(reader)
        reader.refresh()
        assert columns(reader)[-8:] == INDICATORS
        assert data(reader) == data(store)
        with pytest.raises(StoreReadOnlyError):
            reader.migrations.down()
        assert [step.direction for step in reader.migrations.plan(1).steps] == ["down"]


def test_a_migrated_store_takes_rows_and_opens_from_a_snapshot(store: bt.Store, path: Path) -> None:
    store.migrations.up()
    more = pa.table({"timestamp_utc": pa.array([7200], pa.timestamp("s")), "price": ["3"], "volume": ["1"]})
    assert store.ingest(more, symbol="A", feed="frozen").accepted == 1
    store.checkpoint()
    rows = data(store)
    store.close()
    with bt.open(path) as again:
        assert data(again) == rows
        assert [one.state for one in again.migrations.status()] == ["applied", "applied"]
        assert again.sql("select count(*) n, count(sma_20) c from bars").to_pylist() == [{"n": 9, "c": 0}]


def test_a_new_store_has_every_migration(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s") as store:
        assert {one.state for one in store.migrations.status()} == {"applied"}
        assert columns(store)[-8:] == INDICATORS
        assert store.migrations.plan().to_dict()["steps"] == []
        assert store.migrations.plan(1).estimated_s is not None


def test_down_undoes_up_and_no_number_is_given_twice() -> None:
    given: set[tuple[str, int]] = set()
    with duckdb.connect() as scratch:
        scratch.execute(rehearse._DATA_COLUMNS)
        scratch.execute("set variable lsn = 5")
        assert len(shipped()) >= 2
        for migration in shipped():
            before = rehearse._rows(scratch)
            scratch.execute(migration.up)
            after = rehearse._rows(scratch)
            scratch.execute(migration.down)
            assert rehearse._rows(scratch) == before
            scratch.execute(migration.up)
            assert rehearse._rows(scratch) == after
            assert not (after.keys() - before.keys()) & given
            given |= after.keys()


def test_columns_are_added_renamed_and_dropped_without_touching_files(
    store: bt.Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = "update financial_data.data_columns set name = '{}' where table_name = 'bars' and field_id = 90"
    undrop = "update financial_data.data_columns set dropped_lsn = null where field_id = 90"
    ship(
        monkeypatch,
        third(INSERT + "('bars', 90, 'grade', 'BIGINT', '7', null)", number=3),
        third(rename.format("mark"), rename.format("grade"), number=4),
        third(DROP + "field_id = 90", undrop, number=5),
    )
    held, rows, states = files(path), data(store), {}
    for number in (3, 4, 5):
        report = store.migrations.up(number)
        states[report.lsn] = schema(store)
    for lsn, name in zip(states, ("grade", "mark", None), strict=True):
        assert schema(store.at(lsn)) == states[lsn]
        assert [one for one in columns(store.at(lsn)) if one in {"grade", "mark"}] == ([name] if name else [])
        if name:
            assert {row[name] for row in store.at(lsn).sql(f"select {name} from bars").to_pylist()} == {7}
    dropped = [row for row in schema(store)["columns"] if row["dropped_lsn"] is not None]
    assert [row["dropped_lsn"] for row in dropped] == [store.info().lsn]
    lsns = list(states)
    assert store.migrations.down().schema_after == 4
    assert schema(store) == states[lsns[1]]
    assert store.migrations.down(2).schema_after == 2
    assert store.migrations.up(4).steps[-1].version == 4
    assert schema(store) == states[lsns[1]]
    assert store.migrations.down(1).schema_after == 1
    assert (files(path), data(store)) == (held, rows)


def test_a_table_comes_and_goes(store: bt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = INSERT + "('notes', 90, 'body', 'VARCHAR', null, null), ('notes', 91, 'weight', 'DOUBLE', '0.5', null)"
    ship(monkeypatch, third(made), third(DROP + "table_name in ('notes')", number=4))
    store.migrations.up(3)
    assert columns(store, "notes") == ["body", "weight"]
    assert store.sql("select * from notes").num_rows == 0
    store.migrations.up()
    with pytest.raises(SQLError, match="notes"):
        store.sql("select * from notes")
    assert columns(store.at(store.info().lsn - 1), "notes") == ["body", "weight"]


FIRST = INSERT + "('bars', 90, 'a', 'DOUBLE', null, null)"


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("bad", ["delete from financial_data.data_columns where no_such", "select 1", "insert into x"])
def test_a_failure_at_any_statement_leaves_the_store_as_it_was(
    store: bt.Store, path: Path, monkeypatch: pytest.MonkeyPatch, place: int, bad: str
) -> None:
    good = [FIRST, FIRST.replace("90, 'a'", "91, 'b'"), DROP + "field_id = 90"]
    ship(monkeypatch, third("; ".join([*good[:place], bad, *good[place:]])))
    before, held, lsn = schema(store), files(path), store.info().lsn
    for act in (store.migrations.plan, store.migrations.up):
        with pytest.raises(MigrationError, match="0003_test3"):
            act()
        # not even 0002, which is whole, was applied
        assert (schema(store), files(path), store.info().lsn) == (before, held, lsn)
    assert store.migrations.up(2).lsn == lsn + 1


def test_a_failure_before_the_commit_leaves_the_store_as_it_was(
    store: bt.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk")

    before = schema(store)
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "write_empty_files", fail)
        with pytest.raises(OSError, match="disk"):
            store.migrations.up()
    assert (schema(store), store.info().lsn) == (before, 3)
    assert store.migrations.up().lsn == 4


REFUSED = {
    "create table x (a int)": "CREATE",
    "alter table financial_data.data_columns add column x int": "ALTER",
    "drop table financial_data.data_columns": "DROP",
    "copy financial_data.data_columns to '/tmp/x.csv'": "COPY",
    "attach '/tmp/x.db'": "ATTACH",
    "set threads = 1": "SET",
    "with x as (insert into financial_data.data_columns values (1)) select 1": "SELECT",
    "not sql at all": "does not parse",
    INSERT + "('bars', 1, 'again', 'DOUBLE', null, null)": "failed",
    "insert into financial_data.data_columns select * from read_csv('/etc/hostname')": "failed",
    "delete from financial_data.data_columns where table_name = 'orders' and field_id = 16": "deletes orders.slippage",
    "update financial_data.data_columns set type = 'DOUBLE' where name = 'fees'": "changes the type of",
    DROP.replace("getvariable('lsn')", "17") + "name = 'fees'": "set dropped_lsn",
    DROP + "table_name = 'bars' and name = 'close'": "bars.close",
    "update financial_data.data_columns set name = 'last' where table_name = 'bars' and name = 'close'": "bars.close",
    "update financial_data.data_columns set name = 'number' where table_name = 'feeds' and name = 'id'": "feeds.id",
    "update financial_data.data_columns set \"default\" = '1' where name = 'sequence'": "ticks.sequence",
    INSERT + "('bars', 90, 'sma_20', 'DOUBLE', null, null)": "two columns bars.sma_20",
    INSERT + "('ticks', 90, 'exchange', 'VARCHAR', null, null)": "two columns ticks.exchange",
    INSERT + "('bars', 90, 'has\"quote', 'DOUBLE', null, null)": "name columns by",
    INSERT + "('bars', 0, 'zero', 'DOUBLE', null, null)": "number them from 1",
    INSERT + "('bars', 90, 'odd', 'NONSENSE', null, null)": "NONSENSE",
    INSERT + "('bars', 90, 'odd', 'DOUBLE', 'x', null)": "bars.odd",
    INSERT + "('exchanges', 90, 'country', 'VARCHAR', null, null)": "exchanges is the store's own",
    INSERT + "('tags', 90, 'colour', 'VARCHAR', null, null)": "tags is the store's own",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_migration_may_not_do(store: bt.Store, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    ship(monkeypatch, third(text))
    before = schema(store)
    with pytest.raises(MigrationError, match=REFUSED[text]):
        store.migrations.up()
    assert (schema(store), store.info().lsn) == (before, 3)


def test_what_cannot_be_undone_is_refused(store: bt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, third(FIRST, "-- no way back\n"))
    store.migrations.up()
    with pytest.raises(MigrationIrreversibleError, match="0003_test3 down"):
        store.migrations.down(1)
    assert store.migrations.status()[-1].state == "applied"
    ship(monkeypatch)
    with pytest.raises(MigrationError, match="relies on"):
        store.at(3).migrations.plan(0)


def test_edited_missing_and_out_of_order_are_refused(store: bt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = shipped()
    crlf = Migration(1, one.name, one.up.replace("\n", "\r\n"), one.down.replace("\n", "\r\n"))
    ship(monkeypatch, base=(crlf, two))
    assert store.migrations.up().schema_after == 2
    cases: list[tuple[tuple[Migration, ...], str, type[MigrationError]]] = [
        ((Migration(1, one.name, one.up + "\n", one.down), two), "modified", MigrationModifiedError),
        ((two,), "missing", MigrationMissingError),
    ]
    for base, state, error in cases:
        ship(monkeypatch, base=base)
        assert [row.state for row in store.migrations.status()] == [state, "applied"]
        for act in (store.migrations.plan, store.migrations.up, store.migrations.down):
            with pytest.raises(error, match="0001_initial"):
                act()
        assert len(store.ticks()) == 5
    ship(monkeypatch)
    store.migrations.down()
    ship(monkeypatch, third(FIRST), base=(one,))
    assert store.migrations.up().schema_after == 3
    ship(monkeypatch, third(FIRST), base=(one, two))
    assert [row.state for row in store.migrations.status()] == ["applied", "out of order", "applied"]
    for act in (store.migrations.plan, store.migrations.up, store.migrations.down):
        with pytest.raises(MigrationOrderError, match="0002_indicators"):
            act()


def test_a_version_that_is_not_there_is_refused(store: bt.Store) -> None:
    for act, to in [
        (store.migrations.up, 9),
        (store.migrations.down, 2),
        (store.migrations.plan, -1),
        (store.migrations.plan, True),
    ]:
        with pytest.raises(ArgumentError, match="to="):
            act(to)
    store.migrations.up()
    with pytest.raises(ArgumentError, match="use down"):
        store.migrations.up(1)


def test_a_schema_newer_than_the_release_is_neither_read_nor_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = shipped()
    with monkeypatch.context() as old_release:
        ship(old_release, base=(one,))
        reader = bt.open(path, read_only=True)
        writer = bt.open(path)
    with bt.open(path) as newer:
        newer.migrations.up()
    for store in (reader, writer):
        for _ in range(2):
            with pytest.raises(MigrationNewerError, match="upgrade"):
                store.refresh()
        assert store.info().lsn == 3
        assert len(store.ticks()) == 5
    for _ in range(2):
        with pytest.raises(MigrationNewerError):
            writer.delete("A")
    ship(monkeypatch, base=(one,))
    for read_only in (True, False):
        with pytest.raises(MigrationNewerError, match="schema 2 at version 4"):
            bt.open(path, read_only=read_only)
    monkeypatch.undo()
    # the refused writer does not hold the lock
    with bt.open(path) as newer:
        newer.migrations.down()
    assert reader.refresh() == 5
    assert writer.delete("A").lsn == 6
    assert reader.at(3).symbols() == ["A", "B"]
    with pytest.raises(MigrationNewerError, match="at version 4"):
        reader.at(4)
    reader.close()
    writer.close()


UP = "import sys, backtestr as bt\nwith bt.open(sys.argv[1]) as store: print(store.migrations.up().lsn)"


def test_two_processes_migrate_once(path: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", UP, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outs = [run.communicate(timeout=60) for run in runs]
    said = [out.strip() for out, _ in outs]
    assert said.count("4") == 1, outs
    assert all(out in {"4", "None"} or "StoreLockedError" in err for out, (_, err) in zip(said, outs, strict=True))
    with bt.open(path, read_only=True) as store:
        assert store.sql("select count(*) n from schema_migrations").to_pylist() == [{"n": 2}]
        assert store.info().lsn == 4


def test_a_second_writer_is_told_who_holds_the_lock(store: bt.Store, path: Path) -> None:
    store.delete("B")
    run = subprocess.run([sys.executable, "-c", UP, str(path)], capture_output=True, text=True, check=False)
    assert StoreLockedError.__name__ in run.stderr
    assert [one.state for one in store.migrations.status()] == ["applied", "pending"]


def test_files_of_migrations_are_named_in_pairs() -> None:
    good = [("0001_a.up.sql", "x"), ("0001_a.down.sql", "y")]
    assert read_migrations(good) == (Migration(1, "a", "x", "y"),)
    for bad, message in [
        ([*good, ("2_b.up.sql", "")], "name it"),
        (good[:1], "no down file"),
        ([*good, ("0001_b.up.sql", ""), ("0001_b.down.sql", "")], "one number"),
    ]:
        with pytest.raises(MigrationError, match=message):
            read_migrations(bad)
