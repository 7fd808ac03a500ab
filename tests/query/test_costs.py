"""Estimates from the index and from recorded runs, beside what was measured."""

from __future__ import annotations

import datetime as dt
import json
import random
import statistics
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

import backtestr as bt
from backtestr.models import Plan
from backtestr.query.costs import fitted_ns
from backtestr.query.tally import Run
from tests.query.clocks import Clock

FIRST = dt.datetime(2024, 1, 2, 14)
MS = 1_000_000


def trades(seconds: range) -> dict[str, list[object]]:
    times = [FIRST + dt.timedelta(seconds=second) for second in seconds]
    return {"ts": times, "price": [10 + second % 7 for second in seconds], "volume": [1] * len(seconds)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bt.Store]:
    """A tick each second of three symbols: 36,000 of A in two row groups, 3,600 of B, 60 of C; in a file each."""
    path = tmp_path_factory.mktemp("costs")
    with bt.open(path / "store", state_dir=path / "state") as opened:
        for symbol, count in (("A", 36_000), ("B", 3_600), ("C", 60)):
            opened.ingest(trades(range(count)), symbol=symbol, feed=symbol)
        yield opened


def at(second: int) -> dt.datetime:
    return FIRST + dt.timedelta(seconds=second)


def rows(plan: Plan) -> int:
    assert plan.estimate is not None
    return plan.estimate.rows


@pytest.mark.parametrize("symbols", ["A", "B", ["A", "B", "C"], None])
@pytest.mark.parametrize(("first", "stop"), [(0, 36_000), (100, 3_700), (30, 90), (33_000, 40_000), (50_000, 60_000)])
def test_rows_of_ticks(store: bt.Store, symbols: str | list[str] | None, first: int, stop: int) -> None:
    window = {"start": at(first), "end": at(stop)}
    names = ["A", "B", "C"] if symbols is None else symbols
    real = len(store.ticks(symbols, **window))
    # the instants are spread evenly, so that the estimate is off by rounding alone
    assert abs(rows(store.explain(symbols=symbols, **window)) - real) <= 3
    statement = "select * from ticks where list_contains($names, symbol) and timestamp_utc >= $a and timestamp_utc < $b"
    listed = "select * from ticks where symbol = any($names) and timestamp_utc >= $a and timestamp_utc < $b"
    params = {"names": [names] if isinstance(names, str) else names, "a": at(first), "b": at(stop)}
    assert abs(rows(store.explain(listed, params)) - real) <= 3
    # what is not understood bounds nothing: all symbols
    assert rows(store.explain(statement, params)) >= real - 3
    limited = rows(store.explain(symbols=symbols, **window, limit=7))
    assert real - 3 <= limited <= real + 3 or limited == min(7 * (1 if isinstance(names, str) else 3), real + 3)


@pytest.mark.parametrize("timeframe", ["1m", "2m", "1h", "3h", "20s"])
def test_rows_of_bars(store: bt.Store, timeframe: str) -> None:
    for first, stop in ((0, 36_000), (600, 7_800), (7_200, 36_000)):
        window = {"start": at(first), "end": at(stop)}
        real = len(store.bars("A", timeframe, **window))
        assert abs(rows(store.explain(symbols="A", timeframe=timeframe, **window)) - real) <= 1
        text = "select * from bars where symbol = 'A' and timeframe = ? and timestamp_utc >= ? and timestamp_utc < ?"
        assert abs(rows(store.explain(text, [timeframe, at(first), at(stop)])) - real) <= 1


def test_rows_of_an_aggregation_are_those_that_are_read(store: bt.Store) -> None:
    text = "select max(price) from ticks where symbol = 'A' and timestamp_utc >= ? and timestamp_utc < ?"
    plan = store.explain(text, [at(3_600), at(7_200)])
    assert plan.routed
    assert rows(plan) == 1
    assert rows(store.explain(text, [at(3_600), at(7_200)], route=False)) == 3_600


