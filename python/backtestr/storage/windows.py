"""Windows of time in the rows of some spans: slices of row groups that are decoded once, whatever spans share them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.errors import DataCorruptError
from backtestr.storage.footer import Footer
from backtestr.storage.listing import File, Span
from backtestr.storage.rowgroups import RowGroups, ranges


class _Part(NamedTuple):
    """A file of which some row groups are decoded."""

    file: File
    footer: Footer
    groups: dict[int, pa.RecordBatch]
    reach: dict[int, range]
    """The groups of each span that reach into the window, by the span's first row."""


class Windows:
    """Columns of the rows of spans in [start, end) ns; the columns include ``timestamp_utc``.

    Args:
        groups: reads row groups.
        spans: whose rows.
        schema: the columns.
        start: first instant, in ns.
        end: exclusive.
        keep: whether row groups come from memory where they are there, and stay there.

    Raises:
        DataCorruptError: a file is damaged.
    """

    def __init__(
        self,
        groups: RowGroups,
        spans: Iterable[Span],
        schema: pa.Schema,
        start: int | None,
        end: int | None,
        *,
        keep: bool = True,
    ) -> None:
        self._schema = schema
        self._start = start
        self._end = end
        self._parts: dict[str, _Part] = {}
        for span in spans:
            part = self._parts.get(span.file.file_id)
            if part is None:
                part = self._parts[span.file.file_id] = _Part(span.file, groups.footer(span.file), {}, {})
            footer, stop = part.footer, span.first_group + span.groups
            if span.first_row + span.rows > footer.first_rows[-1] or stop > footer.num_groups:
                raise DataCorruptError(f"{span.file.path} has fewer rows than the log says; restore the file")
            part.reach[span.first_row] = found = footer.groups(span, start, end)
            part.groups.update(dict.fromkeys(found))
        read = groups.read if keep else groups.decode
        for part in self._parts.values():
            for some in ranges(sorted(part.groups)):
                part.groups.update(zip(some, read(part.file, some, schema), strict=True))

    def rows(self, span: Span) -> tuple[int, int]:
        """The rows of a span in the window: in its file, the first and the one behind the last."""
        _, footer, held, reach = self._parts[span.file.file_id]
        groups = reach[span.first_row]
        if not groups:
            return span.first_row, span.first_row
        firsts = footer.first_rows
        first, stop = max(span.first_row, firsts[groups.start]), min(span.first_row + span.rows, firsts[groups.stop])
        # Bars are in order of time within a span too: a span has one timeframe and basis.
        if self._end is not None and span.max_ns >= self._end:
            base = max(first, firsts[groups.stop - 1])
            times = _times_ns(held[groups.stop - 1])[base - firsts[groups.stop - 1] : stop - firsts[groups.stop - 1]]
            stop = base + int(times.searchsorted(self._end))
        if self._start is not None and span.min_ns < self._start:
            times = _times_ns(held[groups.start])[first - firsts[groups.start] : stop - firsts[groups.start]]
            first += int(times.searchsorted(self._start))
        return first, stop

    def table(self, spans: Iterable[Span]) -> pa.Table:
        """The rows of some spans in the window, one behind the other, without a copy."""
        batches: list[pa.RecordBatch] = []
        begun: tuple[str, int, int] | None = None
        for span in spans:
            file_id, (first, stop) = span.file.file_id, self.rows(span)
            if begun is not None and begun[0] == file_id and begun[2] == first:
                begun = file_id, begun[1], stop
                continue
            if begun is not None:
                batches.extend(self._slices(*begun))
            begun = file_id, first, stop
        if begun is not None:
            batches.extend(self._slices(*begun))
        return pa.Table.from_batches(batches, self._schema)

    def _slices(self, file_id: str, first: int, stop: int) -> Iterator[pa.RecordBatch]:
        _, footer, held, _ = self._parts[file_id]
        firsts = footer.first_rows
        group = bisect_right(firsts, first) - 1
        while first < stop:
            until = min(stop, firsts[group + 1])
            rows = held[group]
            yield rows if until - first == rows.num_rows else rows.slice(first - firsts[group], until - first)
            first, group = until, group + 1


def _times_ns(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return rows["timestamp_utc"].view(pa.int64()).to_numpy()  # type: ignore[no-any-return]
