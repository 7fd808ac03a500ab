"""Rows that are already there: exact copies are counted once, the same key with other values is a conflict."""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr._native import index_runs
from backtestr.errors import SequenceConflictError
from backtestr.ingest.identity import (
    Removed,
    are_same,
    numbered,
    pair_by_key,
    pair_by_value,
    refuse_other_values,
    scratch,
)
from backtestr.ingest.members import find_repeats
from backtestr.storage import Storage
from backtestr.storage.keys import listed_symbols, symbol_codes
from backtestr.storage.read import Located
from backtestr.storage.snapshot import Version


@dataclass(slots=True)
class Merge:
    """Incoming rows merged into a version by the rules of identity.

    Attributes:
        row_unique: whether the feed's sequence names a row; else rows are a multiset of their values, and a copy
            keeps the smallest ordinal it was ever loaded with.
        duplicates: incoming rows that were there already, or that several files of the load hold.
        removed: existing rows to take out: replaced ones, and those whose copy now has a smaller ordinal.
    """

    storage: Storage
    version: Version
    row_unique: bool
    removed: Removed = field(default_factory=Removed)
    duplicates: int = 0
    _sequences: dict[str, tuple[int, int]] = field(default_factory=dict)
    _doubtful: set[str] = field(default_factory=set)
    _connection: duckdb.DuckDBPyConnection | None = None

    def filter(self, rows: pa.Table, members: npt.NDArray[np.int32] | None = None) -> pa.Table:
        """Of complete sorted ticks, those that are new; rows of equal symbol and instant must come together.

        Args:
            rows: the ticks.
            members: which file of the load holds each; None where one holds all, or the sequence names rows.

        Raises:
            SequenceConflictError: a key that exists has other values.
        """
        if members is not None:
            repeats = find_repeats(rows, members, self._scratch)
            self.duplicates += len(repeats)
            rows = _leave_out(rows, repeats)
        if not self.row_unique and self.version.symbols.keys().isdisjoint(listed_symbols(rows)):
            return rows
        runs = _Runs.of(rows)
        located = self._existing(runs)
        if not self.row_unique:
            return self._by_value(rows, located) if located.rows.num_rows else rows
        rows = self._drop_repeats(rows)
        self._watch(runs)
        return self._by_key(rows, located) if located.rows.num_rows else rows

    def check_repeats(self, written: Version) -> None:
        """Refuse keys that came more than once, far apart in time.

        Args:
            written: the new files alone.

        Raises:
            SequenceConflictError: names one.
        """
        for symbol in sorted(self._doubtful):
            rows = self.storage.reader.ticks(written, [symbol], columns=["sequence", "epoch", "tick_type"])
            with self._scratch().cursor() as connection:
                connection.register("keys", rows)
                found = connection.execute(
                    "select sequence from keys group by sequence, epoch, tick_type = 0 having count(*) > 1 limit 1"
                ).fetchone()
            if found:
                raise SequenceConflictError(
                    f"{symbol!r} sequence {found[0]} is in the input at two instants; its feed numbers every row once"
                )

    def _scratch(self) -> duckdb.DuckDBPyConnection:
        """The one DuckDB of a merge, opened when rows first overlap."""
        self._connection = self._connection or scratch(self.storage)
        return self._connection

    def _watch(self, runs: _Runs) -> None:
        for symbol, low, high in zip(runs.symbols, runs.low_sequence, runs.high_sequence, strict=True):
            before = self._sequences.get(symbol)
            if before is not None:
                if low <= before[1] and high >= before[0]:
                    self._doubtful.add(symbol)
                low, high = min(low, before[0]), max(high, before[1])  # noqa: PLW2901 - the range so far
            self._sequences[symbol] = low, high

    def _existing(self, runs: _Runs) -> Located:
        """Stored rows that may be the same as incoming ones and are not taken out."""
        parts = []
        for row, symbol in enumerate(runs.symbols):
            if symbol not in self.version.symbols:
                continue
            if self.row_unique:
                sequences = runs.low_sequence[row], runs.high_sequence[row]
                parts.append(self.storage.reader.located(self.version, symbol, sequences=sequences))
            else:
                window = runs.low_ns[row], runs.high_ns[row] + 1
                parts.append(self.storage.reader.located(self.version, symbol, *window))
            live = self.version.live.of_symbol(symbol)
            if live.num_rows:
                # rows of no file: they are compared with, never taken out
                place = np.arange(live.num_rows)
                parts.append(Located(live, [""], np.zeros_like(place), place))
        return self.removed.without(Located.join(parts))

    def _by_value(self, rows: pa.Table, located: Located) -> pa.Table:
        if are_same(rows, located.rows):
            self.duplicates += rows.num_rows
            return rows.slice(0, 0)
        pairs = pair_by_value(self._scratch(), rows, located.rows)
        pairs = pairs.filter(pc.is_valid(pairs["new_row"]))
        both = pairs.filter(pc.is_valid(pairs["old_row"]))
        moved = both.filter(pc.less(both["new_sequence"], both["old_sequence"]))
        self.removed.add(located, moved["old_row"].to_numpy())
        self.duplicates += both.num_rows
        fresh = [pairs.filter(pc.is_null(pairs["old_row"]))["new_row"].to_numpy(), moved["new_row"].to_numpy()]
        return rows.take(pa.array(np.sort(np.concatenate(fresh).astype(np.int64))))

    def _by_key(self, rows: pa.Table, located: Located) -> pa.Table:
        pairs = pair_by_key(self._scratch(), rows, located.rows)
        both = pairs.filter(pc.and_(pc.is_valid(pairs["new_row"]), pc.is_valid(pairs["old_row"])))
        new, old = both["new_row"].to_numpy(), both["old_row"].to_numpy()
        refuse_other_values(rows.take(pa.array(new)), located.rows.take(pa.array(old)))
        self.duplicates += len(new)
        return _leave_out(rows, new)

    def _drop_repeats(self, rows: pa.Table) -> pa.Table:
        """One row of each key within the rows."""
        if keys_ascend(rows):
            return rows
        with self._scratch().cursor() as connection:
            connection.register("numbered", numbered(rows))
            keys = "feed_id, symbol, epoch, (tick_type = 0), sequence"
            found = connection.sql(
                f"select row, min(row) over (partition by {keys}) as kept from numbered qualify row > kept"
            ).to_arrow_table()
        dropped, kept = found["row"].to_numpy(), found["kept"].to_numpy()
        refuse_other_values(rows.take(pa.array(dropped)), rows.take(pa.array(kept)))
        self.duplicates += len(dropped)
        return _leave_out(rows, dropped)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Each symbol of sorted rows, with its range of instants and sequences."""

    symbols: list[str]
    low_ns: list[int]
    high_ns: list[int]
    low_sequence: list[int]
    high_sequence: list[int]

    @classmethod
    def of(cls, rows: pa.Table) -> _Runs:
        runs = index_runs(rows, ["symbol"])
        symbols = rows["symbol"].take(runs["first_row"]).cast(pa.string()).to_pylist()
        names = ("min_ns", "max_ns", "min_sequence", "max_sequence")
        return cls(symbols, *(runs[name].to_pylist() for name in names))


def _leave_out(rows: pa.Table, which: npt.NDArray[np.int64]) -> pa.Table:
    if len(which) == 0:
        return rows
    keep = np.ones(rows.num_rows, dtype=bool)
    keep[which] = False
    return rows.filter(pa.array(keep))


def keys_ascend(rows: pa.Table) -> bool:
    """Whether sequences rise within each symbol, which makes every key unique."""
    codes = symbol_codes(rows)
    rises = np.diff(rows["sequence"].to_numpy()) > 0
    return bool(np.all(rises | (np.diff(codes) != 0)))
