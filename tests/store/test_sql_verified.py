"""Files that SQL reads are verified first."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import DataCorruptError, SQLError


@pytest.mark.parametrize("table", ["ticks", "bars"])
@pytest.mark.parametrize("place", [0, 100, 0.5, -200, -9, -1])
def test_a_flipped_bit_is_refused(tmp_path: Path, table: str, place: float) -> None:
    rows = {"symbol": ["A"] * 500, "timestamp_utc": [n * 10**9 for n in range(500)], "price": ["1.5"] * 500}
    with bt.open(tmp_path / "s") as store:
        store.ingest(pa.table({**rows, "volume": ["2"] * 500}), feed="f")
        (path, *_) = sorted((tmp_path / "s" / "data" / table).rglob("*.parquet"))
        damaged = bytearray(path.read_bytes())
        damaged[int(len(damaged) * place) if isinstance(place, float) else place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataCorruptError):
            store.sql(f"select count(*) from {table}", route=False)
        other = {"ticks": "bars", "bars": "ticks"}[table]
        assert store.sql(f"select count(*) from {other}", route=False).num_rows == 1
    # the engine's own complaint is fine here, DataCorruptError is not
    with bt.open(tmp_path / "s", verify="never") as trusting, contextlib.suppress(SQLError):
        trusting.sql(f"select count(*) from {table}")


def test_a_damaged_file_of_an_empty_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s" / "data" / "empty" / "orders.parquet"
    with bt.open(tmp_path / "s") as store:
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(DataCorruptError, match=r"orders\.parquet.*repair"):
            store.sql("select count(*) from orders")
        store.repair()
        assert store.sql("select count(*) as n from orders").to_pylist() == [{"n": 0}]
