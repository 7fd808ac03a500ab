"""Every way to write an instant."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtestr.errors import ArgumentError
from backtestr.instants import END_NS, MIN_NS, range_ns, to_datetime, to_iso, to_ns

NEW_YORK = ZoneInfo("America/New_York")
HOUR = 3600 * 10**9


@given(st.integers(MIN_NS, END_NS - 1))
def test_iso_and_numpy_read_back(ns: int) -> None:
    assert to_ns(to_iso(ns)) == ns
    assert to_ns(np.datetime64(ns, "ns")) == ns
    assert to_ns(to_datetime(ns)) == ns // 1000 * 1000
    assert to_ns(np.int64(ns)) == ns


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"])
@pytest.mark.parametrize("day", ["1969-12-25", "1970-01-01", "2024-02-29"])
def test_numpy_units(unit: str, day: str) -> None:
    value = np.datetime64(day, "D").astype(f"datetime64[{unit}]")
    assert to_ns(value) == int(value.astype("datetime64[ns]").astype(np.int64))


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (dt.date(1970, 1, 2), 24 * HOUR),
        (dt.datetime(1970, 1, 1, 1), HOUR),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.UTC), HOUR),
        (dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), -1000),
        ("1970-01-01", 0),
        ("1970-01-01T01:00", HOUR),
        ("1970-01-01 01:00:00Z", HOUR),
        ("1970-01-01T01:00:00,000000001", HOUR + 1),
        ("1970-01-01T01:00:00.0000000010+01:00", 1),
        ("19700101T010000.5", HOUR + 5 * 10**8),
        (" 1678-01-01 ", MIN_NS),
        ("2261-12-31T23:59:59.999999999Z", END_NS - 1),
        (-1, -1),
    ],
)
def test_written_instants(value: Any, ns: int) -> None:
    assert to_ns(value) == ns


def test_the_hour_that_comes_twice_is_told_by_its_fold() -> None:
    first = dt.datetime(2024, 11, 3, 1, 30, tzinfo=NEW_YORK)
    assert to_ns(first.replace(fold=1)) - to_ns(first) == HOUR
    assert to_ns(first) == to_ns("2024-11-03T05:30Z")


def test_pandas_keeps_its_nanoseconds() -> None:
    pd = pytest.importorskip("pandas")
    assert to_ns(pd.Timestamp("2024-01-02T00:00:00.123456789", tz="Asia/Tokyo")) % 10**9 == 123_456_789
    assert to_ns(pd.Timestamp("1969-12-31T23:59:59.999999999")) == -1
    with pytest.raises(ArgumentError, match="point in time"):
        to_ns(pd.NaT)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1.5, "", "yesterday", "1677-12-31", "2262-01-01", END_NS, MIN_NS - 1, dt.time(1), dt.timedelta(1),
        "1970-01-01T00:00:00.0000000001", np.datetime64("NaT"), np.datetime64(1, "ps"), np.float64(1), b"1970-01-01",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_instant_names_its_argument(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^start="):
        to_ns(value, argument="start")


def test_ranges_are_half_open_and_forward() -> None:
    assert range_ns(None, "2262-01-01") == (None, END_NS)
    with pytest.raises(ArgumentError, match="not before end"):
        range_ns("2024-01-02", "2024-01-02")
