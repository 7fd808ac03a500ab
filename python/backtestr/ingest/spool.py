"""Rows in any order → rows by interval, sorted, in bounded memory: external merge sort over Arrow IPC runs."""

from __future__ import annotations

import bisect
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import measure_layout, sort_ticks
from backtestr.schema import TICKS
from backtestr.storage.encode import ColumnLayout, merge_layouts
from backtestr.storage.keys import symbol_codes, times_ns
from backtestr.storage.layout import DAY_NS, intervals

_BATCH_ROWS = 16_384
_RUNS_PER_BUDGET = 3

Key = tuple[bytes, int]
Layouts = dict[str, ColumnLayout]
Columns = dict[str, pa.DataType]
_ABSENT: ColumnLayout = (False, True, 0, 0)


class Spool:
    """Collects rows, then hands them out interval by interval.

    Args:
        folder: where sort runs go when the rows outgrow ``max_bytes``.
        max_bytes: rows kept in memory.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[_Run] = []
        self._day_counts: dict[int, int] = {}
        self._columns: dict[str, pa.DataType] = {}
        self.rows = 0

    def add(self, rows: pa.Table, days: Iterable[tuple[int, int]]) -> None:
        """Take rows in, with how many there are of each day; columns that a call lacks are null in its rows, or 0."""
        if rows.num_rows == 0:
            return
        for day, count in days:
            self._day_counts[day] = self._day_counts.get(day, 0) + count
        self.rows += rows.num_rows
        self._columns.update((column.name, column.type) for column in rows.schema)
        self._tables.append(rows)
        self._bytes += rows.nbytes
        limit = self._max_bytes if not self._runs else self._max_bytes // _RUNS_PER_BUDGET
        if self._bytes > limit:
            self._spill()

    def sample(self) -> pa.Table:
        """Some of the rows, to judge their size on disk from."""
        source = self._tables[0] if self._tables else self._runs[0].read(next(iter(self._runs[0].batches)), 0)
        return sort_ticks(source.slice(0, 65_536))

    def by_interval(
        self, name: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], dict[int, str]]
    ) -> Iterator[tuple[str, Iterator[pa.Table], Layouts | None]]:
        """Intervals in order of time, each with its rows sorted as ticks are, in chunks.

        Args:
            name: day numbers and their row counts → the interval of each day.

        Returns:
            Label, chunks, and the layout by column that fits them all; None where there is one chunk.
        """
        days = np.array(sorted(self._day_counts), np.int64)
        labels = name(days, np.array([self._day_counts[day] for day in days.tolist()], np.int64))
        groups: dict[str, list[int]] = {}
        for day in days.tolist():
            groups.setdefault(labels[day], []).append(day)
        ordered = sorted(groups.items(), key=lambda item: item[1][0])
        if not self._runs:
            yield from self._split_in_memory(ordered)
            return
        self._spill()
        for label, members in ordered:
            found = [(run, day) for run in self._runs for day in members if day in run.batches]
            layouts = [run.layouts[day] for run, day in found]
            merged = merge_layouts([[layout.get(name, _ABSENT) for name in self._columns] for layout in layouts])
            columns = dict(zip(self._columns, merged, strict=True))
            yield label, _merge([_Cursor(run, day, self._columns) for run, day in found]), columns

    def close(self) -> None:
        """Remove the runs."""
        for run in self._runs:
            run.close()
        self._runs = []
        self._tables = []

    def _split_in_memory(
        self, ordered: list[tuple[str, list[int]]]
    ) -> Iterator[tuple[str, Iterator[pa.Table], Layouts | None]]:
        if not ordered:
            return
        rows = sort_ticks(_joined(self._tables, self._columns))
        self._tables = []
        if len(ordered) == 1:
            yield ordered[0][0], iter([rows]), None
            return
        # Several intervals: a symbol's rows of one interval are one slice of the sorted rows.
        interval_of_day = {day: number for number, (_, days) in enumerate(ordered) for day in days}
        days = day_numbers(rows)
        unique, inverse = np.unique(days, return_inverse=True)
        numbers = np.array([interval_of_day[day] for day in unique.tolist()])[inverse]
        codes = symbol_codes(rows)
        edges = np.flatnonzero((np.diff(numbers) != 0) | (np.diff(codes) != 0)) + 1
        starts, stops = np.append(0, edges), np.append(edges, len(numbers))
        for number, (label, _) in enumerate(ordered):
            mine = numbers[starts] == number
            slices = zip(starts[mine].tolist(), stops[mine].tolist(), strict=True)
            yield label, iter([pa.concat_tables([rows.slice(a, b - a) for a, b in slices])]), None

    def _spill(self) -> None:
        if self._tables:
            tables, self._tables, self._bytes = self._tables, [], 0
            pending: list[pa.Table] = []
            size = 0
            for position, table in enumerate(tables):
                pending.append(table)
                tables[position] = None
                size += table.nbytes
                if size > self._max_bytes // _RUNS_PER_BUDGET or position == len(tables) - 1:
                    rows = _joined(pending, self._columns)
                    self._runs.append(_Run.write(self._folder / f"{uuid.uuid4().hex}.arrow", rows))
                    pending, size = [], 0


def day_numbers(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Days since 1970-01-01 of each row."""
    days = times_ns(rows)
    days //= DAY_NS
    return days


def split_intervals(rows: pa.Table, bytes_per_row: float, day_bytes: int) -> Iterator[tuple[str, pa.Table]]:
    """Rows by interval, in order of its label, each in the order they came."""
    if rows.num_rows == 0:
        return
    unique, inverse, counts = np.unique(day_numbers(rows), return_inverse=True, return_counts=True)
    labels = intervals(unique, counts, bytes_per_row, day_bytes)
    names = sorted(set(labels.values()))
    if len(names) == 1:
        yield names[0], rows
        return
    for name in names:
        mine = np.array([labels[day] == name for day in unique.tolist()])[inverse]
        yield name, rows.filter(pa.array(mine))


