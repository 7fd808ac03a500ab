"""Files → canonical rows: verified, widened, in order."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import crc32c, widen
from backtestr.errors import DataCorruptError
from backtestr.schema import STORED_BARS
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.encode import ColumnLayouts, layout_of
from backtestr.storage.footer import Footer
from backtestr.storage.keys import between
from backtestr.storage.layout import TICKS, Layout
from backtestr.storage.listing import File, Span
from backtestr.storage.snapshot import Version
from backtestr.storage.ties import sort_as_stored
from backtestr.storage.write import read_footer


@dataclass(frozen=True, slots=True)
class Located:
    """Rows with the place of each: its file, as a position in ``file_ids``, and its row in that file."""

    rows: pa.Table
    file_ids: list[str]
    file: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence[Located]) -> Located:
        """All parts as one."""
        offsets = np.cumsum([0, *(len(part.file_ids) for part in parts)])
        return cls(
            pa.concat_tables([TICK_SCHEMA.empty_table(), *(part.rows for part in parts)]).unify_dictionaries(),
            [file_id for part in parts for file_id in part.file_ids],
            np.concatenate([np.zeros(0, np.int64), *(p.file + o for p, o in zip(parts, offsets, strict=False))]),
            np.concatenate([np.zeros(0, np.int64), *(part.row for part in parts)]),
        )


_FOOTERS = 4_096
_GROUPS_AT_ONCE = 24
_TEXT = {"symbol", "conditions", "timeframe", "price_basis"}


class Reader:
    """Reads a store's data files; keeps their footers. Safe to share between threads."""

    def __init__(self, layout: Layout, *, verify: bool) -> None:
        self._layout = layout
        self._verify = verify
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._lock = threading.Lock()

    def ticks(
        self,
        version: Version,
        symbols: Iterable[str],
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Ticks of symbols in [start, end) ns, ordered by (symbol, timestamp_utc, sequence)."""
        wanted = pa.schema([field for field in TICK_SCHEMA if columns is None or field.name in columns])
        needed = pa.schema([f for f in TICK_SCHEMA if f in wanted or f.name in {"timestamp_utc", "symbol"}])
        parts = []
        for symbol in sorted(set(symbols), key=str.encode):
            spans = version.listing.spans(symbol, start, end)
            live = version.live.of_symbol(symbol, start, end)
            overlap = live.num_rows > 0 or any(a.max_ns >= b.min_ns for a, b in itertools.pairwise(spans))
            schema = TICK_SCHEMA if overlap else needed
            rows = [self._span(span, schema, start, end) for span in spans]
            rows += [live] if live.num_rows else []
            parts.extend([sort_as_stored(pa.concat_tables(rows), version)] if overlap else rows)
        table = pa.concat_tables([part.select(wanted.names) for part in parts] or [wanted.empty_table()])
        return table.unify_dictionaries()

    def located(
        self,
        version: Version,
        symbol: str,
        start: int | None = None,
        end: int | None = None,
        sequences: tuple[int, int] | None = None,
    ) -> Located:
        """Ticks of a symbol in [start, end) ns with the place of each, file by file.

        With ``sequences`` only files that may hold one from the first to the second of them.
        """
        parts = []
        for span in version.listing.spans(symbol, start, end):
            if sequences and (span.max_sequence < sequences[0] or span.min_sequence > sequences[1]):
                continue
            rows, first = self._window(span, TICK_SCHEMA, start, end)
            place = np.arange(first, first + rows.num_rows)
            parts.append(Located(rows, [span.file.file_id], np.zeros(rows.num_rows, np.int64), place))
        return Located.join(parts)

    def bars(
        self,
        version: Version,
        symbols: Iterable[str],
        timeframe: str,
        basis: str,
        start: int | None = None,
        end: int | None = None,
    ) -> pa.Table:
        """Stored bars of one timeframe and basis with start in [start, end) ns, without vwap."""
        parts = [STORED_BARS.empty_table()]
        for symbol in sorted(set(symbols), key=str.encode):
            spans = version.listing.spans(symbol, start, end, timeframe=timeframe, basis=basis)
            rows = [self._span(span, STORED_BARS, start, end) for span in spans]
            # A month's file goes on behind that of a day of its own.
            overlap = any(a.max_ns >= b.min_ns for a, b in itertools.pairwise(spans))
            parts.extend([pa.concat_tables(rows).unify_dictionaries().sort_by("timestamp_utc")] if overlap else rows)
        return pa.concat_tables(parts).unify_dictionaries()

    def file_parts(self, file: File) -> Iterator[tuple[int, pa.Table]]:
        """All rows of a file in canonical columns, some row groups at a time, with the number of the first row."""
        schema = TICK_SCHEMA if file.table == TICKS else STORED_BARS
        with self._open(file) as parquet:
            first = 0
            for start in range(0, parquet.num_row_groups, _GROUPS_AT_ONCE):
                groups = list(range(start, min(start + _GROUPS_AT_ONCE, parquet.num_row_groups)))
                rows = widen(_decoded(parquet, file, groups, schema), schema)
                yield first, rows
                first += rows.num_rows

    def columns(self, file: File) -> ColumnLayouts:
        """The layout that a file's ticks are stored in."""
        with self._open(file) as parquet:
            stored = {column.name: column for column in parquet.schema_arrow}
        return [layout_of(stored.get(column.name)) for column in TICK_SCHEMA]

    def _span(self, span: Span, schema: pa.Schema, start: int | None, end: int | None) -> pa.Table:
        return self._window(span, schema, start, end)[0]

    def _window(self, span: Span, schema: pa.Schema, start: int | None, end: int | None) -> tuple[pa.Table, int]:
        """Rows of a span in [start, end), and the row of its file that they begin at."""
        footer = self._footer(span.file)
        groups = footer.groups(span, start, end)
        if not groups:
            return schema.empty_table(), span.first_row
        first = max(span.first_row, int(footer.first_rows[groups.start]))
        stop = min(span.first_row + span.rows, int(footer.first_rows[groups.stop]))
        with self._open(span.file) as parquet:
            stored = _decoded(parquet, span.file, list(groups), schema)
        stored = stored.slice(first - int(footer.first_rows[groups.start]), stop - first)
        if stored.num_rows != stop - first:
            raise DataCorruptError(f"{span.file.path} has fewer rows than the log says; restore the file")
        rows = widen(stored, schema)
        if (start is None or start <= span.min_ns) and (end is None or span.max_ns < end):
            return rows, first
        # Bars are in order of time within a span too: a span has one timeframe and basis.
        skipped, taken = between(rows, start, end)
        return rows.slice(skipped, taken - skipped), first + skipped

    def _open(self, file: File) -> pq.ParquetFile:
        metadata = self._footer(file).metadata
        return pq.ParquetFile(
            self._layout.root / file.path,
            metadata=metadata,
            read_dictionary=_TEXT.intersection(metadata.schema.names),
            page_checksum_verification=self._verify,
            pre_buffer=False,
        )

    def _footer(self, file: File) -> Footer:
        with self._lock:
            known = self._footers.get(file.file_id)
        if known is not None:
            return known
        path = self._layout.root / file.path
        try:
            with path.open("rb") as raw:
                if self._verify and crc32c(read_footer(raw)) != file.footer_crc32c:
                    raise DataCorruptError(f"the footer of {path} does not match the log; restore the file")
            footer = Footer(pq.read_metadata(path))
        except (OSError, pa.ArrowException) as error:
            raise DataCorruptError(f"{path} cannot be read: {error}; restore the file") from error
        with self._lock:
            self._footers[file.file_id] = footer
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return footer


def _decoded(parquet: pq.ParquetFile, file: File, groups: list[int], schema: pa.Schema) -> pa.Table:
    present = [name for name in schema.names if name in parquet.schema_arrow.names]
    try:
        stored = parquet.read_row_groups(groups, columns=present, use_threads=len(groups) > 1)
        for column in stored.columns:
            # no checksum covers a page's header: where it hides the dictionary, the codes point at nothing
            if pa.types.is_dictionary(column.type):
                column.validate(full=True)
        return stored
    except (OSError, pa.ArrowException) as error:
        raise DataCorruptError(f"{file.path} does not decode: {error}; restore the file") from error
