"""Default rules over ten million rows, output built, beside polars' vectorised checks in the same run."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr import _native
from ticks import decimals, trades

ROWS = 10_000_000


def quotes(rows: int) -> pa.Table:
    """Two-sided quotes with every column that quotes have."""
    made = trades(rows, symbols=4, days=5)
    cents = np.frombuffer(made["price"].chunk(0).buffers()[1], np.int64)[::2]
    sizes = np.frombuffer(made["volume"].chunk(0).buffers()[1], np.int64)[::2]
    columns = {
        "symbol": made["symbol"],
        "timestamp_utc": made["timestamp_utc"].cast(pa.timestamp("ns", "UTC")),
        "sequence": pa.array(np.arange(rows)),
        "tick_type": pa.array(np.full(rows, 3, np.int8)),
        "bid": decimals(cents),
        "ask": decimals(cents + 10**6),
        "bid_size": decimals(sizes),
        "ask_size": decimals(sizes[::-1].copy()),
    }
    return pa.table(columns)


def polars_checks(ticks: pa.Table) -> pl.DataFrame:
    """The same rules by hand, in floats: what passes, filtered out."""
    frame = pl.from_arrow(ticks)
    numbers = [name for name in ("price", "bid", "ask") if name in frame.columns]
    amounts = [name for name in ("volume", "bid_size", "ask_size") if name in frame.columns]
    good = pl.col("symbol").is_not_null() & (pl.col("symbol") != "") & pl.col("timestamp_utc").is_not_null()
    for name in numbers:
        good &= pl.col(name).is_not_null() & (pl.col(name) > 0)
    for name in amounts:
        good &= pl.col(name) >= 0
    frame = frame.with_columns(late=pl.col("timestamp_utc") < pl.col("timestamp_utc").shift(1).over("symbol"))
    return frame.filter(good)


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_validate(benchmark, kind: str) -> None:
    assert _native.BUILD_PROFILE == "release", "build with: maturin develop --release"
    ticks = trades(ROWS, symbols=4, days=5) if kind == "trades" else quotes(ROWS)
    accepted, rejected, counts = benchmark.pedantic(bt.validate_ticks, (ticks,), rounds=7, warmup_rounds=2)
    assert (accepted.num_rows, rejected.num_rows, counts) == (ROWS, 0, {})
    started = time.perf_counter()
    assert polars_checks(ticks).height == ROWS
    peer_s = time.perf_counter() - started
    own = ROWS / benchmark.stats.stats.median
    benchmark.extra_info |= {"ticks_per_s": own, "ratio_to_polars": peer_s * own / ROWS}
    print(f"\n{kind}: {own / 1e6:.0f} M ticks/s, {peer_s * own / ROWS:.1f} x polars checks by hand")