@dataclass
class _Run:
    """Sorted rows on disk; each IPC batch holds rows of one day."""

    path: Path
    batches: dict[int, list[int]] = field(default_factory=dict)
    layouts: dict[int, Layouts] = field(default_factory=dict)
    _file: pa.RecordBatchFileReader | None = None

    @classmethod
    def write(cls, path: Path, rows: pa.Table) -> _Run:
        days = pa.array(day_numbers(rows).astype(np.int32))
        rows = sort_ticks(rows.append_column("_interval", days))
        numbers = rows["_interval"].to_numpy()
        rows = rows.drop_columns("_interval").unify_dictionaries()
        edges = np.append(np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1)), len(numbers)).tolist()
        run, count = cls(path), 0
        options = pa.ipc.IpcWriteOptions(compression="lz4", emit_dictionary_deltas=False)
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, rows.schema, options=options) as writer,
        ):
            for start, stop in itertools.pairwise(edges):
                mine = rows.slice(start, stop - start).combine_chunks()
                run.layouts[int(numbers[start])] = dict(zip(mine.column_names, measure_layout(mine), strict=True))
                batches = mine.to_batches(max_chunksize=_BATCH_ROWS)
                for batch in batches:
                    writer.write_batch(batch)
                run.batches[int(numbers[start])] = list(range(count, count + len(batches)))
                count += len(batches)
        return run

    def read(self, day: int, position: int) -> pa.Table:
        if self._file is None:
            self._file = pa.ipc.open_file(pa.OSFile(str(self.path), "rb"))
        return pa.Table.from_batches([self._file.get_batch(self.batches[day][position])])

    def close(self) -> None:
        self._file = None
        self.path.unlink(missing_ok=True)


class _Cursor:
    """Reads one day of one run, a batch or more at a time."""

    def __init__(self, run: _Run, day: int, columns: Columns) -> None:
        self._run, self._day, self._next, self._columns = run, day, 0, columns
        self.rows: pa.Table | None = None
        self.fill()

    @property
    def done(self) -> bool:
        """Whether nothing is left to read after the buffered rows."""
        return self._next == len(self._run.batches[self._day])

    def fill(self) -> None:
        """Read on until the buffer holds two instants or all that is left, so that equal keys stay together."""
        while not self.done and (self.rows is None or self.rows.num_rows == 0 or self.key(0) == self.last):
            batch = _joined([self._run.read(self._day, self._next)], self._columns)
            self._next += 1
            buffered = self.rows is not None and self.rows.num_rows
            self.rows = pa.concat_tables([self.rows, batch]).combine_chunks() if buffered else batch

    def key(self, row: int) -> Key:
        assert self.rows is not None  # noqa: S101 - fill() ran
        symbol = self.rows["symbol"][row].as_py()
        return symbol.encode(), int(self.rows["timestamp_utc"].chunk(0).cast(pa.int64())[row].as_py())

    @property
    def last(self) -> Key:
        assert self.rows is not None  # noqa: S101 - fill() ran
        return self.key(self.rows.num_rows - 1)

    def take_before(self, bound: Key | None) -> pa.Table | None:
        """Remove and return the rows with a smaller key; all rows without a bound."""
        if self.rows is None or self.rows.num_rows == 0:
            return None
        cut = self.rows.num_rows if bound is None else self._position(bound)
        taken, self.rows = self.rows.slice(0, cut), self.rows.slice(cut)
        self.fill()
        return taken if cut else None

    def _position(self, bound: Key) -> int:
        assert self.rows is not None  # noqa: S101 - fill() ran
        column = self.rows["symbol"].chunk(0)
        names = [name.encode() for name in column.dictionary.to_pylist()]
        codes = column.indices.to_numpy()
        code = bisect.bisect_left(names, bound[0])
        first = int(np.searchsorted(codes, code, "left"))
        if code == len(names) or names[code] != bound[0]:
            return first
        stop = int(np.searchsorted(codes, code, "right"))
        times = self.rows["timestamp_utc"].chunk(0).cast(pa.int64()).to_numpy()[first:stop]
        return first + int(np.searchsorted(times, bound[1], "left"))


def _merge(cursors: list[_Cursor]) -> Iterator[pa.Table]:
    """Sorted chunks: all rows before the smallest last buffered key of the cursors that have more to read."""
    while cursors:
        open_ends = [cursor.last for cursor in cursors if not cursor.done]
        bound = min(open_ends, default=None)
        parts = [part for cursor in cursors if (part := cursor.take_before(bound)) is not None]
        cursors = [cursor for cursor in cursors if cursor.rows is not None and cursor.rows.num_rows]
        if parts:
            yield sort_ticks(pa.concat_tables(parts))


def _joined(tables: list[pa.Table], columns: Columns) -> pa.Table:
    """All rows, with all columns: what a table lacks is null, or 0 where a tick must have it."""
    return pa.concat_tables([_filled(table, columns) for table in tables])


def _filled(table: pa.Table, columns: Columns) -> pa.Table:
    if table.column_names == list(columns):
        return table
    filled = {name: table[name] if name in table.column_names else None for name in columns}
    for name, kind in columns.items():
        if filled[name] is None:
            may_be_null = name in TICKS.names and TICKS.field(name).nullable
            zeros = pa.array(np.zeros(0 if may_be_null else table.num_rows, np.int64), pa.int64())
            filled[name] = pa.nulls(table.num_rows, kind) if may_be_null else zeros.cast(kind)
    return pa.table(filled)
