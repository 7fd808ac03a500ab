"""Closing a store that other threads use."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import StoreClosedError


def trades(first: int, rows: int) -> pa.Table:
    at = [second * 10**9 for second in range(first, first + rows)]
    return pa.table(
        {
            "symbol": ["A"] * rows,
            "timestamp_utc": pa.array(at, pa.timestamp("ns")),
            "price": ["1.5"] * rows,
            "volume": ["2"] * rows,
        }
    )


def test_a_load_under_way_is_committed_first_and_the_lock_let_go(tmp_path: Path) -> None:
    store = bt.open(tmp_path / "store")
    began, closing = threading.Event(), threading.Event()
    reports = []

    def progress(*_: object) -> None:
        began.set()
        closing.wait(5)

    def load() -> None:
        reports.append(store.ingest(trades(0, 10), feed="f", progress=progress))

    loader = threading.Thread(target=load)
    loader.start()
    began.wait(5)
    closer = threading.Thread(target=store.close)
    closer.start()
    closing.set()
    loader.join()
    closer.join()
    with bt.open(tmp_path / "store") as other:
        assert other.ticks("A").num_rows == reports[0].accepted == 10
        assert other.ingest(trades(10, 1), feed="f").accepted == 1


def test_a_load_that_closes_its_store_writes_nothing(tmp_path: Path) -> None:
    store = bt.open(tmp_path / "store")
    with pytest.raises(StoreClosedError):
        store.ingest(trades(0, 10), feed="f", progress=lambda *_: store.close())
    with bt.open(tmp_path / "store") as other:
        assert other.symbols() == []
        other.ingest(trades(0, 1), feed="f")


def test_statements_end_with_the_store(tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        store.ingest(trades(0, 1000), feed="f")
    wrong: list[BaseException] = []

    def read(store: bt.Store, text: str) -> None:
        try:
            while True:
                store.sql(text)
        except StoreClosedError:
            pass
        except BaseException as error:
            wrong.append(error)

    for pause in (0.0, 0.01, 0.03, 0.1, 0.2):
        store = bt.open(tmp_path / "store")
        texts = ["select count(*) from ticks", "select count(*) from bars where timeframe = '20s'"]
        threads = [threading.Thread(target=read, args=(store, text)) for text in texts]
        for thread in threads:
            thread.start()
        threads[0].join(pause)
        store.close()
        for thread in threads:
            thread.join()
    assert wrong == []
