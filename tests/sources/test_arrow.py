"""Columns of any Arrow layout: the same rows, or a typed error; bad values go to quarantine."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError, BacktestrError, SourceStructureError
from tests.sources.reading import ns, read

GOOD = {"symbol": "A", "timestamp": "2024-01-02T14:30:00Z", "price": "1.5", "volume": "2"}
SECONDS = pa.timestamp("s")
BAD: list[tuple[str, list[Any], pa.DataType, str]] = [
    ("timestamp", ["2024-01-02", "2024-02-30T00:00:00"], pa.string(), "timestamp_missing"),
    ("timestamp", ["2024-01-02", "n/a"], pa.large_string(), "timestamp_missing"),
    ("timestamp", ["2024-01-02", "2024-01-02T00:00:00\n"], pa.string_view(), "timestamp_missing"),
    ("timestamp", ["2024-01-02", ""], pa.dictionary(pa.int8(), pa.string()), "timestamp_missing"),
    ("timestamp", ["2024-01-02", None], pa.string(), "timestamp_missing"),
    ("timestamp", ["2024-01-02", "1500-01-02"], pa.string(), "timestamp_out_of_range"),
    ("timestamp", [0, None], SECONDS, "timestamp_missing"),
    ("timestamp", [0, 10**13], SECONDS, "timestamp_out_of_range"),
    ("price", ["1", "x"], pa.string(), "not_a_number"),
    ("price", ["1", ""], pa.string(), "not_a_number"),
    ("price", ["1", "NaN"], pa.large_string(), "not_a_number"),
    ("price", ["1", "1e999"], pa.string_view(), "out_of_range"),
    ("price", ["1", "0.123456789"], pa.dictionary(pa.int32(), pa.string()), "inexact"),
    ("price", ["1", None], pa.string(), "price_missing"),
    ("price", [1.0, float("nan")], pa.float64(), "not_a_number"),
    ("price", [1.0, float("inf")], pa.float32(), "not_a_number"),
    ("price", [1.0, None], pa.float64(), "price_missing"),
    ("volume", ["1", "many"], pa.string(), "not_a_number"),
    ("volume", [1.0, float("nan")], pa.float64(), "not_a_number"),
    ("symbol", ["A", ""], pa.string(), "symbol_missing"),
    ("symbol", ["A", None], pa.string(), "symbol_missing"),
]


@pytest.mark.parametrize(
    ("name", "values", "kind", "reason"), BAD, ids=[f"{name}-{kind}-{values[1]!r}" for name, values, kind, _ in BAD]
)
def test_a_bad_value_goes_to_quarantine(
    name: str, values: list[Any], kind: pa.DataType, reason: str, tmp_path: Path
) -> None:
    table = pa.table({key: [value, value] for key, value in GOOD.items()} | {name: pa.array(values).cast(kind)})
    with bt.open(tmp_path / "store") as store:
        report = store.ingest(table, feed="f", max_rejected=0.5)
        assert (report.accepted, report.rejected) == (1, 1)
        (kept,) = store.quarantine().to_pylist()
    assert (kept["reasons"], kept["line"]) == ([reason], 2)
    # The raw text is the row as Python writes it.
    assert f"'{name}': " in kept["raw"]
    assert str(values[1]) in kept["raw"].encode().decode("unicode_escape")


def test_texts_of_time_are_read_as_in_files() -> None:
    times = ["2024-01-02T14:30:00", " 2024-01-02 14:30", "2024-01-02T14:30:00.5Z", "2024-01-02T15:30:00+01:00"]
    start = ns(dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC))
    table = pa.table({"symbol": ["A"] * 4, "timestamp": times, "price": [1] * 4})
    half = 500_000_000
    assert read(table)["timestamp_utc"].to_pylist() == [start, start, start + half, start]
    local = start + 5 * 3600 * 1_000_000_000
    assert read(table, timezone="America/New_York")["timestamp_utc"].to_pylist() == [local, local, start + half, start]


def test_texts_that_are_no_times_at_all_are_a_wrong_column() -> None:
    with pytest.raises(SourceStructureError, match="no ISO 8601 times"):
        read(pa.table({"symbol": ["A", "A"], "timestamp": ["02.01.2024", None], "price": [1, 1]}))


def ticks(**columns: pa.Array) -> pa.Table:
    return pa.table(
        {"symbol": ["A"] * 3, "timestamp": pa.array([0, 1, 2], SECONDS), "price": [1.5, 2.5, 3.5]} | columns
    )


def ends(stops: list[int], values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(stops, pa.int32()), values)


def misaligned(rows: pa.Table) -> pa.Table:
    """As read from a file whose buffers are aligned to 8 bytes only: decimals want 16."""
    units = np.frombuffer(rows["price"].combine_chunks().cast(pa.decimal128(18, 8)).buffers()[1], np.uint8)
    room = np.zeros(len(units) + 32, np.uint8)
    start = 8 - room.ctypes.data % 16 + 16
    room[start : start + len(units)] = units
    price = pa.Array.from_buffers(pa.decimal128(18, 8), rows.num_rows, [None, pa.py_buffer(room)[start:]])
    assert price.buffers()[1].address % 16 == 8
    return rows.set_column(rows.column_names.index("price"), "price", price)


LAYOUTS = {
    "misaligned": lambda: misaligned(ticks()),
    "sliced": lambda: pa.concat_tables([ticks(), ticks()]).combine_chunks().slice(3, 3),
    "chunked": lambda: pa.concat_tables([ticks().slice(0, 0), ticks().slice(0, 1), ticks().slice(1, 2)]),
    "run ends": lambda: ticks(
        symbol=ends([3], pa.array(["A"])),
        timestamp=ends([1, 2, 3], pa.array([0, 1, 2], SECONDS)),
        price=ends([1, 2, 3], pa.array([1.5, 2.5, 3.5])),
    ),
    "dictionaries": lambda: ticks(**{name: ticks()[name].dictionary_encode() for name in ticks().column_names}),
    "decimal256": lambda: ticks(price=pa.array(["1.5", "2.5", "3.5"]).cast(pa.decimal256(60, 12))),
    "categorical": lambda: pl.from_arrow(ticks()).with_columns(pl.col("symbol").cast(pl.Categorical)),
    "enum": lambda: pl.from_arrow(ticks()).with_columns(pl.col("symbol").cast(pl.Enum(["B", "A"]))),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(layout: str, tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        store.ingest(LAYOUTS[layout](), feed="f")
        found = store.ticks("A").to_arrow()
    assert found["timestamp_utc"].cast(pa.int64()).to_pylist() == [0, 10**9, 2 * 10**9]
    assert found["price"].to_pylist() == [1.5, 2.5, 3.5]


BROKEN = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"\xff\xfe\xfd")]
)
REFUSED = {
    "price twice": lambda: ticks().append_column("price", pa.array([9.0] * 3)),
    "timestamp twice": lambda: ticks().append_column("timestamp", pa.array([9] * 3)),
    "symbol twice": lambda: ticks().append_column("symbol", pa.array(["Z"] * 3)),
    "periods": lambda: ticks().to_pandas().assign(timestamp=pd.period_range("2024-01-02", periods=3, freq="D")),
    "seconds": lambda: ticks(timestamp=pa.array([1_700_000_000] * 3)),
    "no text": lambda: ticks(symbol=BROKEN),
    "objects of two kinds": lambda: pd.DataFrame({"symbol": "A", "timestamp": [0, 1], "price": [1.5, "x"]}),
    "columns of two lengths": lambda: {"symbol": ["A"], "timestamp": [0, 1], "price": [1.5]},
    "half floats": lambda: ticks(price=pa.array(np.array([1.5, 2.5, 0.1], np.float16))),
    "nested": lambda: ticks(price=pa.array([{"a": 1.5}] * 3)),
    "booleans": lambda: ticks(price=pa.array([True] * 3)),
    "times of day": lambda: ticks(timestamp=pa.array([0, 1, 2], pa.time32("s"))),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_could_be_misread_is_refused(layout: str, tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store:
        with pytest.raises(BacktestrError):
            store.ingest(REFUSED[layout](), feed="f", max_rejected=1)
        assert store.symbols() == []


@pytest.mark.parametrize(
    "options",
    [
        {"timezone": "Mars/X"}, {"timezone": 5}, {"symbol": 5}, {"columns": "price"}, {"max_rejected": "some"},
        {"max_rejected": -1}, {"rules": {}}, {"feed": ""}, {"feed": 3}, {"mode": "append"}, {"market": "usa"},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with bt.open(tmp_path / "store") as store, pytest.raises(ArgumentError):
        store.ingest(ticks(), **({"feed": "f"} | options))