def test_a_line_is_found_through_noise() -> None:
    rng = random.Random(1)
    for _ in range(100):
        base, slope = rng.randrange(10**7), rng.randrange(1, 1_000)
        runs = [Run(base + slope * (units := rng.randrange(10**6)), 0, units) for _ in range(20)]
        for _ in range(5):
            runs[rng.randrange(20)] = Run(10**10, 0, rng.randrange(10**6))
        units = rng.randrange(10**7)
        slopes = [
            Fraction(b.took_ns - a.took_ns, b.units - a.units)
            for number, a in enumerate(runs)
            for b in runs[number + 1 :]
            if a.units != b.units
        ]
        steep = max(statistics.median(slopes), Fraction(0))
        rest = statistics.median(run.took_ns - steep * run.units for run in runs)
        assert fitted_ns(runs, units) == pytest.approx(float(max(rest, Fraction(0)) + steep * units), rel=1e-6)


@pytest.mark.parametrize(
    ("runs", "units", "took"),
    [
        ([(8, 100)], 100, 8),
        ([(8, 100), (10, 100), (90, 100)], 100, 10),
        ([(8, 100)], 1_000, 80),
        ([(8, 100)], 10, 8),
        ([(8, 0)], 10, 80),
        ([(9, 10), (8, 20)], 15, 8.5),
        ([(10, 10), (20, 20)], 0, 0),
    ],
)
def test_lines_of_few_runs(runs: list[tuple[int, int]], units: int, took: float) -> None:
    assert fitted_ns([Run(ns, 1, size) for ns, size in runs], units) == took


