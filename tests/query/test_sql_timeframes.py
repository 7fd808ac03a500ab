"""SQL computes a timeframe that is not stored where a statement names it, and only for the reference that does."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import SQLError

SECOND = 10**9
COLUMNS = "symbol, timeframe, price_basis, timestamp_ns, open, high, low, close, volume, turnover, vwap, trade_count"


def trades(symbol: str, seed: int, rows: int = 900) -> pa.Table:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(-2 * 10**6, 80 * 86_400 * 10**3, rows)) * 10**6
    at[: rows // 2] = np.sort(rng.integers(-30_000, 30_000, rows // 2)) * 10**6
    return pa.table(
        {
            "symbol": [symbol] * rows,
            "timestamp_utc": pa.array(np.sort(at), pa.timestamp("ns", "UTC")),
            "price": [str(Decimal(int(cents)) / 100) for cents in rng.integers(100, 10_000, rows)],
            "volume": [str(size) for size in rng.integers(0, 500, rows)],
        }
    )


def quotes(symbol: str) -> pa.Table:
    return pa.table(
        {
            "symbol": [symbol] * 3,
            "timestamp_utc": pa.array([1 * SECOND, 2 * SECOND, 21 * SECOND], pa.timestamp("ns", "UTC")),
            "bid": ["1", "3", "2"],
            "ask": [None, "4", None],
        }
    )


def fill(store: bt.Store) -> None:
    store.ingest(trades("A", 1), feed="f")
    store.ingest(trades("B", 2), feed="f")
    store.ingest(quotes("Q"), feed="q")
    bids = quotes("Z").drop_columns(["ask"])
    store.ingest(bids, feed="q")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with bt.open(tmp_path_factory.mktemp("timeframes") / "store") as opened:
        fill(opened)
        yield opened


def expected(store: bt.Store, timeframe: str, symbols: list[str] | None = None) -> list[dict[str, object]]:
    rows = []
    for symbol in symbols or store.symbols():
        frame = store.bars(symbol, timeframe).to_arrow()
        at = frame["timestamp_utc"].cast(pa.int64())
        rows += (
            frame.set_column(3, "timestamp_ns", at)
            .cast(
                pa.schema(
                    [*(pa.field(n, pa.string()) for n in frame.column_names[:3]), ("timestamp_ns", pa.int64())]
                    + [frame.schema.field(n) for n in frame.column_names[4:]]
                )
            )
            .to_pylist()
        )
    return rows


def rows_of(store: bt.Store, condition: str, params: object = None) -> list[dict[str, object]]:
    return store.sql(f"select {COLUMNS} from bars where {condition} order by symbol, timestamp_ns", params).to_pylist()  # type: ignore[arg-type]


@pytest.mark.parametrize("timeframe", ["20s", "1s", "90s", "2h", "3d"])
def test_it_gives_the_bars_of_the_api(store: bt.Store, timeframe: str) -> None:
    rows = rows_of(store, f"timeframe = '{timeframe}'")
    assert rows == expected(store, timeframe)
    assert {row["symbol"] for row in rows} == {"A", "B", "Q", "Z"}


def test_it_gives_what_the_ticks_say(store: bt.Store) -> None:
    model: dict[tuple[str, int], list[dict[str, object]]] = {}
    for tick in store.sql(
        "select symbol, timestamp_ns, price, volume from ticks where symbol in ('A', 'B')"
    ).to_pylist():
        model.setdefault((tick["symbol"], tick["timestamp_ns"] // (20 * SECOND) * 20 * SECOND), []).append(tick)
    rows = rows_of(store, "timeframe = '20s' and symbol in ('A', 'B')")
    assert [(row["symbol"], row["timestamp_ns"]) for row in rows] == sorted(model)
    for row in rows:
        ticks = model[row["symbol"], row["timestamp_ns"]]
        assert (row["high"], row["low"]) == (max(t["price"] for t in ticks), min(t["price"] for t in ticks))
        assert row["volume"] == sum(t["volume"] for t in ticks)
        assert row["turnover"] == sum(t["price"] * t["volume"] for t in ticks)
        assert row["trade_count"] == len(ticks)


@pytest.mark.parametrize(
    ("condition", "params"),
    [
        ("'20s' = timeframe", None),
        ("bars.timeframe = '20s'", None),
        ("\"TIMEFRAME\" = '20s'", None),
        ("timeframe in ('20s')", None),
        ("timeframe in ['20s']", None),
        ("timeframe = any(['20s'])", None),
        ("timeframe = all(['20s'])", None),
        ("timeframe is not distinct from '20s'", None),
        ("timeframe = '20s'::varchar", None),
        ("timeframe::text = '20s'", None),
        ("timeframe = ?", ["20s"]),
        ("timeframe = $1", ["20s"]),
        ("timeframe = $tf", {"tf": "20s"}),
        ("timeframe = ?", [bt.Timeframe.parse("20s")]),
        ("timeframe in ?", [["20s"]]),
        ("list_contains(?, timeframe)", [np.array(["20s"])]),
        ("timeframe in (?, ?)", ["20s", "20s"]),
        ("(timeframe, price_basis) in (('20s', 'trade'), ('20s', 'mid'), ('20s', 'bid'))", None),
        ("(timeframe = '20s' or timeframe = '20s') and true", None),
        ("not (timeframe <> '20s')", None),
        ("timeframe in ('20s', '1m') and trade_count > 0 and timeframe = '20s'", None),
        ("timeframe in ('20s', '45s') and timeframe <> '45s'", None),
    ],
)
def test_every_way_to_name_it(store: bt.Store, condition: str, params: object) -> None:
    assert rows_of(store, condition, params) == expected(store, "20s")


@pytest.mark.parametrize(
    "text",
    [
        "select count(*) n from bars as x where x.timeframe = '20s'",
        "select count(*) n from financial_data.bars where timeframe = '20s'",
        "select 'é', count(*) n from /* é */ \"BARS\" where timeframe = '20s'",
        "from BARS select count(*) n where timeframe = '20s'",
        "select count(*) n from (select * from bars where timeframe = '20s')",
        "with b as (from bars where timeframe = '20s') select count(*) n from b",
        "select (select count(*) from bars where timeframe = '20s') n",
        "select count(*) n from bars b(s, tf) where tf = '20s'",
        "select count(*) n from (select timeframe as tf from bars where tf = '20s')",
        "select count(tf) n from (select 1) left join bars b(s, tf) on tf = '20s'",
        "select count(*) n from bars b semi join ticks t on b.symbol = t.symbol and b.timeframe = '20s'",
        "select sum(case when timeframe = '20s' then 1 end) n from bars where timeframe in ('20s', '1m')",
        "select count(distinct (b.symbol, b.timestamp_ns)) n from bars b join ticks t using (symbol) "
        "join feeds f on b.timeframe = '20s'",
    ],
)
def test_every_way_to_read_it(store: bt.Store, text: str) -> None:
    assert store.sql(text).to_pylist()[0]["n"] == len(expected(store, "20s"))


def test_only_the_reference_that_names_it_shows_it(store: bt.Store) -> None:
    stored = store.sql("select count(*) n from bars").to_pylist()[0]["n"]
    fine, finer = len(expected(store, "20s")), len(expected(store, "10s"))
    row = store.sql(
        "select (select count(*) from bars) a, (select count(*) from bars where timeframe = '20s') b,"
        " (select count(*) from bars where timeframe = '10s') c,"
        " (select count(*) from bars where timeframe <> '20s') d,"
        " (select count(*) from bars where not (timeframe = '20s')) e,"
        " (select count(*) from bars where timeframe not in ('20s', '10s')) f"
    ).to_pylist()
    assert row == [{"a": stored, "b": fine, "c": finer, "d": stored, "e": stored, "f": stored}]
    joined = store.sql("select count(*) n from bars a join bars b on a.timeframe = '20s' and b.timeframe = '1m'")
    assert joined.to_pylist() == [{"n": fine * len(expected(store, "1m"))}]
    anti = "select count(*) n from bars a anti join bars b using (symbol, timestamp_utc) where timeframe = '20s'"
    free = "select count(*) n from s anti join bars b using (symbol, timestamp_utc)"
    frame = store.sql("select symbol, timestamp_utc from bars where timeframe = '20s'").to_arrow()
    assert store.sql(anti).to_pylist() == store.sql(free, tables={"s": frame}).to_pylist()


def test_as_of_joins_filter_on_their_condition(store: bt.Store) -> None:
    side = "(select * from bars where timeframe = '20s')"
    text = (
        "select count(*) n, sum(b.close) c from ticks t asof join {} b on t.symbol = b.symbol "
        "and t.timestamp_utc >= b.timestamp_utc {}"
    )
    named = store.sql(text.format("bars", "and b.timeframe = '20s'")).to_pylist()
    assert named == store.sql(text.format(side, "")).to_pylist()
    assert named[0]["n"] > 0
    with pytest.raises(SQLError, match="20s"):
        store.sql(text.format("bars", "where b.timeframe = '20s'"))


@pytest.mark.parametrize(
    "text",
    [
        "select * from bars where timeframe = '20s' or symbol = 'A'",
        "select count(*) filter (where timeframe = '20s') from bars",
        "select timeframe = '20s' from bars",
        "select case timeframe when '20s' then 1 end from bars",
        "select * from (select * from bars) where timeframe = '20s'",
        "with b as (select timeframe as tf from bars) select * from b where tf = '20s'",
        "with bars as (select * from bars) select * from bars where timeframe = '20s'",
        "select timeframe from bars group by all having timeframe = '20s'",
        "select * from bars qualify timeframe = '20s'",
        "select * from bars b left join feeds f on b.timeframe = '20s'",
        "select * from bars tablesample 10% where timeframe = '20s'",
        "select * from bars where timeframe = '20s' using sample 3",
        "select * from bars a positional join ticks t where a.timeframe = '20s'",
        "select * from bars pivot (sum(close) for timeframe in ('20s', '1m'))",
        "select * from bars where lower(timeframe) = '20s'",
        "select * from bars where timeframe in (select '20s')",
        "select '20s' in (select timeframe from bars)",
        "select * from bars b where exists (select 1 where b.timeframe = '20s')",
        "select * from bars where columns('timeframe') = '20s'",
        "select * from bars where (timeframe = '20s') = true",
        "select * from bars where timeframe like '20s'",
        "select * from bars where timeframe between '20s' and '20s'",
        "select * from bars where timeframe >= '20s' and timeframe <= '20s'",
        "select * from bars where regexp_full_match(timeframe, '20s')",
        "select * from bars where list_position(['20s'], timeframe) > 0",
        "select * from bars where nullif(timeframe, '20s') is null",
        "select * from bars b where (select b.timeframe) = '20s'",
        "select * from bars, (select '20s' as tf) p where timeframe = p.tf",
        "with p as (select '20s' as tf) select * from bars where timeframe in (from p)",
        "select * from (values ('20s')) v(tf) join bars on timeframe = tf",
        "select * from bars join w using (timeframe) where w.timeframe = '20s'",
        "select * from bars natural join w where w.timeframe = '20s'",
        "select * from bars where timeframe = '20s' and (symbol, timeframe) in (select symbol, timeframe from bars)",
        "with d as (from bars) select * from bars b join d using (timeframe) where b.timeframe = '20s'",
    ],
)
def test_what_does_not_filter_is_refused(store: bt.Store, text: str) -> None:
    with pytest.raises(SQLError, match="20s"):
        store.sql(text, tables={"w": pa.table({"timeframe": ["20s"]})})


@pytest.mark.parametrize(
    "text",
    [
        "select count(*) n from bars a join bars b using (symbol, timeframe, timestamp_ns) where a.timeframe = '20s'",
        "select count(*) n from (select symbol, timeframe, timestamp_ns, close from bars where timeframe = '20s') "
        "natural join (select symbol, timeframe, timestamp_ns, open from bars where timeframe = '20s')",
        "select count(b.close) n from bars a left join bars b on a.timeframe = b.timeframe "
        "and (a.symbol, a.timestamp_ns) = (b.symbol, b.timestamp_ns) where a.timeframe = '20s'",
        "select count(*) n from bars a where timeframe = '20s' and exists "
        "(from bars b where b.timeframe = a.timeframe and b.timestamp_ns = a.timestamp_ns and b.symbol = a.symbol)",
        "select sum(l.n) n from bars a, lateral (select count(*) n from bars b where b.timeframe = a.timeframe "
        "and b.symbol = a.symbol and b.timestamp_ns = a.timestamp_ns) l where a.timeframe = '20s'",
    ],
)
def test_what_equals_it_shows_it_too(store: bt.Store, text: str) -> None:
    assert store.sql(text).to_pylist()[0]["n"] == len(expected(store, "20s"))


@pytest.mark.parametrize(
    "text",
    [
        "from bars b(x, timeframe, symbol) where x = 'A' and timeframe = '20s' and symbol = 'trade'",
        "select timestamp_ns from bars b(timeframe, symbol) where symbol = '20s' and timeframe = 'A'",
        "select timestamp_ns from bars b(timeframe) where timeframe_1 = '20s' and timeframe = 'A'",
        "select timestamp_ns, symbol as timeframe from bars where timeframe = '20s' and symbol = 'A'",
    ],
)
def test_names_that_stand_for_others(store: bt.Store, text: str) -> None:
    wanted = [row["timestamp_ns"] for row in expected(store, "20s", ["A"])]
    assert sorted(store.sql(text).to_arrow()["timestamp_ns"].to_pylist()) == wanted


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("select * from bars where timeframe = '60s'", 0),
        ("select * from bars where timeframe = '7s'", 0),
        ("select * from bars where symbol = '20s'", 0),
        ("select '20s' from bars where timeframe = '1d' and symbol = 'Q'", 1),
        ("select * from bars b join w on w.timeframe = '20s' where b.timeframe = '1d' and b.symbol = 'Q'", 1),
        ("select * from bars b where timeframe = '1d' and symbol = 'Q' and exists (from w where timeframe = '20s')", 1),
    ],
)
def test_what_names_no_bars_to_compute_is_plain(store: bt.Store, text: str, rows: int) -> None:
    assert store.sql(text, tables={"w": pa.table({"timeframe": ["20s"]})}).num_rows == rows


def test_only_the_symbols_asked_for_are_computed(store: bt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    from backtestr.query import sql

    write = sql.write_computed
    monkeypatch.setattr(sql, "write_computed", lambda *a: (asked.append(list(a[4])), write(*a)))
    for condition, params in [
        ("symbol = 'A'", None),
        ("symbol in ?", [["A", "none"]]),
        ("(symbol = 'A' or symbol = 'B') and price_basis = 'trade'", None),
        ("symbol = upper('a')", None),
        ("(symbol = 'A' or price_basis = 'mid')", None),
    ]:
        assert rows_of(store, f"timeframe = '20s' and {condition}", params)
    assert asked == [["A"], ["A"], ["A", "B"], store.symbols(), store.symbols()]


def test_new_rows_are_seen_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", temp_dir=tmp_path / "scratch") as store:
        fill(store)
        before = rows_of(store, "timeframe = '20s'")
        store.ingest(trades("C", 3), feed="f")
        after = rows_of(store, "timeframe = '20s'")
        assert after == expected(store, "20s")
        assert len(after) > len(before)
        with pytest.raises(SQLError):
            store.sql("select error_here from bars where timeframe = '20s'")
        with bt.open(tmp_path / "store", read_only=True) as reader:
            assert rows_of(reader, "timeframe = '20s'") == after
        assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert not list((tmp_path / "scratch").iterdir())


def test_threads_share_a_store(store: bt.Store) -> None:
    wanted = {timeframe: expected(store, timeframe) for timeframe in ("20s", "10s", "1m", "2h")}
    wrong: list[str] = []

    def read(timeframe: str) -> None:
        for _ in range(5):
            if rows_of(store, "timeframe = ?", [timeframe]) != wanted[timeframe]:
                wrong.append(timeframe)

    threads = [threading.Thread(target=read, args=(timeframe,)) for timeframe in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
