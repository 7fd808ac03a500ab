"""Bars are complete however a load falls apart: days of their own amid months, rows spilled or not, long bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import backtestr as bt

DAY_MS = 86_400_000


def trades(symbol: str, days: dict[int, int]) -> pa.Table:
    """So many trades of each day, spread over it."""
    at = np.concatenate([day * DAY_MS + np.arange(rows) * (DAY_MS // rows) for day, rows in days.items()])
    return pa.table(
        {
            "symbol": [symbol] * len(at),
            "timestamp_utc": pa.array(at, pa.timestamp("ms")),
            "price": [f"{100 + row % 7}.{row % 100:02d}" for row in range(len(at))],
            "volume": ["1"] * len(at),
        }
    )


@pytest.mark.parametrize("timeframes", ["1m 1d", "1h 7d"])
@pytest.mark.parametrize("settings", [{}, {"sort_memory_bytes": 100_000}])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_month_goes_on_behind_a_day_of_its_own(
    tmp_path: Path, timeframes: str, settings: dict[str, Any], has_old: bool
) -> None:
    old, new = trades("OLD", {2: 50, 10: 50, 20: 50}), trades("NEW", {1: 50, 10: 9_000, 20: 50, 70: 50})
    with bt.open(
        tmp_path, materialized_timeframes=timeframes, day_interval_bytes=20_000, max_file_bytes=50_000, **settings
    ) as store:
        if has_old:
            store.ingest(old.slice(0, 20), feed="f")
        store.ingest(pa.concat_tables([new.slice(5), old, new.slice(0, 5)]), feed="f")
        for timeframe in timeframes.split():
            for symbol in ("NEW", "OLD"):
                ticks = store.ticks(symbol).to_arrow()
                wanted = bt.aggregate_bars(ticks, [timeframe]).to_pylist()
                assert store.bars(symbol, timeframe).to_pylist() == wanted
                asked = store.sql(
                    "select count(*) n, sum(trade_count) c from bars where symbol = ? and timeframe = ?",
                    [symbol, timeframe],
                )
                assert asked.to_pylist() == [{"n": len(wanted), "c": ticks.num_rows}]
