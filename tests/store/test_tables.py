"""Relational tables: the newest row of a key holds, live or in a file, of the past or of another process."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backtestr as bt
from backtestr import reader
from backtestr.errors import ArgumentError, MigrationError
from tests.store.test_migrations import ship, third

RUN = UUID(int=1)
KEYS = [(RUN, dt.date(2024, 1, 2)), (RUN, dt.date(2024, 1, 3)), (UUID(int=2), dt.date(2024, 1, 2))]
Days = dict[tuple[str, dt.date], Decimal]


def rows_of(values: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Rows of daily_performance: key number and value of each."""
    return [{"backtest_id": KEYS[key][0], "date": KEYS[key][1], "portfolio_value": value} for key, value in values]


def held(frame: Any) -> Days:
    rows = frame.to_pylist()
    found = {(row["backtest_id"], row["date"]): row["portfolio_value"] for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


APPEND = st.tuples(
    st.just("append"), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99)), min_size=1, max_size=5)
)
OTHER = st.tuples(st.sampled_from(["flush", "reopen", "revert", "ticks"]), st.integers(0, 99))


@settings(max_examples=settings.default.max_examples // 3)  # type: ignore[union-attr]
@given(st.lists(st.one_of(APPEND, OTHER), max_size=10))
def test_any_order_of_changes_keeps_the_newest_row_of_each_key(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        store = bt.open(path)
        now: Days = {}
        past: dict[int, Days] = {}
        try:
            for step, given_ in steps:
                if step == "append":
                    lsn = store.append(rows_of(given_), table="daily_performance").lsn
                    now = now | {(str(KEYS[key][0]), KEYS[key][1]): Decimal(value) for key, value in given_}
                    past[lsn] = now
                elif step == "flush":
                    store.checkpoint()
                elif step == "reopen":
                    store.close()
                    store = bt.open(path)
                elif step == "ticks":
                    tick = {"ts": ["2024-01-02"], "price": [given_ + 1], "volume": [1]}
                    store.append(tick, symbol="A", feed="live")
                elif past:
                    lsn = sorted(past)[given_ % len(past)]
                    store.revert(lsn)
                    now = past[lsn]
                assert held(store.table("daily_performance")) == now
            for lsn, expected in past.items():
                assert held(store.table("daily_performance", as_of=lsn)) == expected
                with store.at(lsn) as then:
                    assert held(then.table("daily_performance")) == expected
            assert store.verify(deep=True).ok
            with bt.open(path, read_only=True) as reader:
                assert held(reader.table("daily_performance")) == now
        finally:
            store.close()


ORDER: dict[str, Any] = {
    "order_id": UUID(int=7),
    "backtest_id": RUN,
    "symbol": "SPY",
    "timestamp_utc": dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC),
    "order_type": "limit",
    "side": "buy",
    "quantity": Decimal("1.25"),
    "price": "470.12345678",
    "status": "pending",
}
STORED_ORDER = ORDER | {
    "order_id": str(UUID(int=7)),
    "backtest_id": str(RUN),
    "position_id": None,
    "timestamp_utc": dt.datetime(2024, 1, 2, 14, 30),
    "price": Decimal("470.12345678"),
    "stop_price": None,
    "filled_quantity": Decimal(0),
    "avg_fill_price": None,
    "fill_timestamp": None,
    "fees": Decimal(0),
    "slippage": Decimal(0),
}


@pytest.mark.parametrize("flushed", [False, True])
def test_values_come_back_exactly_with_their_defaults(tmp_path: Path, flushed: bool) -> None:
    metadata = {"strategy_id": "m", "signal_strength": 0.5, "stop_loss": 1.25, "tags": ["a", None]}
    with bt.open(tmp_path / "store") as store:
        store.append([ORDER], table="orders")
        store.append([{"position_id": UUID(int=9), "side": "long", "metadata": metadata}], table="positions")
        store.append([{"backtest_id": RUN, "symbols": ["A", "B"], "metadata": '{"a": 1}'}], table="backtests")
        lasted = dt.timedelta(days=40, microseconds=1)
        store.append(
            [{"backtest_id": RUN, "avg_trade_duration": lasted, "profit_factor": np.inf}], table="backtest_metrics"
        )
        if flushed:
            store.checkpoint()
        assert store.table("orders").to_pylist() == [STORED_ORDER]
        (position,) = store.table("positions").to_pylist()
        assert position["status"] == "open"
        assert position["metadata"] == metadata | {"stop_loss": Decimal("1.25"), "take_profit": None}
        (run,) = store.table("backtests").to_pylist()
        assert run["symbols"] == ["A", "B"]
        assert (run["commission_rate"], run["status"]) == (Decimal("0.001"), "running")
        (figures,) = store.table("backtest_metrics").to_pylist()
        assert figures["profit_factor"] == np.inf
        for _ in range(2):
            seconds = store.sql("select epoch_us(avg_trade_duration) as us from backtest_metrics").to_pylist()
            assert seconds == [{"us": lasted // dt.timedelta(microseconds=1)}]
            # what was read can be written
            for table in ("orders", "positions", "backtests", "backtest_metrics"):
                before = store.table(table).to_arrow()
                assert store.append(before, table=table).rows == 1
                assert store.table(table).to_arrow().equals(before)


def test_every_layout_of_rows_is_taken(tmp_path: Path) -> None:
    plain = pa.table({"fill_id": [str(UUID(int=n)).upper() for n in range(3)], "side": ["buy", "sell", None]})
    layouts: list[Any] = [
        plain,
        plain.set_column(1, "side", plain["side"].dictionary_encode()),
        plain.set_column(0, "fill_id", plain["fill_id"].cast(pa.large_string())),
        pa.table(
            [plain["fill_id"], pa.RunEndEncodedArray.from_arrays([1, 2, 3], ["buy", "sell", None])], plain.column_names
        ),
        plain.set_column(0, "fill_id", plain["fill_id"].cast(pa.string_view())),
        plain.set_column(0, "fill_id", pa.array([UUID(int=n).bytes for n in range(3)], pa.uuid())),
        plain.set_column(0, "fill_id", pa.array([UUID(int=n).bytes for n in range(3)], pa.binary(16))),
        plain.set_column(0, "fill_id", pa.array([UUID(int=n).hex for n in range(3)])),
        pa.concat_tables([plain.slice(0, 1), plain.slice(1)]),
        pa.concat_tables([plain.slice(2, 1), plain]).slice(1),
        plain.to_batches()[0],
        plain.to_pandas(),
        plain.to_pydict(),
        plain.to_pylist(),
        pa.RecordBatchReader.from_batches(plain.schema, plain.to_batches()),
    ]
    expected = [(str(UUID(int=n)), side) for n, side in enumerate(["buy", "sell", None])]
    for number, rows in enumerate(layouts):
        with bt.open(tmp_path / str(number)) as store:
            assert store.append(rows, table="fills").rows == 3
            assert [(row["fill_id"], row["side"]) for row in store.table("fills").to_pylist()] == expected


def test_floats_become_their_shortest_decimal(tmp_path: Path) -> None:
    floats = [0.1, 0.1 + 0.2, 1e-9, 1.5e-8, 2.5e-8, -0.000000015, 123456789.12345678, 0.0, None]
    shortest = [None if value is None else Decimal(repr(value)) for value in floats]
    expected = [None if value is None else value.quantize(Decimal("1e-8")) for value in shortest]
    with bt.open(tmp_path / "store") as store:
        rows = {"fill_id": [UUID(int=n) for n in range(len(floats))], "price": floats, "fees": floats}
        report = store.append(rows, table="fills")
        count = sum(a is not None and a != b for a, b in zip(shortest, expected, strict=True))
        assert report.rounded == {"price": count, "fees": count}
        assert [row["price"] for row in store.table("fills").to_pylist()] == expected


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"order_id": "7"}], "order_id.*'7' is no UUID"),
        ([{"order_id": 7}], "order_id.*int64 given"),
        ([{"symbol": "A"}], "order_id.*part of the key"),
        ([{"order_id": UUID(int=1)}, {"order_id": None}], "row 1 has none"),
        ([ORDER | {"oder_id": 1}], "no column 'oder_id', the nearest is 'order_id'"),
        ([ORDER | {"_lsn": 1}], "no column '_lsn'"),
        ([ORDER | {"1": 1}], "no column '1'"),
        ([ORDER | {"side": "long"}], "side.*'long' is none of buy, sell"),
        ([ORDER | {"quantity": float("nan")}], "quantity.*nan is no decimal"),
        ([ORDER | {"quantity": 1e10}], "quantity"),
        ([ORDER | {"quantity": 1e300}], "quantity"),
        ([ORDER | {"quantity": "1.123456789"}], "quantity"),
        ([ORDER | {"quantity": Decimal("1.123456789")}], "quantity"),
        ([ORDER | {"quantity": True}], "quantity.*bool given"),
        ([ORDER | {"timestamp_utc": "yesterday"}], "timestamp_utc"),
        ([ORDER | {"timestamp_utc": 1_700_000_000_000_000_001}], "timestamp_utc.*lose data"),
        ([ORDER | {"timestamp_utc": 1.5}], "timestamp_utc.*double given"),
        ([ORDER | {"timestamp_utc": "1677-01-01"}], "timestamp_utc"),
        (pa.table({"order_id": [str(RUN)], "timestamp_utc": pa.array([2**40], pa.timestamp("s"))}), "before 1678"),
        ([ORDER | {"symbol": 5}], "symbol.*int64 given"),
        ([ORDER | {"symbol": "A"}, ORDER | {"symbol": 5}], "no columns of one type"),
        ({"order_id": [UUID(int=1)], "symbol": ["A", "B"]}, "no columns of one type and length"),
        (5, "not int"),
        ("orders.csv", "not str"),
        (pa.table([pa.array([1]), pa.array([2])], names=["order_id", "order_id"]), "two columns have one name"),
    ],
)
def test_what_does_not_fit_is_refused_whole(tmp_path: Path, rows: Any, says: str) -> None:
    with bt.open(tmp_path / "store") as store:
        lsn = store.info().lsn
        with pytest.raises(ArgumentError, match=says):
            store.append(rows, table="orders")
        assert store.info().lsn == lsn
        assert store.table("orders").num_rows == 0


