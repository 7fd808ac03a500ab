"""Reads a source into plain Python rows, for comparison with slow independent readers."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from backtestr.sources import open_source

DAY_NS = 86_400_000_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def read(data: Any, **options: Any) -> pa.Table:
    """All rows of a source, ``timestamp_utc`` as int64 ns."""
    batches = [batch.columns for batch in open_source(data, **options).batches]
    if not batches:
        return pa.table({})
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    table = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    at = table.schema.get_field_index("timestamp_utc")
    return table.set_column(at, "timestamp_utc", table["timestamp_utc"].cast(pa.int64()))


def rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    """The named columns as rows; a decimal as `decimal.Decimal`."""
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def ns(moment: dt.datetime) -> int:
    """Nanoseconds since 1970 of an aware time, by integers."""
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1_000


def wall(text_date: str, zone: str | dt.tzinfo, ms: str) -> int:
    """The instant of ms since midnight on a wall clock."""
    exact = Decimal(ms) * 1_000_000
    whole = int(exact)
    assert whole == exact
    midnight = dt.datetime.strptime(text_date, "%Y%m%d")
    local = midnight + dt.timedelta(seconds=whole // 1_000_000_000)
    tz = ZoneInfo(zone) if isinstance(zone, str) else zone
    return ns(local.replace(tzinfo=tz).astimezone(dt.UTC)) + whole % 1_000_000_000


def faults(table: pa.Table) -> int:
    """Rows with a fault."""
    if "faults" not in table.column_names:
        return 0
    return int(pc.sum(pc.cast(pc.not_equal(pc.fill_null(table["faults"], 0), 0), pa.int64())).as_py())
