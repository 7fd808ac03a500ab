"""Random statements and ranges over a store of many files, beside plain DuckDB over the same rows in memory."""

from __future__ import annotations

import datetime as dt
import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import SQLError
from tests.query.ticks import FIRST, HOURS, content, instant, ticks

REQUESTS = int(os.environ.get("RANDOM_REQUESTS", "500"))
SEED = int(os.environ.get("RANDOM_SEED", "1"))
SYMBOLS = ["A", "B", "C d'", "Q"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bt.Store]:
    """Days and months of some symbols in files of their own, parts of it removed, the newest only in the log."""
    rng = random.Random(SEED)
    folder = tmp_path_factory.mktemp("requests") / "store"
    with bt.open(folder, day_interval_bytes="2KiB", flush_rows=10**9, flush_seconds=10**6) as opened:
        for _ in range(2):
            for symbol in SYMBOLS:
                opened.ingest(ticks(rng, symbol, 250, quotes=symbol == "Q"), feed=f"f {symbol}")
        opened.delete(["B"], start=FIRST + dt.timedelta(hours=40), end=FIRST + dt.timedelta(hours=50))
        opened.append(ticks(rng, "A", 20), feed="f A")
        yield opened


@pytest.fixture(scope="module")
def plain(store: bt.Store) -> duckdb.DuckDBPyConnection:
    """All rows as tables of plain DuckDB: nothing is pruned where nothing is asked for."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    for table in ("ticks", "bars"):
        rows = store.sql(f"select * from {table}").to_arrow()
        assert rows.num_rows > 500
        connection.register("rows", rows)
        connection.execute(f"create table {table} as select * from rows")
        connection.unregister("rows")
    return connection


class Writer:
    """Writes random statements, with the values of their parameters."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.params: list[Any] = []

    def bound(self, value: object) -> str:
        self.params.append(value)
        return f"${len(self.params)}"

    def text(self) -> str:
        symbol = self.rng.choice([*SYMBOLS, "none", "a"])
        quoted = "'" + symbol.replace("'", "''") + "'"
        return self.bound(symbol) if self.rng.random() < 0.3 else quoted

    def time(self) -> str:
        at = instant(self.rng)
        return self.rng.choice(
            [
                lambda: f"'{at}'",
                lambda: f"timestamp '{at}'",
                lambda: f"'{at.date()}'::date",
                lambda: f"'{at}'::timestamptz",
                lambda: f"timestamp_ns '{at}'",
                lambda: f"'{at}'::timestamp - interval '1 hour'",
                lambda: f"make_timestamp({at.year}, {at.month}, {at.day}, {at.hour}, {at.minute}, 0)",
                lambda: self.bound(at),
                lambda: self.bound(at.replace(tzinfo=dt.UTC)),
                lambda: self.bound(at.date()),
            ]
        )()

    def condition(self, depth: int = 2, t: str = "") -> str:
        rng = self.rng
        compare = rng.choice(["=", "<", ">", "<=", ">=", "<>"])
        ns = rng.randrange(HOURS * 3_600) * 10**9 + int(FIRST.replace(tzinfo=dt.UTC).timestamp()) * 10**9
        choices = [
            lambda: f"{t}symbol {rng.choice(['=', '=', '<>', 'is not distinct from'])} {self.text()}",
            lambda: f"{self.text()} = {t}symbol",
            lambda: f"{t}symbol {rng.choice(['in', 'in', 'not in'])} ({self.text()}, {self.text()})",
            lambda: f"{t}symbol {rng.choice(['like', 'not like', 'ilike'])} '%{rng.choice('aBd')}%'",
            lambda: f"{t}symbol in (select symbol from bars where symbol <> {self.text()})",
            lambda: f"{t}timestamp_utc {compare} {self.time()}",
            lambda: f"{self.time()} {compare} {t}timestamp_utc",
            lambda: f"{t}timestamp_utc {rng.choice(['', 'not '])}between {self.time()} and {self.time()}",
            lambda: f"{t}timestamp_utc::date {compare} '{instant(rng).date()}'",
            lambda: f"{t}timestamp_ns {compare} {ns + rng.choice([0, 1, -1])}",
            lambda: f"{t}timestamp_ns between {ns} and {ns + rng.choice([0, 10**9, 10**14])}",
            lambda: f"{t}timestamp_ns {compare} epoch_ns(timestamp '{instant(rng)}')",
            lambda: f"{t}symbol = nullif({self.text()}, 'A')",
            lambda: f"({t}symbol, {t}timestamp_utc::date) = ({self.text()}, '{instant(rng).date()}')",
        ]
        if depth:
            joined = rng.choice([" and ", " and ", " or "])
            choices += [
                lambda: f"({self.condition(depth - 1, t)}{joined}{self.condition(depth - 1, t)})",
                lambda: f"not ({self.condition(depth - 1, t)})",
            ] * 4
        return rng.choice(choices)()

    def statement(self) -> str:
        rng = self.rng
        table = rng.choice(["ticks", "ticks", "bars"])
        value = "price" if table == "ticks" else "close"
        outer = rng.choice(["", "left ", "right ", "full "])

        def where(depth: int = 2, t: str = "") -> str:
            return f"where {self.condition(depth, t)}"

        def one(t: str) -> str:
            return self.condition(1, t)

        def any_side() -> str:
            return one(rng.choice(["a.", "b."]))

        ranked = f"row_number() over (partition by symbol order by timestamp_ns, {value})"
        templates = [
            lambda: f"select * from {table} {where()}",
            lambda: f"select symbol, count(*), sum({value}) from {table} t {where()} group by symbol",
            lambda: f"with w as (select * from {table} {where()}) select count(*), max({value}) from w",
            lambda: f"select count(*) from (select * from {table} {where()}) s {where(1, 's.')}",
            lambda: (
                f"select a.symbol, a.timestamp_ns, b.close from ticks a {outer}join bars b on a.symbol = b.symbol "
                f"and b.timeframe = '1d' and {any_side()} where {any_side()}"
            ),
            lambda: (
                f"select symbol, count(*) from ticks {outer}join (select distinct symbol from bars {where(1)}) b "
                f"using (symbol) {where(1)} group by 1"
            ),
            lambda: (
                f"select count(*) from {table} t where exists (select 1 from bars b where b.symbol = t.symbol "
                f"and {one('b.')} and {one('t.')})"
            ),
            lambda: f"select {value} from {table} {where()} union all select {value} from {table} {where()}",
            lambda: f"select symbol, timestamp_ns, {ranked} r from {table} {where()} qualify r <= 2",
            lambda: f"select count(*) filter ({where()}), count(*) from {table}",
            lambda: (
                f"select symbol, max({value}) from {table} group by symbol having max({value}) > "
                f"(select avg({value}) from {table} {where()})"
            ),
            lambda: f"select * from {table} a semi join ticks b on a.symbol = b.symbol and {one('b.')}",
            lambda: f"select count(*) from {table} a anti join ticks b on a.symbol = b.symbol and {one('b.')}",
        ]
        return rng.choice(templates)()


