"""limit= and order= of ticks and bars: the first or last rows of each symbol of the whole answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import backtestr as bt
from backtestr.errors import ArgumentError
from tests.query.ticks import ticks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bt.Store]:
    rng = random.Random(5)
    with bt.open(tmp_path_factory.mktemp("cut") / "store", day_interval_bytes="2KiB", flush_rows=10**9) as opened:
        for _ in range(2):
            for symbol in ("B", "A"):
                opened.ingest(ticks(rng, symbol, 300), feed=f"f {symbol}")
        opened.append(ticks(rng, "A", 20), feed="f A")
        yield opened


def by_hand(rows: list[dict[str, Any]], limit: int | None, order: str) -> list[dict[str, Any]]:
    found = []
    for symbol in sorted({row["symbol"] for row in rows}):
        mine = [row for row in rows if row["symbol"] == symbol]
        found += (mine[::-1] if order == "desc" else mine)[:limit]
    return found


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [None, 0, 1, 7, 250, 10_000])
@pytest.mark.parametrize("window", [(None, None), ("2024-01-01", None), ("2023-12-31T05:00:00.5", "2024-01-04T11:13")])
def test_rows_are_those_of_the_whole_answer(
    store: bt.Store, window: tuple[str | None, str | None], limit: int | None, order: str
) -> None:
    start, end = window
    whole = store.ticks(start=start, end=end).to_pylist()
    assert len(whole) > 300
    found = store.ticks(["B", "A"], start=start, end=end, limit=limit, order=order)
    assert found.to_pylist() == by_hand(whole, limit, order)
    narrow = store.ticks(start=start, end=end, columns=["price", "timestamp_utc"], limit=limit, order=order)
    assert narrow.columns == ["price", "timestamp_utc"]
    assert narrow.to_pylist() == found.to_arrow().select(["price", "timestamp_utc"]).to_pylist()
    for timeframe in ("5m", "1d", "20s", "3d"):
        bars = store.bars(None, timeframe, start=start, end=end).to_pylist()
        cut = store.bars(None, timeframe, start=start, end=end, limit=limit, order=order)
        assert cut.to_pylist() == by_hand(bars, limit, order), timeframe


def test_what_is_no_limit_or_order_is_refused(store: bt.Store) -> None:
    for limit in (-1, 1.5, True, "3"):
        with pytest.raises(ArgumentError, match="limit="):
            store.ticks("A", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="order='up'"):
        store.bars("A", "1m", order="up")  # type: ignore[arg-type]


def test_the_last_ticks_are_read_from_few_row_groups(tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = 400_000
    data = {
        "symbol": ["A"] * rows,
        "timestamp_utc": [1_700_000_000_000_000_000 + at * 10**9 for at in range(rows)],
        "price": [1] * rows,
        "volume": [1] * rows,
    }
    with bt.open(tmp_path_factory.mktemp("last") / "store") as opened:
        opened.ingest(data, feed="f")
        last = opened.ticks("A", limit=100, order="desc").to_pylist()
        assert [row["sequence"] for row in last] == list(range(rows - 1, rows - 101, -1))
        assert opened.cache_stats()["hot"].groups <= 2
