"""A data file's footer: where its row groups begin, and between which instants each lies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import ParquetFooter
from backtestr.errors import DataCorruptError
from backtestr.storage.listing import Span


@dataclass(frozen=True)
class Footer:
    """The metadata of one file, read once."""

    path: Path
    native: ParquetFooter

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """The metadata as pyarrow has it."""
        return pq.read_metadata(self.path)

    @cached_property
    def is_own(self) -> bool:
        """Whether the file's row groups are of the form that we encode; others are read through pyarrow."""
        with self.path.open("rb") as raw:
            return self.native.is_own(raw.read(self.native.first_group_end))

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema of the columns as they are stored."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def first_rows(self) -> list[int]:
        """Number of each group's first row, and of the row after the last."""
        return self.native.first_rows

    @property
    def num_groups(self) -> int:
        """Number of row groups."""
        return len(self.first_rows) - 1

    @cached_property
    def times(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last instant of each group, in ns."""
        times = np.array(self.native.times_ns, np.int64).reshape(-1, 2)
        if len(times) != self.num_groups:
            raise DataCorruptError(f"{self.path} does not say from when to when its row groups are; restore the file")
        return times[:, 0].copy(), times[:, 1].copy()

    def groups(self, span: Span, start: int | None, end: int | None) -> range:
        """The groups of a span, whose rows are in order of time, that hold instants of [start, end) ns."""
        first, stop = span.first_group, span.first_group + span.groups
        if span.groups == 1:
            return range(first, stop)
        lows, highs = self.times
        begin = 0 if start is None else int(np.searchsorted(highs[first:stop], start))
        until = span.groups if end is None else int(np.searchsorted(lows[first:stop], end))
        return range(first + begin, first + max(begin, until))

    def turns(self, groups: range, start: int, end: int) -> bool:
        """Whether one of some groups begins or ends in [start, end) ns, so that it has a row there."""
        return any(
            bool(np.any((times[groups.start : groups.stop] >= start) & (times[groups.start : groups.stop] < end)))
            for times in self.times
        )

    def between(self, start: int | None, end: int | None) -> list[int]:
        """All groups that hold instants of [start, end) ns."""
        if start is None and end is None:
            return list(range(self.num_groups))
        lows, highs = self.times
        keep = np.ones(self.num_groups, bool) if start is None else highs >= start
        return np.flatnonzero(keep if end is None else keep & (lows < end)).tolist()

    def bytes_of(self, groups: Iterable[int], names: Collection[str] | None = None) -> int:
        """Bytes of some columns, or of all, in some row groups."""
        return sum(
            chunk.total_compressed_size
            for group in map(self.metadata.row_group, groups)
            for chunk in map(group.column, range(group.num_columns))
            if names is None or chunk.path_in_schema.split(".")[0] in names
        )
