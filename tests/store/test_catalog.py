"""The published catalog, opened by DuckDB's shell and by DuckDB in a process of its own."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.storage import catalog
from backtestr.storage.snapshot import SMALL_TABLES
from tests.store.test_history import trades

SAMPLES = Path(__file__).parents[2] / "samples"
FILE_TABLES = ["ticks", "bars", "quarantine", "orders", "positions", "backtest_metrics"]
Ask = Callable[..., list[list[str | None]]]


def shell(path: Path, sql: str, folder: Path | None = None) -> list[list[str | None]]:
    """The answer of the shell that PyPI's duckdb-cli installs."""
    program = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("duckdb-cli is not installed")
    command = [program, "-readonly", "-csv", "-nullvalue", "∅", str(path), "-c", sql]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return [[None if cell == "∅" else cell for cell in row] for row in list(csv.reader(io.StringIO(run.stdout)))[1:]]


def process(path: Path, sql: str, folder: Path | None = None) -> list[list[str | None]]:
    """The answer of the package duckdb in a process that knows nothing of us."""
    code = (
        "import duckdb, json, sys\n"
        "con = duckdb.connect(sys.argv[1], read_only=True)\n"
        "for text in sys.argv[2].split(';'): rows = con.execute(text).fetchall()\n"
        "print(json.dumps(rows))"
    )
    command = [sys.executable, "-I", "-c", code, str(path), sql]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return json.loads(run.stdout)  # type: ignore[no-any-return]


@pytest.fixture(params=[shell, process], ids=["shell", "process"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real trades and rows that are hard to read: mixed scales, before 1970, nanoseconds, quotes, rejected rows."""
    path = tmp_path_factory.mktemp("catalog") / "it's a store"
    with bt.open(path) as store:
        store.ingest(SAMPLES / "lean/equity/usa/tick/ibm/20131008_trade.zip")
        store.ingest(SAMPLES / "questdb/btc_trades.csv", feed="coinbase")
        hard = {"symbol": ["N'"] * 4, "timestamp_utc": [-1, -999, 1, 86_400_000_000_001]}
        prices = {"price": ["0.00000001", "1.5", "99999999.12345678", "3"], "volume": ["7", "0", "0.00000003", "1"]}
        store.ingest(pa.table(hard | prices), feed="o'hara")
        quotes = {"symbol": ["Q"] * 2, "timestamp_utc": [5, 6], "bid": ["1.5", "1.25"], "ask": ["2", "2.125"]}
        store.ingest(pa.table(quotes), feed="quotes")
        store.ingest(trades("C", [(0, "1"), (1, "-1")]), feed="f", max_rejected=1)
        store.delete("C")
        store.tag("it's")
        store.checkpoint()
    return path


def expected(store: bt.Store, table: str) -> list[list[str | None]]:
    rows = store.sql(f"select * from {table} order by all").to_arrow()  # noqa: F841 - the engine finds it by its name
    answer = duckdb.sql("select columns(*)::varchar from rows").fetchall()
    return [list(row) for row in answer]


@pytest.mark.parametrize("table", [*FILE_TABLES, *SMALL_TABLES])
def test_every_table_is_the_same(made: Path, ask: Ask, table: str) -> None:
    with bt.open(made, read_only=True) as store:
        right = expected(store, table)
    sql = f"select columns(*)::varchar from (select * from financial_data.{table} order by all)"
    assert ask(made / "catalog.duckdb", sql) == right
    assert bool(right) == (table not in {"orders", "positions", "backtest_metrics", "bar_specs"})


def test_columns_are_the_same(made: Path, ask: Ask) -> None:
    for table in FILE_TABLES:
        with bt.open(made, read_only=True) as store:
            rows = store.sql(f"select * from {table}").to_arrow()
        names = [
            row[0] for row in ask(made / "catalog.duckdb", f"select column_name from (describe financial_data.{table})")
        ]
        assert names == rows.column_names
    ((kind,),) = ask(made / "catalog.duckdb", "select typeof(vwap) from financial_data.bars limit 1")
    assert kind == "DECIMAL(18,8)"


def test_macros_are_there(made: Path, ask: Ask) -> None:
    sql = "select sum(turnover), sum(volume) from financial_data.bars where symbol = 'IBM' and timeframe = '1m'"
    day = "select vwap::varchar from financial_data.bars where symbol = 'IBM' and timeframe = '1d'"
    mine = f"select financial_data.vwap_of(t, v)::varchar from ({sql}) as sums(t, v)"
    assert ask(made / "catalog.duckdb", mine) == ask(made / "catalog.duckdb", day)


def test_a_moved_store_is_named_by_a_variable(made: Path, ask: Ask, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(made, moved)
    count = "select count(*)::varchar from financial_data.ticks"
    right = ask(made / "catalog.duckdb", count)
    (moved / "data" / "ticks").rename(moved / "data" / "elsewhere")
    assert ask(moved / "catalog.duckdb", count) == right
    (moved / "data" / "elsewhere").rename(moved / "data" / "ticks")
    for folder, name in ((None, str(moved)), (moved, ".")):
        sql = f"set variable store_path = '{name}'; select count(*)::varchar from financial_data.ticks"
        assert ask(moved / "catalog.duckdb", sql, folder) == right
    with bt.open(moved) as store:
        store.delete("IBM")
        store.checkpoint()
        assert ask(moved / "catalog.duckdb", count) == [[str(store.info().ticks)]]
        published = "select lsn::varchar, store_path from financial_data.published"
        assert ask(moved / "catalog.duckdb", published) == [[str(store.info().lsn), str(moved)]]


def test_it_can_be_attached_beside_others(made: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{str(made).replace(chr(39), chr(39) * 2)}/catalog.duckdb' as market (read_only)")
        found = connection.sql("select count(vwap) from market.financial_data.bars where symbol = 'IBM'").fetchall()
    with bt.open(made, read_only=True) as store:
        assert found == [(store.sql("select count(vwap) as n from bars where symbol = 'IBM'").to_pylist()[0]["n"],)]


def test_it_replaces_the_one_before_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        store.checkpoint()
        with duckdb.connect(str(path / "catalog.duckdb"), read_only=True) as client:
            store.ingest(trades("A", [(0, "1")]), feed="f")
            (path / "catalog.duckdb.wal").write_bytes(b"left behind")
            store.checkpoint()
            assert client.sql("select count(*) from financial_data.ticks").fetchall() == [(0,)]
        with duckdb.connect(str(path / "catalog.duckdb"), read_only=True) as client:
            assert client.sql("select count(*) from financial_data.ticks").fetchall() == [(1,)]
        assert {file.name for file in path.glob("catalog*")} == {"catalog.duckdb"}
        assert list((path / "tmp").iterdir()) == []
    (path / "catalog.duckdb").write_bytes(b"never read back")
    with bt.open(path) as store:
        assert store.verify(deep=True).ok
        assert store.symbols() == ["A"]


def test_a_failure_to_publish_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise duckdb.IOException("no space left")

    with bt.open(tmp_path / "s") as store:
        store.ingest(trades("A", [(0, "1")]), feed="f")
        monkeypatch.setattr(catalog, "view_sql", fail)
        with caplog.at_level(logging.WARNING, "backtestr"):
            assert store.checkpoint() == store.info().lsn
        assert "no space left" in caplog.text
        assert not (tmp_path / "s" / "catalog.duckdb").exists()
        assert list((tmp_path / "s" / "tmp").iterdir()) == []
        assert len(list((tmp_path / "s" / "snapshots").iterdir())) == 1
