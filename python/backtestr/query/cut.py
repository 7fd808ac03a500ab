"""The first or last rows of each symbol: read in windows of time that grow until they hold enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from backtestr.errors import ArgumentError
from backtestr.storage.snapshot import Version

_GROWTH: Final = 4

Read = Callable[[Sequence[str], int | None, int | None], pa.Table]
"""Gives the rows of symbols in [start, end) ns, ordered by symbol and time."""


class Cut(NamedTuple):
    """How many rows of each symbol are asked for, from which end."""

    limit: int | None = None
    """None for all."""
    descending: bool = False
    """Newest first."""

    @classmethod
    def parse(cls, limit: int | None, order: str) -> Cut:
        """Check what a caller asks for.

        Raises:
            ArgumentError: it is not taken.
        """
        if order not in {"asc", "desc"}:
            raise ArgumentError(f"order={order!r}: choose 'asc' (oldest first) or 'desc' (newest first)")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ArgumentError(f"limit={limit!r}: say how many rows of each symbol, as a whole number from 0 on")
        return cls(limit, order == "desc")

    def of(
        self,
        version: Version,
        symbols: Sequence[str],
        start: int | None,
        end: int | None,
        read: Read,
        width: Callable[[str], int],
        *,
        step: int = 1,
    ) -> pa.Table:
        """Rows of symbols, cut and ordered.

        Args:
            version: what is read.
            symbols: each once.
            start: first instant in ns; None for the first there is.
            end: exclusive.
            read: reads rows.
            width: ns in which a symbol is likely to have enough rows.
            step: ns that a row stands for, from its instant on.
        """
        if self.limit is None:
            return _reversed(read(symbols, start, end))
        parts = []
        for symbol in sorted(symbols, key=str.encode):
            counts = version.symbols[symbol]
            low = max(counts["min_ns"] - step if start is None else start, counts["min_ns"] - step)
            high = min(counts["max_ns"] + 1 if end is None else end, counts["max_ns"] + 1)
            rows = self._grown(partial(read, [symbol]), low, high, max(width(symbol), step))
            kept = rows.slice(max(rows.num_rows - self.limit, 0)) if self.descending else rows.slice(0, self.limit)
            parts.append(_reversed(kept) if self.descending else kept)
        return pa.concat_tables(parts).unify_dictionaries() if parts else read([], start, end)

    def _grown(self, read: Callable[[int, int], pa.Table], low: int, high: int, width: int) -> pa.Table:
        """Rows at one end of [low, high) ns: at least as many as asked for, where there are."""
        while True:
            whole = high - low <= width
            first, stop = (low, high) if whole else (high - width, high) if self.descending else (low, low + width)
            rows = read(first, max(stop, first))
            if whole or rows.num_rows >= (self.limit or 0):
                return rows
            width *= _GROWTH


ALL: Final = Cut()
"""Every row, oldest first."""


def _reversed(rows: pa.Table) -> pa.Table:
    """Rows of each symbol from the last to the first."""
    if rows.num_rows < 2:
        return rows
    codes = rows["symbol"].unify_dictionaries().combine_chunks().indices.to_numpy()
    edges = np.flatnonzero(np.diff(codes)) + 1
    runs = np.split(np.arange(rows.num_rows), edges)
    return rows.take(np.concatenate([run[::-1] for run in runs]))
