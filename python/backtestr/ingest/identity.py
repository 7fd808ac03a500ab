"""What makes two rows the same, and which stored rows a commit takes out."""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.errors import SequenceConflictError
from backtestr.schema import TICKS
from backtestr.storage import Storage
from backtestr.storage.read import Located

VALUES = [name for name in TICKS.names if name != "sequence"]
"""What a row is where its feed does not number rows."""
_KEY = ["feed_id", "symbol", "epoch", "class", "sequence"]
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

    def without(self, located: Located) -> Located:
        """The located rows that are not taken out."""
        keep = np.ones(len(located.row), dtype=bool)
        for code, file_id in enumerate(located.file_ids):
            if file_id in self.rows:
                mine = located.file == code
                keep[mine] = ~np.isin(located.row[mine], self.of(file_id))
        if keep.all():
            return located
        rows = located.rows.filter(pa.array(keep))
        return Located(rows, located.file_ids, located.file[keep], located.row[keep])


def scratch(storage: Storage) -> duckdb.DuckDBPyConnection:
    """A DuckDB for set operations on rows, within the store's limits."""
    return duckdb.connect(
        config={
            "memory_limit": f"{storage.settings.memory_limit}B",
            "threads": str(storage.settings.threads),
            "temp_directory": str(storage.settings.temp_dir or storage.layout.tmp),
        }
    )


def pair_by_value(connection: duckdb.DuckDBPyConnection, new: pa.Table, old: pa.Table) -> pa.Table:
    """New and old rows of equal values side by side, the first copy with the first; see `pair_by_key`."""
    copy = f"row_number() over (partition by {', '.join(VALUES)}, origin order by sequence, row) as copy"
    return _pair(connection, new, old, copy, [*VALUES, "copy"])


def pair_by_key(connection: duckdb.DuckDBPyConnection, new: pa.Table, old: pa.Table) -> pa.Table:
    """New and old rows of equal key side by side.

    Returns:
        ``new_row``, ``new_sequence``, ``old_row`` and ``old_sequence``: number and sequence of the row on each side,
        null on the side that has none.
    """
    return _pair(connection, new, old, "tick_type = 0 as class", _KEY)


def _pair(connection: duckdb.DuckDBPyConnection, new: pa.Table, old: pa.Table, extra: str, keys: list[str]) -> pa.Table:
    # Rows are grouped, not joined: to a group nulls are equal.
    with connection.cursor() as cursor:
        cursor.register("new_rows", numbered(new))
        cursor.register("old_rows", numbered(old))
        return cursor.sql(
            f"""
            with origins as (
                select *, 1 as origin from new_rows union all by name select *, 0 as origin from old_rows
            ), keyed as (select *, {extra} from origins)
            select
                max(row) filter (origin = 1) as new_row, max(sequence) filter (origin = 1) as new_sequence,
                max(row) filter (origin = 0) as old_row, max(sequence) filter (origin = 0) as old_sequence
            from keyed group by {", ".join(keys)}
            """
        ).to_arrow_table()


def numbered(rows: pa.Table) -> pa.Table:
    """The rows for DuckDB: instants as integers, since its TIMESTAMPTZ holds microseconds only."""
    rows = filled(rows)
    position = rows.schema.get_field_index("timestamp_utc")
    rows = rows.set_column(position, "timestamp_utc", rows["timestamp_utc"].cast(pa.int64()))
    return rows.append_column("row", pa.array(np.arange(rows.num_rows)))


def filled(rows: pa.Table) -> pa.Table:
    """The rows with all columns of ticks, in order; those that they lack are null."""
    columns = [
        rows[column.name] if column.name in rows.column_names else pa.nulls(rows.num_rows, column.type)
        for column in TICKS
    ]
    return pa.Table.from_arrays(columns, names=TICKS.names)


def are_same(new: pa.Table, old: pa.Table) -> bool:
    """Whether the rows are the same one by one, sequence included."""
    return new.num_rows == old.num_rows and all(a.equals(b) for _, a, b in _columns(new, old))


def refuse_other_values(new: pa.Table, old: pa.Table) -> None:
    """Refuse rows of the same key that differ.

    Raises:
        SequenceConflictError: names the key and both values.
    """
    for name, a, b in _columns(new, old):
        if a.equals(b):
            continue
        row = next(row for row in range(new.num_rows) if not a[row].equals(b[row]))
        raise SequenceConflictError(
            f"{new['symbol'][row].as_py()!r} sequence {new['sequence'][row].as_py()}: {name} is {_shown(a[row])}, "
            f"but {_shown(b[row])} is stored; use store.correct() to replace rows, or mode='replace'"
        )


def _columns(new: pa.Table, old: pa.Table) -> list[tuple[str, pa.Array, pa.Array]]:
    new, old = filled(new), filled(old)
    return [(name, _plain(new[name]), _plain(old[name])) for name in TICKS.names]


def _plain(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.combine_chunks()


def _shown(value: pa.Scalar) -> str:
    return "nothing" if not value.is_valid else str(value.as_py())
