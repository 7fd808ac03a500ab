"""Rows that are already there: exact copies are counted once, the same key with other values is a conflict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import tally_ticks
from backtestr.errors import SequenceConflictError
from backtestr.schema import TICKS
from backtestr.storage.read import Located, Reader
from backtestr.storage.snapshot import Version

VALUES = [name for name in TICKS.names if name != "sequence"]
"""What a row is where its feed does not number rows."""
KEY = ["feed_id", "symbol", "epoch", "class", "sequence"]
"""What names a row where its feed does; ``class`` tells trades from quotes."""


@dataclass(slots=True)
class Removed:
    """Rows that a commit takes out of existing files, by file id."""

    rows: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)

    def add(self, located: Located, which: npt.NDArray[np.int64]) -> None:
        """Take out some of the located rows."""
        files = located.file[which]
        for code in np.unique(files).tolist():
            self.rows.setdefault(located.file_ids[code], []).append(located.row[which[files == code]])

    def of(self, file_id: str) -> npt.NDArray[np.int64]:
        """The rows taken out of a file, in order."""
        return np.unique(np.concatenate(self.rows[file_id]))


@dataclass(slots=True)
class Merge:
    """Incoming rows merged into a version by the rules of identity.

    Attributes:
        row_unique: whether the feed's sequence names a row; else rows are a multiset of their values, and a copy
            keeps the smallest ordinal it was ever loaded with.
        duplicates: incoming rows that were there already.
        removed: existing rows to take out, because their copy now has a smaller ordinal.
    """

    reader: Reader
    version: Version
    feed_id: int
    row_unique: bool
    duplicates: int = 0
    removed: Removed = field(default_factory=Removed)

    def filter(self, rows: pa.Table) -> pa.Table:
        """Of complete sorted ticks, those that are new.

        Raises:
            SequenceConflictError: a key that exists has other values.
        """
        if not (self.row_unique or any(symbol in self.version.symbols for symbol in _names(rows))):
            return rows
        ranges = {symbol: (low, high) for symbol, low, high, _ in tally_ticks(rows)[0]}
        known = [symbol for symbol, (low, high) in ranges.items() if self._may_meet(symbol, low, high)]
        if self.row_unique and not (known or _keys_ascend(rows)):
            return self._drop_repeats(rows)
        if not known:
            return rows
        located = self._existing(known, ranges)
        if located.rows.num_rows == 0:
            return self._drop_repeats(rows) if self.row_unique and not _keys_ascend(rows) else rows
        return self._by_key(rows, located) if self.row_unique else self._by_value(rows, located)

    def _may_meet(self, symbol: str, low: int, high: int) -> bool:
        return bool(self.version.spans(symbol, *((None, None) if self.row_unique else (low, high + 1))))

    def _existing(self, symbols: Iterable[str], ranges: Mapping[str, tuple[int, int]]) -> Located:
        parts = []
        for symbol in symbols:
            low, high = ranges[symbol]
            window = (None, None) if self.row_unique else (low, high + 1)
            parts.append(self.reader.located(self.version, symbol, *window))
        return Located.join(parts)

    def _by_value(self, rows: pa.Table, located: Located) -> pa.Table:
        pairs = pair(
            rows,
            located.rows,
            f"row_number() over (partition by {', '.join(VALUES)}, origin order by sequence, row) as copy",
            [*VALUES, "copy"],
        )
        both = pairs.filter("new_row is not null and old_row is not null")
        moved = both.filter("new_sequence < old_sequence")
        self.removed.add(located, column(moved, "old_row"))
        fresh = pairs.filter("new_row is not null and (old_row is null or new_sequence < old_sequence)")
        self.duplicates += len(column(both, "new_row"))
        return rows.take(pa.array(np.sort(column(fresh, "new_row"))))

    def _by_key(self, rows: pa.Table, located: Located) -> pa.Table:
        rows = self._drop_repeats(rows)
        pairs = pair(rows, located.rows, "tick_type = 0 as class", KEY)
        both = pairs.filter("new_row is not null and old_row is not null")
        new, old = column(both, "new_row"), column(both, "old_row")
        _refuse_other_values(rows.take(pa.array(new)), located.rows.take(pa.array(old)))
        self.duplicates += len(new)
        fresh = np.ones(rows.num_rows, dtype=bool)
        fresh[new] = False
        return rows.filter(pa.array(fresh))

    def _drop_repeats(self, rows: pa.Table) -> pa.Table:
        """One row of each key within the input."""
        if _keys_ascend(rows):
            return rows
        numbered = _numbered(rows)
        connection = duckdb.connect()
        connection.register("numbered", numbered)
        keys = "feed_id, symbol, epoch, (tick_type = 0), sequence"
        found = connection.sql(
            f"select row, min(row) over (partition by {keys}) as kept from numbered qualify row > kept"
        ).to_arrow_table()
        dropped, kept = found["row"].to_numpy(), found["kept"].to_numpy()
        _refuse_other_values(rows.take(pa.array(dropped)), rows.take(pa.array(kept)))
        self.duplicates += len(dropped)
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[dropped] = False
        return rows.filter(pa.array(keep))


def _names(rows: pa.Table) -> list[str]:
    return rows["symbol"].unique().to_pylist()  # type: ignore[no-any-return]


def _keys_ascend(rows: pa.Table) -> bool:
    """Whether sequences rise within each symbol, which makes every key unique."""
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in rows["symbol"].chunks])
    rises = np.diff(rows["sequence"].to_numpy()) > 0
    return bool(np.all(rises | (np.diff(codes) != 0)))


def _numbered(rows: pa.Table) -> pa.Table:
    """The rows for DuckDB: instants as integers, since its TIMESTAMPTZ holds microseconds only."""
    rows = rows.select(TICKS.names)
    position = rows.schema.get_field_index("timestamp_utc")
    rows = rows.set_column(position, "timestamp_utc", rows["timestamp_utc"].cast(pa.int64()))
    return rows.append_column("row", pa.array(np.arange(rows.num_rows)))


def pair(new: pa.Table, old: pa.Table, extra: str, keys: list[str]) -> duckdb.DuckDBPyRelation:
    """New and old rows side by side by key; nulls are equal."""
    connection = duckdb.connect()
    connection.register("new_rows", _numbered(new))
    connection.register("old_rows", _numbered(old))
    return connection.sql(
        f"""
        with origins as (
            select *, 1 as origin from new_rows union all by name select *, 0 as origin from old_rows
        ), keyed as (select *, {extra} from origins)
        select
            max(row) filter (origin = 1) as new_row, max(sequence) filter (origin = 1) as new_sequence,
            max(row) filter (origin = 0) as old_row, max(sequence) filter (origin = 0) as old_sequence
        from keyed group by {", ".join(keys)}
        """
    )


def column(relation: duckdb.DuckDBPyRelation, name: str) -> npt.NDArray[np.int64]:
    """One column of a relation."""
    return relation.project(name).to_arrow_table()[name].to_numpy()  # type: ignore[no-any-return]


def _refuse_other_values(new: pa.Table, old: pa.Table) -> None:
    new, old = (table.select(TICKS.names).combine_chunks() for table in (new, old))
    for name in TICKS.names:
        a, b = (t[name].cast(pa.string()) if pa.types.is_dictionary(t[name].type) else t[name] for t in (new, old))
        if a.equals(b):
            continue
        row = next(row for row in range(new.num_rows) if a[row] != b[row])
        raise SequenceConflictError(
            f"{new['symbol'][row].as_py()!r} sequence {new['sequence'][row].as_py()}: {name} is {a[row].as_py()}, "
            f"but {b[row].as_py()} is stored; use store.correct() to replace rows, or mode='replace'"
        )
