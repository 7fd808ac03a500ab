"""A data file's footer: where its row groups begin, and between which instants each lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr.storage.listing import Span

_UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True)
class Footer:
    """The metadata of one file, read once."""

    metadata: pq.FileMetaData

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema of the columns as they are stored."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """Number of each group's first row, and of the row after the last."""
        rows = [self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)]
        return np.cumsum([0, *rows])

    @cached_property
    def _times(self) -> npt.NDArray[np.int64]:
        """First and last instant of each group, in ns."""
        column = self.metadata.schema.names.index("timestamp_utc")
        unit = _UNIT_NS[self.schema.field("timestamp_utc").type.unit]
        found = (self.metadata.row_group(group).column(column) for group in range(self.metadata.num_row_groups))
        ends = [(chunk.statistics.min_raw, chunk.statistics.max_raw) for chunk in found]
        return np.array(ends, np.int64).reshape(-1, 2) * unit

    def groups(self, span: Span, start: int | None, end: int | None) -> range:
        """The groups of a span, whose rows are in order of time, that hold instants of [start, end) ns."""
        first, stop = span.first_group, span.first_group + span.groups
        if span.groups == 1:
            return range(first, stop)
        lows, highs = self._times[first:stop].T
        begin = 0 if start is None else int(np.searchsorted(highs, start))
        until = span.groups if end is None else int(np.searchsorted(lows, end))
        return range(first + begin, first + max(begin, until))
