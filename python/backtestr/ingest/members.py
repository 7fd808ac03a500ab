"""Members of a load (files, archive members): each numbers its own rows, and a row in several of them is one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.ingest.identity import VALUES
from backtestr.sources import TickBatch
from backtestr.storage.keys import symbol_codes, times_ns

MEMBER = "_member"
"""Column that goes along with the rows until they are merged: the number of the member that holds each."""
_SAME_FOR_ALL = {"symbol", "timestamp_utc", "feed_id"}


@dataclass(slots=True)
class Members:
    """The members seen so far, with the rows of each."""

    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    _rows: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, batch: TickBatch) -> tuple[int, int]:
        """The number of the batch's member, and of its first row in it."""
        number = self._numbers.setdefault((batch.part, batch.member), len(self._rows))
        if number == len(self._rows):
            self._rows.append(0)
        first = self._rows[number]
        self._rows[number] += batch.columns.num_rows
        return number, first


def find_repeats(
    rows: pa.Table, members: npt.NDArray[np.int32], connect: Callable[[], duckdb.DuckDBPyConnection]
) -> npt.NDArray[np.int64]:
    """Rows to leave out so that of each row as many stay as one member holds at most, each the first of its copies.

    Args:
        rows: complete sorted ticks of one feed; those of equal symbol and instant must come together.
        members: whose each row is.
        connect: gives the DuckDB that is used where members share an instant.
    """
    shared, instants = _shared(rows, members)
    if len(shared) == 0:
        return shared
    values = [name for name in VALUES if name in rows.column_names and name not in _SAME_FOR_ALL]
    candidates = rows.select(values).take(pa.array(shared))
    for name, column in (("row", shared), ("instant", instants), ("member", members[shared])):
        candidates = candidates.append_column(name, pa.array(column))
    same = ", ".join(["instant", *values])
    with connect().cursor() as connection:
        connection.register("candidates", candidates)
        found = connection.sql(
            f"""
            with counted as (
                select *, row_number() over (partition by {same}, member order by row) as copy from candidates
            )
            select row, min(row) over (partition by {same}, copy) as kept from counted qualify row > kept
            """
        ).to_arrow_table()
    return np.sort(found["row"].to_numpy())


def _shared(rows: pa.Table, members: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of instants that several members have of a symbol, and which instant each is of."""
    none = np.empty(0, np.int64)
    seams = np.flatnonzero(members[1:] != members[:-1])
    if len(seams) == 0:
        return none, none
    codes = symbol_codes(rows)
    times = times_ns(rows)
    seams = seams[(codes[seams] == codes[seams + 1]) & (times[seams] == times[seams + 1])]
    if len(seams) == 0:
        return none, none
    starts = np.append(0, np.flatnonzero((np.diff(codes) != 0) | (np.diff(times) != 0)) + 1)
    lengths = np.diff(np.append(starts, len(times)))
    is_shared = np.zeros(len(starts), dtype=bool)
    is_shared[np.searchsorted(starts, seams, "right") - 1] = True
    instants = np.repeat(np.arange(len(starts)), lengths)
    shared = np.flatnonzero(is_shared[instants])
    return shared, instants[shared]