def test_random_statements(store: bt.Store, plain: duckdb.DuckDBPyConnection) -> None:
    pruned = refused = 0
    for number in range(REQUESTS):
        writer = Writer(random.Random(f"{SEED}/{number}"))
        text = writer.statement()
        params = writer.params
        naive = [value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value for value in params]
        try:
            expected = plain.sql(text, params=naive).to_arrow_table()
        except duckdb.Error:
            refused += 1
            with pytest.raises(SQLError):
                store.sql(text, params)
            continue
        found = store.sql(text, params).to_arrow()
        assert found.schema.names == expected.schema.names, (number, text, params)
        assert content(found) == content(expected), (number, text, params)
        scans = [scan for scan in store.explain(text, params).scans if scan.table in {"ticks", "bars"}]
        pruned += any(scan.files < scan.files_considered for scan in scans)
    assert refused < REQUESTS / 10
    assert pruned > REQUESTS / 4


def test_random_ranges(store: bt.Store, plain: duckdb.DuckDBPyConnection) -> None:
    rng = random.Random(SEED)
    rows = plain.sql("select * from ticks order by symbol, timestamp_ns, sequence, price, volume").to_arrow_table()
    everything = rows.to_pylist()
    for number in range(REQUESTS):
        symbols = rng.choice([None, rng.sample(SYMBOLS, rng.randrange(1, 4))])
        start, end = sorted([instant(rng), instant(rng)])
        if start == end:
            continue
        limits = (int(at.replace(tzinfo=dt.UTC).timestamp()) * 10**9 + at.microsecond * 1_000 for at in (start, end))
        low, high = limits
        wanted = [
            row
            for row in everything
            if (symbols is None or row["symbol"] in symbols) and low <= row["timestamp_ns"] < high
        ]
        limit, order = rng.choice([None, 0, 1, 5, 1_000]), rng.choice(["asc", "desc"])
        expected = []
        for symbol in sorted({row["symbol"] for row in wanted}):
            mine = [row for row in wanted if row["symbol"] == symbol]
            expected += (mine[::-1] if order == "desc" else mine)[:limit]
        found = store.ticks(symbols, start=start, end=end, limit=limit, order=order).to_arrow()
        columns = ["symbol", "sequence", "price", "volume", "tick_type"]
        told = (number, symbols, start, end, limit, order)
        assert found.select(columns).to_pylist() == [{name: row[name] for name in columns} for row in expected], told


def test_answers_beside_appends_are_of_one_version(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each batch has as many ticks of either symbol, so an answer from two versions would show."""
    rng = random.Random(SEED)
    stop = threading.Event()
    with bt.open(tmp_path_factory.mktemp("beside") / "store", flush_rows=2_000, day_interval_bytes="2KiB") as opened:
        for symbol in ("A", "B"):
            opened.ingest(ticks(rng, symbol, 200), feed="f")

        def write() -> None:
            while not stop.is_set():
                both = ticks(rng, "A", 20)
                other = both.set_column(0, "symbol", pa.array(["B"] * 20))
                opened.append(pa.concat_tables([both, other]), feed="f")

        thread = threading.Thread(target=write)
        thread.start()
        try:
            seen = set()
            for _ in range(max(REQUESTS // 50, 10)):
                text = "select count(*) n, sum(volume) v, max(price) hi from ticks where tick_type = 0"
                with opened.at(opened.refresh()) as past:
                    routed, direct = (past.sql(text, route=route).to_pylist() for route in (True, False))
                assert routed == direct
                assert routed[0]["n"] % 40 == 0
                seen.add(routed[0]["n"])
            assert len(seen) > 1
        finally:
            stop.set()
            thread.join()
