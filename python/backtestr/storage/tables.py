"""Tables by their columns; relational ones, whose rows are replaced by key: the newest row of a key holds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from backtestr.errors import ArgumentError

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

KEYS: Final[Mapping[str, Mapping[str, int]]] = {
    "positions": {"position_id": 1},
    "orders": {"order_id": 1},
    "fills": {"fill_id": 1},
    "backtests": {"backtest_id": 1},
    "backtest_metrics": {"backtest_id": 1},
    "daily_performance": {"backtest_id": 1, "date": 2},
}
"""The columns of each table's key, with their field ids; no migration renames or drops them."""

LSN: Final = "_lsn"
LSN_FIELD: Final = 1_000_000
"""Name and field id of the column by which files say which commit brought a row."""

_TEXT_KINDS: Final = {"varchar", "uuid", "enum", "interval"}
"""Types that files and the log hold as text: Parquet writers know no enumerations and no exact intervals."""


class Column(NamedTuple):
    """A column of a table, as ``data_columns`` has it."""

    field_id: int
    name: str
    type: str
    default: str | None
    is_key: bool

    @property
    def held_as(self) -> pa.Field:
        """The field in the log and, named by its id, in files: a rename between must not part them."""
        return pa.field(str(self.field_id), held_type(self.type))


def check_table(table: str) -> None:
    """Refuse what is no relational table.

    Raises:
        ArgumentError: it is none.
    """
    if table not in KEYS:
        raise ArgumentError(f"{table!r} is no relational table; there are {', '.join(KEYS)}")


def live_columns(table: str, data_columns: pa.Table) -> list[dict[str, Any]]:
    """A table's rows of ``data_columns`` by field id, those of dropped columns aside."""
    live = [row for row in data_columns.to_pylist() if row["table_name"] == table and row["dropped_lsn"] is None]
    return sorted(live, key=lambda row: row["field_id"])


def columns_of(table: str, data_columns: pa.Table) -> list[Column]:
    """The columns of a relational table in a version's rows of ``data_columns``."""
    return [
        Column(row["field_id"], row["name"], row["type"], row["default"], row["name"] in KEYS[table])
        for row in live_columns(table, data_columns)
    ]


def newest(rows: pa.Table, table: str) -> pa.Table:
    """Of rows named by field ids the last of each key, in the order they came."""
    names = [str(number) for number in KEYS[table].values()]
    keys = rows.select(names).append_column("place", pa.array(np.arange(rows.num_rows)))
    last = keys.group_by(names).aggregate([("place", "max")])["place_max"]
    return rows if len(last) == rows.num_rows else rows.take(np.sort(last.to_numpy()))


@lru_cache(maxsize=1024)
def sql_type(text: str) -> DuckDBPyType:
    """A type by its SQL."""
    import duckdb

    return duckdb.sqltype(text)


@lru_cache(maxsize=1024)
def held_type(text: str) -> pa.DataType:
    """The Arrow type in which files and the log hold a type given by its SQL."""
    return _held(sql_type(text), text)


def _held(kind: DuckDBPyType, text: str) -> pa.DataType:
    if kind.id in _TEXT_KINDS:
        return pa.string()
    if kind.id == "struct":
        return pa.struct([pa.field(name, held_type(str(child))) for name, child in kind.children])
    if kind.id == "list":
        return pa.list_(held_type(str(kind.children[0][1])))
    import duckdb

    with duckdb.connect() as connection:
        return connection.sql(f"select null::{text} as value").to_arrow_table().schema.field(0).type
