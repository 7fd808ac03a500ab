"""Parameters of every kind compare right with the store's columns."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError

AT = dt.datetime(2024, 1, 2, 14, 30)
EAST = dt.timezone(dt.timedelta(hours=9))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with bt.open(tmp_path_factory.mktemp("values") / "store") as opened:
        opened.ingest(pa.table({"symbol": ["A"], "timestamp_utc": [AT], "price": ["1.5"], "volume": ["2"]}), feed="f")
        yield opened


@pytest.mark.parametrize(
    "value",
    [
        AT,
        AT.replace(tzinfo=dt.UTC),
        AT.replace(tzinfo=dt.UTC).astimezone(EAST),
        np.datetime64(AT),
        np.datetime64("2024-01-02T14:30", "ns"),
        np.datetime64("2024-01-02T14:30", "m"),
        pd.Timestamp(AT),
        pd.Timestamp(AT, tz="UTC").tz_convert("America/New_York"),
        pa.scalar(AT, pa.timestamp("us", "UTC")),
        "2024-01-02 14:30:00",
    ],
    ids=repr,
)
def test_instants_are_utc(store: bt.Store, value: Any) -> None:
    for params, mark in (([value], "?"), ({"at": value}, "$at")):
        assert store.sql(f"select * from ticks where timestamp_utc = {mark}", params).num_rows == 1
        assert store.sql(f"select * from ticks where timestamp_utc < {mark}", params).num_rows == 0
    assert store.sql("select * from ticks where timestamp_utc in (?)", [value]).num_rows == 1


@pytest.mark.parametrize(
    "value", [Decimal("1.5"), Decimal("1.50000000"), 1.5, np.float64(1.5), np.float32(1.5)], ids=repr
)
def test_numbers_compare_by_value(store: bt.Store, value: Any) -> None:
    assert store.sql("select * from ticks where price = ?", [value]).num_rows == 1


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2), Decimal(2), pa.scalar(2)], ids=repr)
def test_whole_numbers_compare_by_value(store: bt.Store, value: Any) -> None:
    assert store.sql("select * from ticks where volume = ?", [value]).num_rows == 1


def test_days_texts_and_lists(store: bt.Store) -> None:
    assert store.sql("select * from ticks where timestamp_utc > ?", [dt.date(2024, 1, 2)]).num_rows == 1
    assert store.sql("select * from ticks where timestamp_utc::date = ?", [np.datetime64("2024-01-02")]).num_rows == 1
    assert store.sql("select * from ticks where symbol = ?", [np.str_("A")]).num_rows == 1
    assert store.sql("select * from ticks where symbol in ?", [np.array(["A", "B"])]).num_rows == 1
    assert store.sql("select * from ticks where symbol in ?", [("A", "B")]).num_rows == 1
    assert store.sql("select ? is null and ? is null", [np.datetime64("NaT"), pd.NaT]).to_arrow()[0].to_pylist() == [
        True
    ]


@pytest.mark.parametrize("params", ["A", b"A", 1, {"A"}])
def test_params_are_a_list_or_a_mapping(store: bt.Store, params: Any) -> None:
    with pytest.raises(ArgumentError):
        store.sql("select * from ticks where symbol = ?", params)