def test_other_wrong_calls_say_what_to_do(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        calls: list[tuple[Callable[[], object], str]] = [
            (lambda: store.append([ORDER], table="order"), "there are positions, orders"),
            (lambda: store.append([ORDER], table="ticks"), "no relational table"),
            (lambda: store.table("bars"), "no relational table"),
            (lambda: store.append([ORDER], table="orders", symbol="A"), "only batch_id="),  # type: ignore[call-overload]
            (lambda: store.append([ORDER], table="orders", batch_id=""), "batch_id"),
        ]
        for call, says in calls:
            with pytest.raises(ArgumentError, match=says):
                call()
        assert store.append([], table="orders").rows == 0
        assert store.append({"order_id": pa.array([], pa.string())}, table="orders").rows == 0


def test_a_batch_that_is_sent_again_adds_nothing(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        first = store.append([ORDER], table="orders", batch_id="1")
        store.append([ORDER | {"status": "filled"}], table="orders", batch_id="2")
        again = store.append([ORDER], table="orders", batch_id="1")
        assert (again.rows, again.lsn) == (0, first.lsn)
        assert store.append([{"fill_id": UUID(int=1)}], table="fills", batch_id="1").rows == 1
        assert store.table("orders").to_pylist()[0]["status"] == "filled"


def test_threads_append_to_tables_and_ticks_at_once(tmp_path: Path) -> None:
    def work(thread: int) -> None:
        for number in range(20):
            store.append([{"fill_id": UUID(int=1000 * thread + number), "price": number}], table="fills")
            store.append([ORDER | {"quantity": number}], table="orders")
            store.append({"ts": [number], "price": [1], "volume": [1]}, symbol=f"S{thread}", feed="live")

    with bt.open(tmp_path / "store", flush_rows=40) as store:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert store.sql("select count(*) as n, count(distinct fill_id) as k from fills").to_pylist() == [
            {"n": 80, "k": 80}
        ]
        assert store.sql("select quantity::int as q from orders").to_pylist() == [{"q": 19}]
        assert store.info().ticks == 80
        assert store.verify(deep=True).ok


def test_files_lie_by_month_of_the_commit_and_keep_each_row_once(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        for number in range(3):
            store.append([ORDER | {"quantity": number}], table="orders")
        store.checkpoint()
    months = {dt.datetime.now(dt.UTC).strftime("%Y-%m")}
    (path,) = (tmp_path / "store" / "data" / "tables" / "orders").rglob("*.parquet")
    assert path.parent.name in months
    assert pq.read_metadata(path).num_rows == 1


def test_the_catalog_shows_the_newest_rows(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        for status in ("pending", "filled"):
            store.append([ORDER | {"status": status}], table="orders")
            store.checkpoint()
        expected = (
            store.table("orders")
            .to_arrow()
            .cast(
                pa.schema(
                    [
                        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
                        for field in store.table("orders").schema
                    ]
                )
            )
        )
    with duckdb.connect(str(tmp_path / "store" / "catalog.duckdb"), read_only=True) as connection:
        rows = connection.execute("select * from financial_data.orders").fetchall()
        assert len(rows) == 1
        names = [column[0] for column in connection.description]
        found = {
            name: str(value) if isinstance(value, UUID) else value for name, value in zip(names, rows[0], strict=True)
        }
    assert [found] == expected.to_pylist()


def test_a_column_keeps_its_rows_when_it_is_renamed_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = "update financial_data.data_columns set name = 'ticker' where table_name = 'orders' and name = 'symbol'"
    with bt.open(tmp_path / "store") as store:
        store.append([ORDER], table="orders")
        before = store.info().lsn
        ship(monkeypatch, third(renamed))
        store.migrations.up()
        assert store.sql("select ticker from orders").to_pylist() == [{"ticker": "SPY"}]
        assert store.sql("select symbol from orders", as_of=before).to_pylist() == [{"symbol": "SPY"}]
        with pytest.raises(ArgumentError, match="no column 'symbol'"):
            store.append([ORDER], table="orders")
        ship(
            monkeypatch,
            third(renamed),
            third(renamed.replace("'symbol'", "'order_id'").replace("'ticker'", "'id'"), number=4),
        )
        with pytest.raises(MigrationError, match=r"orders\.order_id"):
            store.migrations.up()


def test_a_query_writes_only_live_rows_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[frozenset[str]] = []
    settle = reader.settled

    def noting(storage: Any, version: Any, folder: Path) -> Any:
        written.append(version.live.names)
        return settle(storage, version, folder)

    monkeypatch.setattr(reader, "settled", noting)
    with bt.open(tmp_path / "store") as store:
        store.append([ORDER], table="orders")
        store.append([{"fill_id": RUN}], table="fills")
        store.append({"ts": ["2024-01-02"], "price": [2], "volume": [3]}, symbol="A", feed="live")
        counts = "select (select count(*) from orders) as orders, (select count(*) from bars) as bars"
        for text, expected in [
            ("select count(*) as orders from orders", {"orders": 1}),
            ("select count(*) as orders from orders", {"orders": 1}),
            ("select count(*) as ticks from ticks", {"ticks": 1}),
            ("select count(*) as bars from bars where timeframe = '1m'", {"bars": 1}),
            (counts, {"orders": 1, "bars": 7}),
            ("select count(*) as positions from positions", {"positions": 0}),
        ]:
            assert store.sql(text).to_pylist() == [expected]
        assert written == [{"orders"}, {"ticks"}, {"orders", "ticks"}]
        store.append([{"fill_id": UUID(int=9)}], table="fills")
        assert store.sql("select count(*) as n from fills").to_pylist() == [{"n": 2}]
        assert written[-1] == {"fills"}
