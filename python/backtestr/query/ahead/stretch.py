"""Windows that are read at once, and cut out of each other without a copy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.errors import BacktestrError
from backtestr.storage.keys import times_ns

_ROWS: Final = 262_144
"""Rows that are worth a read of their own."""
_RUNS: Final = 8
"""From so many symbols on, rows are copied: a window of one slice of each would be in as many pieces."""
_MOST: Final = 512
_GROWTH: Final = 4

Bounds = tuple[int, int]
"""Start and end of a window, in ns."""


class Stretch(NamedTuple):
    """Windows that lie one behind the other, and their rows."""

    windows: list[Bounds]
    rows: pa.Table
    cuts: npt.NDArray[np.int64]
    """Shape (runs of ascending time, twice the windows): the first row of each window, and the one behind, in a run."""

    @classmethod
    def of(cls, windows: list[Bounds], rows: pa.Table) -> Self:
        """Find each window in rows that are ordered by symbol and time: each symbol is a run of ascending time."""
        times, edges = times_ns(rows), np.array(windows, np.int64).ravel()
        firsts = [0, *(np.flatnonzero(np.diff(times) < 0) + 1).tolist(), len(times)]
        if len(firsts) > _RUNS:
            rows = rows.combine_chunks()
        cuts = [first + times[first:stop].searchsorted(edges) for first, stop in itertools.pairwise(firsts)]
        return cls(windows, rows, np.array(cuts, np.int64))

    def __iter__(self) -> Iterator[tuple[Bounds, pa.Table]]:
        """Each window with its rows."""
        for place, window in enumerate(self.windows):
            yield window, self._rows(place)

    def _rows(self, place: int) -> pa.Table:
        firsts, stops = self.cuts[:, 2 * place], self.cuts[:, 2 * place + 1]
        if len(firsts) >= _RUNS:
            counts = stops - firsts
            shifts = np.repeat(firsts - np.cumsum(counts) + counts, counts)
            return self.rows.take(np.arange(len(shifts)) + shifts)
        pairs = zip(firsts.tolist(), stops.tolist(), strict=True)
        parts = [self.rows.slice(first, stop - first) for first, stop in pairs if stop > first]
        if len(parts) == 1:
            return parts[0]
        return pa.concat_tables(parts) if parts else self.rows.slice(0, 0)


def stretches(windows: Iterator[Bounds], read: Callable[[int, int], pa.Table]) -> Iterator[Stretch]:
    """All windows, some at a time: one at first, then as many as have enough rows to be worth it.

    Args:
        windows: by time.
        read: reads the rows of [start, end) ns, ordered by symbol and time.
    """
    count = 1
    while some := list(itertools.islice(windows, count)):
        rows = 0
        for stretch in _read(some, read):
            rows += stretch.rows.num_rows
            yield stretch
        count = min(_GROWTH * count, max(1, count * _ROWS // max(rows, 1)), _MOST)


def _read(windows: list[Bounds], read: Callable[[int, int], pa.Table]) -> Iterator[Stretch]:
    """All windows at once, or one by one, so that a damaged file shows at the first window that needs it."""
    try:
        whole = Stretch.of(windows, read(windows[0][0], windows[-1][1]))
    except BacktestrError:
        if len(windows) == 1:
            raise
        yield from (Stretch.of([window], read(*window)) for window in windows)
    else:
        yield whole
