"""SQL: exact views, and a gate that lets nothing but reading through."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import SQLError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with bt.open(tmp_path_factory.mktemp("sql") / "store") as opened:
        opened.ingest(
            pa.table(
                {
                    "symbol": ["A", "A", "B"],
                    "timestamp_utc": pa.array([-1, 999, 1_000], pa.timestamp("ns", "UTC")),
                    "price": pa.array(["99999999.99", "1.00000001", "3"]).cast(pa.decimal128(18, 8)),
                    "volume": pa.array(["123456789.12345678", "0.00000001", "0"]).cast(pa.decimal128(18, 8)),
                }
            ),
            feed="f",
        )
        yield opened


def test_instants_are_floored_to_microseconds(store: bt.Store) -> None:
    rows = store.sql("select epoch_us(timestamp_utc) us, timestamp_ns ns from ticks order by ns").to_pylist()
    assert rows == [{"us": -1, "ns": -1}, {"us": 0, "ns": 999}, {"us": 1, "ns": 1000}]


def test_vwap_in_sql_is_exact(store: bt.Store) -> None:
    for row in store.sql("select turnover, volume, vwap from bars").to_pylist():
        if row["volume"] == 0:
            assert row["vwap"] is None
        else:
            exact = Fraction(row["turnover"]) / Fraction(row["volume"])
            assert row["vwap"] == Decimal(round(exact * 10**8)).scaleb(-8)


def test_sums_are_exact(store: bt.Store) -> None:
    assert store.sql("select sum(volume) v from bars where timeframe = '1d' and symbol = 'A'").to_pylist() == [
        {"v": Decimal("123456789.12345679")}
    ]


def test_parameters_and_frames(store: bt.Store) -> None:
    frame = pa.table({"symbol": ["B"], "weight": [2]})
    rows = store.sql(
        "select t.symbol, weight, price from ticks t join w using (symbol) where price > $least",
        {"least": Decimal("2.5")},
        tables={"w": frame},
    )
    assert rows.to_pylist() == [{"symbol": "B", "weight": 2, "price": Decimal(3)}]
    hostile = "A') OR 1=1 --"
    assert store.sql("select * from ticks where symbol = ?", [hostile]).num_rows == 0


@pytest.mark.parametrize(
    "text",
    [
        "select 1; select 2",
        "copy ticks to 'x.csv'",
        "with y as (copy (select 1) to 'x.csv') select * from y",
        "create table x (a int)",
        "attach 'x.duckdb'",
        "install httpfs",
        "set threads = 1",
        "pragma version",
        "select * from read_text('/etc/hostname')",
        "select * from read_parquet('x')",
        "select * from '/etc/hostname'",
        'with "/etc/hostname" as (select 1) select * from "/etc/hostname"',
        "select * from glob('*')",
        "select * from query('select 1')",
        "select * from duckdb_settings()",
        "select * from information_schema.tables",
        "select * from other",
        "select (select max(a) from nowhere)",
        "",
        "selec 1",
        "select nothing from ticks",
        "call pragma_version()",
    ],
)
def test_refused(store: bt.Store, text: str) -> None:
    with pytest.raises(SQLError):
        store.sql(text)


@pytest.mark.parametrize(
    "text",
    [
        "select count(*) from ticks",
        "from bars select symbol",
        "with recursive r as (select 1 a union all select a + 1 from r where a < 5) select * from r",
        "select * from financial_data.ticks union all select * from ticks",
        "select * from range(3)",
        "values (1)",
        "summarize ticks",
        "select * from orders, positions, fills, backtests, backtest_metrics, daily_performance, exchanges, feeds",
    ],
)
def test_taken(store: bt.Store, text: str) -> None:
    assert store.sql(text).columns
