"""Rows of relational tables (orders, fills, runs …): into the log, and from there to files."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import ArgumentError
from backtestr.ingest.conform import Conformer, ConformError
from backtestr.models import TableReport
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.live import Live
from backtestr.storage.snapshot import Version
from backtestr.storage.tables import KEYS, LSN, LSN_FIELD, Column, check_table, columns_of, newest
from backtestr.storage.write import Written, write_plain

_BYTES_PER_ROW = 64


class TableRows:
    """Rows that are to replace those of the same keys in a table, brought to its columns.

    Raises:
        ArgumentError: no such table or column, a key that is missing, or a value that its column does not hold.
    """

    def __init__(self, data: Any, table: str) -> None:
        check_table(table)
        self._table = table
        self._given = _columns(data, table)
        self._columns: pa.Table | None = None
        self._rows = self._given
        self._rounded: dict[str, int] = {}

    def submit(self, storage: Storage, batch_id: str | None) -> TableReport:
        """Submit the rows to the log; whoever calls holds the turn of appends, and waits for the LSN."""
        version = storage.journal.ahead
        batch = None if batch_id is None else (0, f"{self._table}/{batch_id}")
        known = None if batch is None else version.batches.lsn_of(batch)
        if known is not None:
            return TableReport(table=self._table, rows_in=self._given.num_rows, rows=0, lsn=known)
        self.fit(version)
        lsn = version.lsn
        if self._rows.num_rows or batch is not None:
            live = {self._table: self._rows} if self._rows.num_rows else {}
            note = {"table": self._table, "rows_in": self._given.num_rows}
            lsn = storage.journal.submit(Commit("append", live=live, batch=batch, note=note))
        return TableReport(
            table=self._table,
            rows_in=self._given.num_rows,
            rows=self._rows.num_rows,
            rounded=self._rounded,
            lsn=lsn,
        )

    def fit(self, version: Version) -> None:
        """Bring the rows to the columns of a version, unless they have been; the last of each key remains."""
        if self._columns is version.tables["data_columns"]:
            return
        self._columns = version.tables["data_columns"]
        columns = columns_of(self._table, self._columns)
        self._check_names([column.name for column in columns])
        conformer = Conformer()
        held = {column: self._conformed(column, conformer) for column in columns}
        given = {column: values for column, values in held.items() if values is not None}
        rows = pa.Table.from_arrays(list(given.values()), schema=pa.schema([column.held_as for column in given]))
        self._rows = newest(rows, self._table) if rows.num_rows else rows
        self._rounded = conformer.rounded

    def _conformed(self, column: Column, conformer: Conformer) -> pa.Array | None:
        """The values of a column; None where there are none."""
        what = f"append to {self._table}: column {column.name!r} ({column.type})"
        count = self._given.num_rows
        try:
            if column.name in self._given.column_names:
                values = conformer.conform(column.name, self._given[column.name], column.type)
            elif column.default is not None:
                default = conformer.conform(column.name, pa.chunked_array([[column.default]]), column.type)
                values = pa.repeat(default[0], count)
            else:
                values = None
        except ConformError as error:
            raise ArgumentError(f"{what}: {error}; nothing was added") from None
        if column.is_key and count and (values is None or values.null_count):
            where = "" if values is None else f", row {pc.index(values.is_null(), True).as_py()} has none"
            raise ArgumentError(f"{what} is part of the key, every row needs one{where}; nothing was added")
        return values

    def _check_names(self, names: Sequence[str]) -> None:
        for name in self._given.column_names:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(names)}"
                raise ArgumentError(f"append to {self._table}: no column {name!r}, {hint}; nothing was added")


def write_tables(storage: Storage, live: Live) -> Iterator[Written]:
    """Durable files of the live rows of relational tables, the newest of each key; to be committed."""
    month = dt.datetime.now(dt.UTC).date().isoformat()[:7]
    for table, rows in sorted(live.numbered().items()):
        if table not in KEYS:
            continue
        stored = newest(rows, table)
        ids = [LSN_FIELD if name == LSN else int(name) for name in stored.column_names]
        fields = [f.with_metadata({"PARQUET:field_id": str(n)}) for f, n in zip(stored.schema, ids, strict=True)]
        stored = stored.cast(pa.schema(fields))
        most = storage.settings.max_file_bytes // _BYTES_PER_ROW
        for first in range(0, stored.num_rows, most):
            yield write_plain(storage.layout, table, month, stored.slice(first, most), folder=f"tables/{table}")


def _columns(data: Any, table: str) -> pa.Table:
    """What was given, as columns: Arrow data, columns by name, or rows as mappings.

    Raises:
        ArgumentError: none of these, or columns of several types or lengths.
    """
    what = f"append to {table}"
    try:
        if isinstance(data, (list, tuple)) and all(isinstance(row, Mapping) for row in data):
            names = dict.fromkeys(name for row in data for name in row)
            data = {name: [row.get(name) for row in data] for name in names}
        if isinstance(data, Mapping):
            rows = pa.table({str(name): _array(values) for name, values in data.items()})
        elif hasattr(data, "__arrow_c_stream__"):
            rows = pa.RecordBatchReader.from_stream(data).read_all()
        elif hasattr(data, "__arrow_c_array__"):
            rows = pa.Table.from_batches([pa.record_batch(data)])
        else:
            raise ArgumentError(f"{what}: give Arrow data, columns by name or rows by name, not {type(data).__name__}")
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{what}: no columns of one type and length each ({error})") from None
    if len(set(rows.column_names)) < rows.num_columns:
        raise ArgumentError(f"{what}: two columns have one name")
    return rows


def _array(values: Any) -> Any:
    if isinstance(values, (list, tuple)):
        return pa.array([str(value) if isinstance(value, UUID) else value for value in values])
    return values
