"""The gate under attack: what reaches outside or tells of the engine is refused, and values stay values."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import ArgumentError, BacktestrError, SQLError
from backtestr.persist.migrate import _initial_commit
from backtestr.query.gate import check_statement


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with bt.open(tmp_path_factory.mktemp("gate") / "store", memory_limit="64MB", threads=1) as opened:
        opened.ingest(
            pa.table({"symbol": ["A", "B"], "timestamp_utc": [0, 1], "price": ["1", "2"], "volume": ["1", "2"]}),
            feed="f",
        )
        yield opened


TELLING = [
    "getvariable('ticks_files')",
    "GETVARIABLE('ticks_files')",
    "\"getvariable\"('ticks_files')",
    "system.main.getvariable('ticks_files')",
    "'ticks_files'.getvariable()",
    "getenv('HOME')",
    "current_setting('temp_directory')",
    "set_config('a', 'b', true)",
    "current_database()",
    "current_schemas(true)",
    "current_schema",
    "current_query()",
    "current_connection_id()",
    "txid_current()",
    "nextval('s')",
    "currval('s')",
    "setseed(0.5)",
    "sleep_ms(1)",
    "pg_sleep(1)",
    "pg_get_viewdef(1)",
    "stats(1)",
    "vector_type(1)",
    "error('x')",
    "write_log('x')",
    "parse_duckdb_log_message('FileSystem', 'x')",
    "json_serialize_plan('select 1')",
    "get_block_size('memory')",
    "which_secret('s3://x', 's3')",
    "read_text('/etc/hostname')",
    "__internal_decompress_string(1::utinyint)",
    "finalize('x'::blob)",
    "in_search_path('memory', 'main')",
]
PLACES = [
    "select {}",
    "select 1 from ticks where {} is not null",
    "select 1 from ticks order by {}",
    "select 1 from ticks group by {}",
    "select count(*) from ticks having {} is not null",
    "with c as (select {} as x) from c",
    "select list_transform([1], lambda v: {})",
    "select sum(1) over (partition by {})",
    "select max(1) filter (where {} is not null)",
    "select (select {})",
    "select * from range(1) r(i), lateral (select {}) l",
    "values ({})",
    "select * replace ({} as price) from ticks",
    "select case when true then {} end",
    "select struct_pack(a := {})",
    "select 1 limit length({}::varchar)",
    "select 1 union all select length({}::varchar)",
    "from (select {} as a) pivot (count(*) for a in ('x'))",
    "summarize select {} as a",
    "describe select {} as a",
    "from unnest([{}])",
]


@pytest.mark.parametrize("call", TELLING)
def test_functions_that_tell_are_refused(store: bt.Store, call: str) -> None:
    for text in (
        f"select {call}",
        f"select list_transform([1], lambda v: {call})",
        f"with c as (from c2), c2 as (select {call}) from c2",
    ):
        with pytest.raises(SQLError):
            store.sql(text)


@pytest.mark.parametrize("place", PLACES)
def test_a_call_is_seen_everywhere(place: str) -> None:
    with pytest.raises(SQLError, match=r"getvariable|column reference|not a SELECT"):
        check_statement(place.format("getvariable('ticks_files')"), {"ticks"}, set())
    taken = place.format("upper('x')")
    assert check_statement(taken, {"ticks"}, set()).tables <= {"ticks"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"with y as ({statement}) select * from y"
            for statement in (
                "copy (select 1) to 'x.csv'",
                "copy ticks from 'x.csv'",
                "insert into ticks values (1)",
                "insert into ticks values (1) returning *",
                "update ticks set price = 1",
                "update ticks set price = 1 returning *",
                "delete from ticks",
                "delete from ticks returning *",
                "merge into ticks using bars on true when matched then delete",
                "create table z as select 1",
            )
        ),
        "select * from (insert into ticks values (1) returning *)",
        "select (with y as (delete from ticks returning *) select 1 from y)",
        "select 1; copy ticks to 'x.csv'",
        "select 1 /* ; */ ; /* x */ select 2",
        "explain select 1",
        "explain analyze select 1",
        "prepare p as select 1",
        "execute p",
        "use memory",
        "set search_path = 'main'",
        "set variable ticks_files = ['/etc/hostname']",
        "reset all",
        "load parquet",
        "export database 'x'",
        "vacuum",
        "checkpoint",
        "begin",
        "drop view ticks",
        "create or replace temp view ticks as select 1",
        "create macro upper(x) as x",
        "comment on view ticks is 'x'",
        "show databases",
        "show all tables",
        "show variables",
        "from (show databases)",
        "describe '/etc/hostname'",
        "summarize '/etc/hostname'",
        "select * from ticks at (version => 1)",
        "select * from memory.financial_data.ticks",
        "select * from main.ticks",
        "select * from temp.ticks",
        "select * from pg_catalog.pg_tables",
        "select * from duckdb_views",
        "select * from sqlite_master",
        "select (with duckdb_views as (select 1) select 1), sql from duckdb_views",
        "select (with pg_tables as (select 1) select 1), * from PG_TABLES",
        "select * from ticks_rows",
        "select * from exchanges_rows",
        "select * from incoming_rows",
        "select * from histogram(ticks, price)",
        "select * from json_execute_serialized_sql('x')",
        "select * from query_table('ticks')",
        "select * from pandas_scan(0, 0, 0)",
        "select * from python_map_function(1)",
        "select * from python_arrow_scan(1, 1, 1)",
        "select * from test_all_types()",
        "select * from duckdb_variables()",
        "select 1\0; drop view ticks",
        "select '\ud800'",
        "select " + "not " * 900 + "true",
        "select " + "(" * 100_000 + "1" + ")" * 100_000,
        "select " + "[" * 5_000 + "]" * 5_000,
        "select '" + "x" * 5_000_000 + "'",
        "select " + " union all select ".join("1" * 200_000),
        "-- only a comment",
        "'",
        '"',
        "$$",
        "/*",
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_refused(store: bt.Store, text: str) -> None:
    with pytest.raises(SQLError):
        store.sql(text)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('select * from "financial_data"."TICKS"', 2),
        ("select * from Ticks /* a ; comment */ -- and; another", 2),
        ("with Own as (from ticks) select * from own", 2),
        ("select * from ticks positional join range(2)", 2),
        ("select * from ticks t, lateral (select t.price + 1)", 2),
        ("from ticks pivot (sum(price) for symbol in ('A', 'B') group by feed)", 1),
        ("describe ticks", 15),
        ("select * from (describe ticks)", 15),
        ("select * from financial_data.exchanges", 0),
        ("select * from financial_data.feeds", 1),
        ("from symbol_feeds join feeds on feeds.id = feed_id", 2),
        ("select current_date, now(), version(), random(), uuid()", 1),
        ("select t.symbol from ticks t qualify row_number() over (partition by symbol) = 1", 2),
        ("select count(*) filter (where tick_type = 0), approx_quantile(price, 0.5) from ticks", 1),
        ("select 1 as \"user\", 'getvariable'", 1),
    ],
)
def test_taken(store: bt.Store, text: str, rows: int) -> None:
    assert store.sql(text).num_rows == rows


def test_show_tables_shows_ours_only(store: bt.Store) -> None:
    names = {row["name"] for row in store.sql("show tables").to_pylist()}
    assert names >= {"ticks", "bars", "orders", "exchanges"}
    assert not {name for name in names if name.endswith(("_rows", "_files"))}


def test_a_query_that_grows_without_end_stops_at_the_memory_limit(store: bt.Store) -> None:
    with pytest.raises(SQLError, match="emory"):
        store.sql("with recursive r as (select 'x' a union all select a || a from r) select max(a) from r")


def test_declared_tables_are_empty_with_the_declared_types(tmp_path: Path) -> None:
    columns = _initial_commit(["1m"]).rows["data_columns"].to_pylist()
    with bt.open(tmp_path / "s") as store, duckdb.connect() as plain:
        for table in sorted({row["table_name"] for row in columns}):
            declared = [row for row in columns if row["table_name"] == table]
            shown = {row["column_name"]: row["column_type"] for row in store.sql(f"describe {table}").to_pylist()}
            assert store.sql(f"select * from financial_data.{table}").num_rows == 0
            for row in declared:
                name, kind = row["name"], row["type"]
                if table == "ticks" and name in {"exchange_id", "feed_id"}:
                    assert shown[name.removesuffix("_id")] == "VARCHAR"
                    continue
                kind = "TIMESTAMP" if name == "timestamp_utc" else kind
                assert shown[name] == plain.sql(f"select typeof(null::{kind})").fetchall()[0][0], (table, name)


HOSTILE = [
    "A') OR 1=1 --",
    "'; drop view ticks; --",
    '"',
    "\\",
    "%",
    "$1",
    "?",
    "{}",
    "A\0B",
    "é",
    "../../x",
    "-- x",
    "A\n",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_stay_values(store: bt.Store, value: str) -> None:
    assert store.sql("select * from ticks where symbol = ?", [value]).num_rows == 0
    assert store.sql("select $v as v", {"v": value}).to_pylist() == [{"v": value}]


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), min_size=20, max_size=20))
def test_any_text_stays_a_value(store: bt.Store, values: list[str]) -> None:
    columns = ", ".join(f"? as v{number}" for number in range(len(values)))
    try:
        (row,) = store.sql(f"select {columns}", values).to_pylist()
    except SQLError:
        assert any(0xD800 <= ord(letter) < 0xE000 for value in values for letter in value)
    else:
        assert list(row.values()) == values
    assert store.sql("select count(*) n from ticks where list_contains(?, symbol)", [values]).to_pylist() == [
        {"n": len({"A", "B"} & set(values))}
    ]


@given(st.text(max_size=60))
def test_any_text_as_a_statement_is_an_answer_or_an_error_of_ours(store: bt.Store, text: str) -> None:
    with contextlib.suppress(BacktestrError):
        store.sql(text)


def test_hostile_symbols_are_stored_and_found(tmp_path: Path) -> None:
    names = [value for value in HOSTILE if "\0" not in value]
    data = {
        "symbol": names,
        "timestamp_utc": list(range(len(names))),
        "price": ["1"] * len(names),
        "volume": ["1"] * len(names),
    }
    with bt.open(tmp_path / "s") as store:
        store.ingest(pa.table(data), feed="f'; --")
        for name in names:
            rows = store.sql("select symbol, feed from ticks where symbol = ?", [name]).to_pylist()
            assert rows == [{"symbol": name, "feed": "f'; --"}]


@pytest.mark.parametrize("name", ["ticks", "TICKS", "bars", "duckdb_views", "a b", "", "x;", 3])
def test_frames_take_no_name_of_ours(store: bt.Store, name: object) -> None:
    with pytest.raises(ArgumentError):
        store.sql("select 1", tables={name: pa.table({"a": [1]})})


@pytest.mark.parametrize("frame", [3, "ticks", "/etc/hostname", [1], None, duckdb])
def test_frames_are_arrow(store: bt.Store, frame: object) -> None:
    with pytest.raises(ArgumentError):
        store.sql("select 1", tables={"mine": frame})
