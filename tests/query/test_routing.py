"""Aggregations of ticks answered from bars: the same rows, names and types as from ticks."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError
from tests.query.ticks import FIRST, content, instant, ticks

STATEMENTS = int(os.environ.get("ROUTED_STATEMENTS", "500"))
SEED = int(os.environ.get("ROUTED_SEED", "1"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bt.Store]:
    """Several files of some symbols, deletions, corrections and rows that only the log holds."""
    rng = random.Random(SEED)
    opened = bt.open(
        tmp_path_factory.mktemp("routing") / "store", day_interval_bytes="2KiB", flush_rows=10**9, flush_seconds=10**6
    )
    with opened:
        for _ in range(3):
            for symbol in ("A", "B", "C d'"):
                opened.ingest(ticks(rng, symbol, 400), feed=f"f {symbol}")
        opened.ingest(ticks(rng, "Q", 400, quotes=True), feed="q")
        opened.ingest(ticks(rng, "Q2", 200, quotes=True), feed="q")
        opened.delete(["A"], start=FIRST + dt.timedelta(hours=30), end=FIRST + dt.timedelta(hours=31, minutes=7))
        opened.append(ticks(rng, "A", 30), feed="f A")
        yield opened


KEYS = [
    ["symbol"],
    [],
    ["time_bucket(interval '{i}', timestamp_utc)"],
    ["date_trunc('{p}', timestamp_utc)"],
    ["timestamp_utc::date"],
    ["date_part('{p}', timestamp_utc)"],
    ["timestamp_ns // {n}"],
    ["{p2}(timestamp_utc)"],
    ["symbol || '/' || strftime(date_trunc('hour', timestamp_utc), '%d %H')"],
]
INTERVALS = [
    "5 minutes", "1 minute", "30 seconds", "90 minutes", "2 hours", "7 hours", "1 day", "3 days", "7 days", "1 month",
    "1 week", "4 hours", "1 day 6 hours", "15 minutes", "1 year",
]  # fmt: skip
PARTS = ["minute", "hour", "day", "week", "month", "year", "second"]
AGGREGATES = [
    "max(price)", "min(price)", "sum(volume)", "count(*)", "count(*) filter (tick_type = 0)", "vwap(price, volume)",
    "arg_min(price, (timestamp_ns, sequence))", "arg_max(price, (timestamp_ns, sequence))", "count(price)",
    "max(price) - min(price)", "max(price) filter (where tick_type = 0)", "sum(volume) / count(*)",
    "count(distinct symbol)", "min(symbol)", "max(time_bucket('1 hour', timestamp_utc))",
    "first(price order by timestamp_ns, sequence)", "last(price order by timestamp_ns, sequence)",
    "case when max(price) > 100 then 'high' else 'low' end", "coalesce(sum(volume), 0)::varchar",
    "sum(sum(volume)) over ()",
]  # fmt: skip
UNROUTABLE = ["avg(price)", "median(price)", "max(volume)", "sum(volume) filter (price > 5)", "max(timestamp_utc)"]


def condition(rng: random.Random, params: list[object]) -> str:
    at = instant(rng)
    ns = (at - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1) * 1_000 + rng.choice([0, 0, 1, 999])
    compare = rng.choice([">=", "<", ">", "<="])

    def bound(value: object) -> str:
        params.append(value)
        return f"${len(params)}"

    return rng.choice(
        [
            lambda: f"timestamp_utc {compare} '{at}'",
            lambda: f"'{at}' {compare} timestamp_utc",
            lambda: f"timestamp_utc {compare} timestamp '{at}' + interval '90 minutes'",
            lambda: f"timestamp_ns {compare} {ns}",
            lambda: f"timestamp_utc {compare} {bound(at)}",
            lambda: f"timestamp_utc {compare} {bound(at.replace(tzinfo=dt.UTC))}",
            lambda: f"timestamp_utc between '{at}' and {bound(at + dt.timedelta(hours=rng.randrange(60)))}",
            lambda: f"timestamp_utc::date = '{at.date()}'",
            lambda: f"timestamp_ns {compare} epoch_ns(timestamp '{at}')",
            lambda: f"symbol = {bound(rng.choice(['A', 'B', 'Q', 'A', 'B', 'Q', 'none']))}",
            lambda: "symbol in ('A', 'C d''')",
            lambda: "symbol <> 'Q'",
            lambda: "symbol like '%d%'",
            lambda: "(symbol = 'A' or symbol = 'B')",
        ]
    )()


def statement(rng: random.Random) -> tuple[str, list[object]]:
    """A random aggregation of ticks, ordered by nothing."""
    params: list[object] = []
    keys = [key for group in rng.sample(KEYS, rng.choice([1, 1, 2, 2, 3])) for key in group]
    keys += [] if "symbol" in keys or rng.random() < 0.4 else ["symbol"]
    n = rng.choice([60, 300, 3_600, 86_400, 7, 1_500]) * 10**9
    keys = [
        key.format(i=rng.choice(INTERVALS), p=rng.choice(PARTS), p2=rng.choice(["hour", "day", "month", "minute"]), n=n)
        for key in keys
    ]
    chosen = rng.sample(AGGREGATES, rng.randrange(1, 5)) + rng.choices([[], [rng.choice(UNROUTABLE)]], [9, 1])[0]
    items = [*keys, *chosen]
    shown = [f"{item} as x{place}" if rng.random() < 0.5 else item for place, item in enumerate(items)]
    where = [condition(rng, params) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    where += ["tick_type = 0"] if rng.random() < 0.9 else []
    groups = rng.choice(["group by all", "group by " + ", ".join(map(str, range(1, len(keys) + 1)))]) if keys else ""
    if keys and rng.random() < 0.1:
        groups = "group by rollup (" + ", ".join(keys) + ")"
    having = (
        f" having {rng.choice(['max(price) > 20', 'count(*) > 2', 'sum(volume) >= 0'])}" if rng.random() < 0.15 else ""
    )
    name, alias = rng.choice([("ticks", ""), ("financial_data.ticks", ""), ("ticks", " as t")])
    text = f"select {', '.join(shown)} from {name}{alias}"
    text += f" where {' and '.join(where)}" if where else ""
    text += f" {groups}{having}"
    if rng.random() < 0.1:
        text = f"with w as ({text}) select * from w"
    return text, params


def test_random_aggregations_are_equal(store: bt.Store, record_property: Callable[[str, object], None]) -> None:
    rng = random.Random(SEED)
    taken: Counter[str] = Counter()
    for number in range(STATEMENTS):
        text, params = statement(rng)
        told = (number, text, params)
        plain = store.sql(text, params, route=False).to_arrow()
        found = store.sql(text, params)
        assert found.schema == plain.schema, told
        assert content(found.to_arrow()) == content(plain), told
        taken[str(found.explain().rules["aggregation routing"]).split(" ")[1]] += 1
    record_property("answered from bars", f"{taken['bars']} of {STATEMENTS}")
    assert taken["bars"] >= STATEMENTS / 2, taken


CASES = {
    "select max(price) from ticks where symbol = 'Q'": "add tick_type = 0",
    "select avg(price) from ticks where symbol = 'A'": "bars do not have this avg",
    "select max(volume) from ticks where symbol = 'A'": "bars do not have this max",
    "select first(price) from ticks where symbol = 'A'": "bars do not have this first",
    "select arg_min(price, timestamp_ns) from ticks where symbol = 'A'": "bars do not have this arg_min",
    "select arg_min(price, (timestamp_ns, sequence)) from ticks where tick_type = 0": "several symbols",
    "select count(*) from ticks where symbol = 'A' and price > 5": "neither on the symbol alone",
    "select count(*) from ticks where symbol = 'A' and conditions is null": "neither on the symbol alone",
    "select timestamp_utc, max(price) from ticks where symbol = 'A' group by 1": "timestamp_utc outside of aggregates",
    "select time_bucket('7 seconds', timestamp_utc), max(price) from ticks where symbol = 'A' group by 1": "7,000,000",
    "select time_bucket('1 hour', timestamp_utc, timestamp '2024-01-01 00:30') b, max(price) from ticks "
    "where symbol = 'A' group by 1": "timestamp_utc outside of aggregates",
    "select max(price) from ticks tablesample 10% where symbol = 'A'": "sample",
    "select max(price), random() from ticks where symbol = 'A'": "random() gives another value",
    "select max(price) from ticks where symbol = 'A' and timestamp_ns between 5 and 6": "no ticks are asked for",
    "select max(p) from ticks as t(s, ts, ns, q, e, k, p)": "other names",
    "select max(t.price) from ticks t join bars b using (symbol)": "no aggregation over ticks alone",
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_not_proved_is_answered_from_ticks(store: bt.Store, text: str) -> None:
    assert CASES[text] in store.explain(text).rules["aggregation routing"]


def test_the_coarsest_bars_are_taken_and_ragged_edges_are_ticks(store: bt.Store) -> None:
    text = (
        "select count(*) from ticks where symbol = 'B' and timestamp_utc >= '2023-12-31 22:58:30' "
        "and timestamp_utc < '2024-01-03 05:31'"
    )
    plan = store.explain(text)
    assert plan.routed
    assert plan.rules["aggregation routing"] == "from bars of 1m, 1h, 1d, 4h, 30m, ragged edges from ticks"
    assert store.sql(text).to_pylist() == store.sql(text, route=False).to_pylist()
    whole = store.explain("select count(*) from ticks where symbol = 'B'")
    assert whole.rules["aggregation routing"] == "from bars of 1d"
    assert (
        "from ticks" not in store.explain("select count(*) from ticks where symbol = 'B'", route=False).rules.values()
    )


def test_a_range_that_begins_within_the_first_bar(store: bt.Store) -> None:
    for symbol in ("A", "B"):
        first = store.ticks(symbol, limit=1).to_arrow()["timestamp_utc"].cast(pa.int64())[0].as_py()
        for low in (first, first - 1, first - 60 * 10**9, first - 7_200 * 10**9, first + 1):
            text = f"select count(*) as n from ticks where symbol = '{symbol}' and timestamp_ns >= {low}"
            assert store.explain(text).routed
            assert store.sql(text).to_pylist() == store.sql(text, route=False).to_pylist(), (symbol, low - first)


def test_a_bar_specification_of_its_own_keeps_statements_on_ticks(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as opened:
        rows = {"symbol": ["A"] * 3, "timestamp_utc": [1, 2, 3], "price": [1, 9, 2], "volume": [1] * 3}
        opened.ingest(rows | {"conditions": ["", "X", ""]}, feed="f")
        text = "select max(price) as high from ticks"
        assert opened.explain(text).routed
        opened.set_bar_spec(bt.BarSpec(high_low_excludes=("X",)))
        assert "bar specification" in opened.explain(text).rules["aggregation routing"]
        assert opened.sql(text).to_pylist() == [{"high": Decimal(9)}]


def test_answers_of_the_past_explain_themselves_and_travel(store: bt.Store) -> None:
    with store.at(3) as past:
        frame = past.sql("select count(*) as n from ticks where symbol = 'B'")
        assert frame.explain().lsn == 3
        assert past.ticks("B", limit=1).explain().lsn == 3
    copied = pickle.loads(pickle.dumps(frame))
    assert copied.to_pylist() == frame.to_pylist()
    with pytest.raises(ArgumentError, match="explain"):
        copied.explain()


def test_plans_print_and_are_plain_values(store: bt.Store) -> None:
    plan = store.sql("select symbol, sum(volume) from ticks where symbol = 'A' group by symbol").explain()
    assert json.loads(plan.to_json()) == json.loads(json.dumps(plan.to_dict()))
    for rule in plan.rules:
        assert rule in str(plan)
    (scan,) = store.ticks("A", start=FIRST + dt.timedelta(hours=50), end=FIRST + dt.timedelta(hours=52)).explain().scans
    assert scan.files < scan.files_considered
    assert scan.bytes < scan.bytes_considered / 4
    assert store.bars("A", "20s").explain().scans[0].table == "ticks"
    assert store.bars("A", "5m").explain().scans[0].what == "bars of 5m"
    with pytest.raises(ArgumentError, match="explain"):
        store.history().explain()
