"""A data file's entry in the log's index, gathered while the file is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import index_runs
from backtestr.storage.commit import INDEX, LAST_ROW
from backtestr.storage.encode import KEYS
from backtestr.storage.groups import Groups, groups_of_runs
from backtestr.storage.layout import TICKS

_COUNTS = ("rows", "trades", "bids", "asks", "composites")


@dataclass(slots=True)
class Entry:
    """Where each symbol's rows are in a file, so far."""

    table: str
    rows: int = 0
    groups: int = 0
    _index: dict[str, list[Any]] = field(default_factory=dict)
    _last: list[pa.Table] = field(default_factory=list)

    @property
    def times(self) -> tuple[int, int]:
        """The first and last instant, in ns."""
        return min(self._index["min_ns"]), max(self._index["max_ns"])

    def add(self, rows: pa.Table, groups: Groups) -> None:
        """Take rows in that were written behind those before; a run may go on from them."""
        keys = KEYS[self.table]
        runs = index_runs(rows, keys)
        columns = {name: runs[name].to_pylist() for name in runs.column_names}
        firsts = _take(rows.select(keys), runs["first_row"].to_numpy())
        columns |= {key: firsts[key].cast(pa.string()).to_pylist() for key in keys}
        first_group, count = groups_of_runs(runs["first_row"].to_numpy(), runs["rows"].to_numpy(), groups)
        columns["first_group"] = [self.groups + group for group in first_group]
        columns["groups"] = count
        columns["first_row"] = [self.rows + row for row in columns["first_row"]]
        last = None
        if self.table == TICKS:
            ends = runs["first_row"].to_numpy() + runs["rows"].to_numpy() - 1
            last = _take(rows.select([name for name in rows.column_names if name in LAST_ROW.names]), ends)
        if self._index and all(self._index[key][-1] == columns[key][0] for key in keys):
            self._join(columns)
            if self._last:
                self._last[-1] = self._last[-1].slice(0, self._last[-1].num_rows - 1)
        for name, values in columns.items():
            self._index.setdefault(name, []).extend(values)
        if last is not None:
            self._last.append(last)
        self.rows += rows.num_rows
        self.groups += len(groups)

    def _join(self, columns: dict[str, list[Any]]) -> None:
        """Make the last run and the first of ``columns`` one, in ``columns``."""
        before = {name: values.pop() for name, values in self._index.items()}
        for name in (*_COUNTS, "groups"):
            columns[name][0] += before[name]
        for name in ("first_row", "first_group"):
            columns[name][0] = before[name]
        for name in ("min_ns", "min_sequence"):
            columns[name][0] = min(columns[name][0], before[name])
        for name in ("max_ns", "max_sequence"):
            columns[name][0] = max(columns[name][0], before[name])

    def lines(self, file_id: str) -> pa.Table:
        """All of it as rows of `INDEX`."""
        runs = len(self._index["rows"])
        made = self._index | {"file_id": [file_id] * runs, "last": _last_rows(self._last, runs)}
        columns = [
            value
            if isinstance(value := made.get(column.name, [None] * runs), pa.Array)
            else pa.array(value, column.type)
            for column in INDEX
        ]
        return pa.Table.from_arrays(columns, schema=INDEX)


def _take(rows: pa.Table, ascending: npt.NDArray[np.int64]) -> pa.Table:
    """Some rows. `pyarrow.Table.take` would make one chunk of all rows first."""
    parts, first = [], 0
    for batch in rows.to_batches():
        begun, ended = np.searchsorted(ascending, (first, first + batch.num_rows))
        parts.append(batch.take(pa.array(ascending[begun:ended] - first)))
        first += batch.num_rows
    return pa.Table.from_batches(parts, rows.schema)


def _last_rows(parts: Sequence[pa.Table], runs: int) -> pa.Array:
    if not parts:
        return pa.nulls(runs, INDEX.field("last").type)
    rows = pa.concat_tables(parts)
    columns = [
        rows[column.name].cast(column.type).combine_chunks()
        if column.name in rows.column_names
        else pa.nulls(runs, column.type)
        for column in LAST_ROW
    ]
    return pa.StructArray.from_arrays(columns, fields=list(LAST_ROW))
