"""What a user would write instead."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow as pa

SECONDS = {"1s": 1, "5s": 5, "15s": 15, "30s": 30, "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600}
SECONDS |= {"4h": 14_400, "1d": 86_400}


def polars_cascade(ticks: pa.Table) -> Callable[[], list[pl.DataFrame]]:
    """A hand-written cascade in floats, each timeframe from the next finer one, on all threads."""
    frame = pl.from_arrow(ticks)
    frame = frame.with_columns(pl.col("price", "volume").cast(pl.Float64)).sort("symbol", "timestamp_utc")

    def run() -> list[pl.DataFrame]:
        made: list[pl.DataFrame] = []
        for label, seconds in SECONDS.items():
            every = "1d" if label == "1d" else f"{seconds}s"
            if made:
                grouped = made[-1].group_by_dynamic("timestamp_utc", every=every, group_by="symbol")
                bars = grouped.agg(
                    pl.col("o").first(), pl.col("h").max(), pl.col("l").min(), pl.col("c").last(),
                    pl.col("v").sum(), pl.col("pv").sum(), pl.col("n").sum(),
                )  # fmt: skip
            else:
                grouped = frame.group_by_dynamic("timestamp_utc", every=every, group_by="symbol")
                price = pl.col("price")
                bars = grouped.agg(
                    o=price.first(), h=price.max(), l=price.min(), c=price.last(),
                    v=pl.col("volume").sum(), pv=(price * pl.col("volume")).sum(), n=pl.len(),
                )  # fmt: skip
            made.append(bars)
        return made

    return run
