"""Frames: the same rows in every library, decimals exact unless floats are asked for."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtestr.errors import ArgumentError
from backtestr.query.frame import Frame

FIXED = pa.decimal128(18, 8)
NS = pa.timestamp("ns", tz="UTC")
TEXT = pa.dictionary(pa.int32(), pa.string())


def frame() -> Frame:
    return Frame(
        pa.table(
            {
                "symbol": pa.array(["A", "B", None]).cast(TEXT),
                "timestamp_utc": pa.array([0, 1_500_000_001, None], NS),
                "price": pa.array([Decimal("1.5"), Decimal("-0.00000001"), None], FIXED),
                "count": pa.array([1, 2, 3], pa.int64()),
                "turnover": pa.array([Decimal("99999999999999999999.5"), Decimal(0), None], pa.decimal128(38, 16)),
            }
        )
    )


def test_arrow_and_polars_are_exact_by_default() -> None:
    assert frame().to_arrow().schema.field("price").type == FIXED
    made = frame().to_polars()
    assert made["price"].to_list() == [Decimal("1.50000000"), Decimal("-1E-8"), None]
    assert made["symbol"].to_list() == ["A", "B", None]
    assert frame().lazy().select(pl.len()).collect().item() == 3
    assert frame().to_polars(price_type="float")["price"].to_list() == [1.5, -1e-8, None]


def test_pandas_and_numpy_are_floats_by_default() -> None:
    made = frame().to_pandas()
    assert made["price"].dtype == np.float64
    assert made["timestamp_utc"][1] == pd.Timestamp("1970-01-01 00:00:01.500000001", tz="UTC")
    assert frame().to_pandas(price_type="decimal")["price"][0] == Decimal("1.5")
    arrays = frame().to_numpy()
    assert arrays["price"].dtype == np.float64
    assert arrays["timestamp_utc"].dtype == np.dtype("datetime64[ns]")
    assert arrays["timestamp_utc"].astype("int64")[:2].tolist() == [0, 1_500_000_001]
    assert np.isnat(arrays["timestamp_utc"][2])
    assert arrays["symbol"].tolist() == ["A", "B", None]


def test_fixed_gives_the_integers_themselves() -> None:
    fixed = Frame(frame().to_arrow().select(["price", "count"])).to_arrow(price_type="fixed")
    assert fixed["price"].to_pylist() == [150_000_000, -1, None]
    assert fixed["price"].type == pa.int64()
    with pytest.raises(ArgumentError, match="turnover does not fit in 64 bits"):
        frame().to_arrow(price_type="fixed")
    with pytest.raises(ArgumentError, match="'decimal', 'float' or 'fixed'"):
        frame().to_arrow(price_type="double")


@given(st.lists(st.none() | st.integers(-(10**18) + 1, 10**18 - 1), max_size=30), st.data())
def test_fixed_of_any_slice_and_chunks(units: list[int | None], data: st.DataObject) -> None:
    values = pa.array([None if u is None else Decimal(u).scaleb(-8) for u in units], FIXED)
    cut = data.draw(st.integers(0, len(units)))
    column = pa.chunked_array([values.slice(0, cut), values.slice(cut)], FIXED)
    assert Frame(pa.table({"price": column})).to_arrow(price_type="fixed")["price"].to_pylist() == units


def test_other_libraries_take_frames_as_they_are() -> None:
    made = frame()
    assert pa.table(made).num_rows == 3
    assert pl.from_arrow(pa.table(made)).height == 3
    assert duckdb.from_arrow(pa.table(made)).fetchall()[0][0] == "A"
    assert pa.RecordBatchReader.from_stream(made).read_all().equals(made.to_arrow())


def test_shape_and_text() -> None:
    made = frame()
    assert (len(made), made.num_rows, made.columns[0]) == (3, 3, "symbol")
    text = repr(made)
    assert "1970-01-01T00:00:01.500000001Z  -0.00000001" in text
    assert text.endswith("[3 rows x 5 columns]")
    assert "<th>symbol</th>" in made._repr_html_()
    hostile = Frame(pa.table({"<b>": ["<script>"]}))
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;b&gt;" in hostile._repr_html_()


def test_empty_wide_and_repeated_columns() -> None:
    assert repr(Frame(pa.table({}))).endswith("[0 rows x 0 columns]")
    assert "[0 rows x 5 columns]" in repr(Frame(frame().to_arrow().slice(0, 0)))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert repr(Frame(twice)).splitlines()[1] == "1  2"
    assert "the first 10 shown" in repr(Frame(pa.table({"a": range(11)})))


def test_values_of_sql_types() -> None:
    made = Frame(
        pa.table(
            {
                "day": pa.array([dt.date(2024, 1, 2)]),
                "list": pa.array([["x", "y"]]),
                "flag": pa.array([True]),
                "micro": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 600_000)], pa.timestamp("us")),
                "double": pa.array([1e-9]),
            }
        )
    )
    assert repr(made).splitlines()[1].split() == ["2024-01-02", "x|y", "True", "2024-01-02T03:04:05.6", "1e-09"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_missing_library_is_named_with_its_install_line(library: str) -> None:
    code = (
        "import sys, pyarrow as pa\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == '{library}': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from backtestr.query.frame import Frame\n"
        f"try: Frame(pa.table({{'a': [1]}})).to_{library}()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "backtestr[{library}]"' in done.stdout