def test_time_is_by_like_requests(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", state_dir=tmp_path / "state") as store:
        store.ingest(trades(range(3_600)), symbol="A", feed="a")
        unseen = store.explain(symbols="A", columns=["price"])
        assert (unseen.estimate.ms, unseen.measured) == (None, None)  # type: ignore[union-attr]
        assert "time unknown: no runs yet" in str(unseen)
        # 2 ms and 10 µs a value
        store._runs.clock = Clock([2 * MS + 10_000 * count for count in (60, 60, 600, 60)])
        for stop in (60, 60, 600, 60):
            store.ticks("A", start=at(0), end=at(stop), columns=["price"])
        # another kind of request of the same family
        other = store.explain(symbols="A", columns=["price", "volume"]).estimate
        assert other is not None
        assert (other.rows, other.runs, other.ms) == (3_600, 4, pytest.approx(2 + 0.01 * 7_200))
        # the same kind: its own runs alone, all of one size
        plan = store.explain(symbols="A", start=at(0), end=at(30), columns=["price"])
        assert plan.estimate is not None
        assert (plan.estimate.rows, plan.estimate.runs, plan.estimate.ms) == (30, 3, pytest.approx(2.6))
        assert plan.measured is not None
        assert (plan.measured.runs, plan.measured.rows) == (3, 60)
        assert (plan.measured.median_ms, plan.measured.slowest_ms) == (2.6, 2.6)
        # other families know nothing of it
        assert store.explain(symbols="A", timeframe="1m").estimate.ms is None  # type: ignore[union-attr]
        assert store.explain("select * from ticks").estimate.ms is None  # type: ignore[union-attr]


def test_computed_bars_are_a_family_of_their_own(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", state_dir=tmp_path / "state") as store:
        store.ingest(trades(range(3_600)), symbol="A", feed="a")
        store._runs.clock = Clock([5 * MS, 50 * MS])
        store.bars("A", "1m")
        store.bars("A", "2m")
        stored, computed = (store.explain(symbols="A", timeframe=text, start=at(0)).estimate for text in ("5m", "3m"))
        assert (stored.ms, computed.ms) == (5, 50)  # type: ignore[union-attr]


def test_statements_by_the_bytes_of_their_files(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", state_dir=tmp_path / "state") as store:
        for month in range(1, 5):
            rows = trades(range(500))
            rows["ts"] = [dt.datetime(2024, month, 2) + dt.timedelta(seconds=second) for second in range(500)]
            store.ingest(rows, symbol="A", feed="a")
        text = "select * from ticks where timestamp_utc < ?"
        sizes = [row["size"] for row in _files(store)]
        store._runs.clock = Clock([MS + 1_000 * sum(sizes[:months]) for months in (1, 2, 3)])
        for month in (2, 3, 4):
            store.sql(text, [dt.datetime(2024, month, 1)])
        plan = store.explain(text, [dt.datetime(2025, 1, 1)])
        assert plan.estimate is not None
        assert plan.estimate.ms == pytest.approx(1 + sum(sizes) / 1_000)
        assert plan.measured is not None
        assert (plan.measured.runs, plan.measured.rows) == (3, 1_000)


def _files(store: bt.Store) -> list[dict[str, int]]:
    files = sorted((store._path / "data" / "ticks").rglob("*.parquet"), key=lambda path: path.parent.name)
    return [{"size": path.stat().st_size} for path in files]


def test_analyze_runs_it(store: bt.Store) -> None:
    before = store.queries().to_pylist()
    plan = store.explain(symbols=["A", "C"], start=at(30), analyze=True)
    assert plan.analysis is not None
    assert (plan.analysis.rows, plan.analysis.rows_read) == (36_000, None)
    bars = store.explain(symbols="A", timeframe="1h", limit=3, order="desc", analyze=True).analysis
    assert bars is not None
    assert bars.rows == 3
    text = "select symbol, avg(price) from ticks where symbol in ('A', 'B') group by symbol order by symbol"
    found = store.explain(text, analyze=True).analysis
    assert found is not None
    assert (found.rows, found.rows_read) == (2, 39_600)
    assert found.bytes_read is not None
    assert 0 < found.bytes_read < sum(file["size"] for file in _files(store))
    assert found.row_groups_read == 3
    assert "read 39,600 rows" in str(store.explain(text, analyze=True))
    # measuring is no use of the store
    assert store.queries().to_pylist() == before


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("from ticks limit 5", 5),
        ("with x as (select 1 as n) select * from x union all select 2", 2),
        ("select count(*) from bars where timeframe = '2m'", 1),
        ("select * from ticks where false", 0),
        ("select * from frame", 3),
        ("describe ticks", 15),
        ("summarize ticks", 15),
    ],
)
def test_analyzed_statements(store: bt.Store, text: str, rows: int) -> None:
    frame = {"frame": store.ticks("C", limit=3).to_arrow()}
    plan = store.explain(text, tables=frame, analyze=True)
    assert plan.analysis is not None
    assert plan.analysis.rows == rows == len(store.sql(text, tables=frame))


def test_analyze_measures_by_the_clock(store: bt.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._runs, "clock", Clock([7 * MS]))
    assert store.explain(symbols="A", analyze=True).analysis.ms == 7  # type: ignore[union-attr]
    monkeypatch.setattr(store._runs, "clock", Clock([8 * MS]))
    assert store.explain("select 1", analyze=True).analysis.ms == 8  # type: ignore[union-attr]


def test_all_of_it_is_in_the_json(store: bt.Store) -> None:
    store.ticks("A", limit=1, columns=["price"])
    plan = store.ticks("A", limit=1, columns=["price"]).explain()
    told = json.loads(plan.to_json())
    assert told["measured"]["runs"] == 2
    assert told["measured"]["rows"] == 1
    assert told["estimate"]["rows"] == 1
    assert told["estimate"]["runs"] == 2
    assert told["analysis"] is None
    analyzed = json.loads(store.explain("select 1", analyze=True).to_json())["analysis"]
    assert analyzed.keys() == {"ms", "rows", "rows_read", "bytes_read", "row_groups_read"}
