"""All eleven timeframes from ten million trades, beside polars in the same run."""

from __future__ import annotations

import statistics
import time

import polars as pl
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr import _native
from peers import SECONDS, polars_cascade
from ticks import trades

ROWS = 10_000_000
SETS = {
    "4 symbols, 5 days, by symbol": {"symbols": 4, "days": 5},
    "1000 symbols interleaved, 5 days": {"symbols": 1000, "days": 5, "interleaved": True},
    "1000 symbols interleaved, 1 day": {"symbols": 1000, "days": 1, "interleaved": True},
    "1000 symbols interleaved, 10 minutes": {
        "symbols": 1000, "days": 1, "interleaved": True, "session_us": 600_000_000,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SETS, ids=str)
def ticks(request: pytest.FixtureRequest) -> pa.Table:
    assert _native.BUILD_PROFILE == "release", "build with: maturin develop --release"
    return trades(ROWS, **SETS[request.param])


def check(bars: pa.Table, made: list[pl.DataFrame], rows: int) -> None:
    assert bars.num_rows == sum(frame.height for frame in made)
    daily = pl.from_arrow(bars.filter(pa.compute.equal(bars["timeframe"].cast(pa.string()), "1d")))
    assert daily["trade_count"].sum() == rows
    peer = made[-1].sort("symbol")
    for name, column in {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "turnover": "pv"}.items():
        ratio = daily[name].cast(pl.Float64) / peer[column]
        assert (ratio - 1).abs().max() < 1e-9, name


def test_all_timeframes(benchmark, ticks: pa.Table) -> None:
    bars = benchmark.pedantic(bt.aggregate_bars, (ticks, list(SECONDS)), rounds=7, warmup_rounds=2)
    peer = polars_cascade(ticks)
    peer_s = []
    for _ in range(3):
        started = time.perf_counter()
        made = peer()
        peer_s.append(time.perf_counter() - started)
    check(bars, made, ticks.num_rows)
    own = ticks.num_rows / benchmark.stats.stats.median
    ratio = statistics.median(peer_s) / benchmark.stats.stats.median
    benchmark.extra_info |= {"ticks_per_s": own, "bars": bars.num_rows, "ratio_to_polars": ratio}
    print(f"\n{own / 1e6:.0f} M ticks/s (median), {bars.num_rows} bars, {ratio:.1f} x polars cascade")


def test_stream(benchmark, ticks: pa.Table) -> None:
    batches = ticks.to_batches(max_chunksize=65_536)

    def run() -> int:
        aggregator = bt.BarAggregator(list(SECONDS))
        return sum(aggregator.update(batch).num_rows for batch in batches) + aggregator.finish().num_rows

    bars = benchmark.pedantic(run, rounds=3)
    assert bars == bt.aggregate_bars(ticks, list(SECONDS)).num_rows
    print(f"\nin batches of 65,536: {ticks.num_rows / benchmark.stats.stats.median / 1e6:.0f} M ticks/s (median)")
