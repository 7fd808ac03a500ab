"""What rows are sorted by, as numpy arrays: one value per row, whatever the chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def symbol_codes(rows: pa.Table) -> npt.NDArray[np.int32]:
    """Each row's code in the dictionary of symbols, which all chunks must share."""
    codes = [chunk.indices.to_numpy() for chunk in rows["symbol"].chunks]
    return np.concatenate([np.empty(0, np.int32), *codes])


def times_ns(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Each row's instant, in ns since 1970-01-01 UTC."""
    times = [chunk.cast(pa.int64()).to_numpy() for chunk in rows["timestamp_utc"].chunks]
    return np.concatenate([np.empty(0, np.int64), *times])


def between(rows: pa.Table, start: int | None, end: int | None) -> tuple[int, int]:
    """Of rows in order of time, the first in [start, end) ns and the one behind the last."""
    times = times_ns(rows)
    first = 0 if start is None else int(np.searchsorted(times, start))
    return first, len(times) if end is None else int(np.searchsorted(times, end))


def listed_symbols(rows: pa.Table) -> set[str]:
    """The symbols in the dictionaries of some rows, without a look at the rows: all that they have, perhaps more."""
    names: set[str] = set()
    for chunk in rows["symbol"].chunks:
        names.update(chunk.dictionary.to_pylist())
    return names


def symbol_names(rows: pa.Table) -> list[str]:
    """The symbols that the rows have, in order of first sight."""
    names = listed_symbols(rows)
    if len(names) == 1 and rows.num_rows:
        return list(names)
    return rows["symbol"].unique().to_pylist()  # type: ignore[no-any-return]
