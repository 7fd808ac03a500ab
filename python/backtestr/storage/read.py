"""Files → canonical rows: verified, widened, in order."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.schema import MIN_NS, STORED_BARS
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.encode import ColumnLayouts, layout_of
from backtestr.storage.keys import times_ns
from backtestr.storage.layout import TICKS
from backtestr.storage.listing import File, Span
from backtestr.storage.rowgroups import RowGroups
from backtestr.storage.snapshot import Version
from backtestr.storage.ties import sort_as_stored
from backtestr.storage.windows import Windows


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


_GROUPS_AT_ONCE = 24
_NO_BARS = STORED_BARS.empty_table()


class Reader:
    """Reads a store's data files. Safe to share between threads."""

    def __init__(self, groups: RowGroups) -> None:
        self.groups = groups

    def ticks(
        self,
        version: Version,
        symbols: Iterable[str],
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Ticks of symbols in [start, end) ns, ordered by (symbol, timestamp_utc, sequence)."""
        wanted = needed = TICK_SCHEMA
        if columns is not None:
            wanted = pa.schema([field for field in TICK_SCHEMA if field.name in columns])
            needed = pa.schema([f for f in TICK_SCHEMA if f in wanted or f.name in {"timestamp_utc", "symbol"}])
        names = sorted(set(symbols), key=str.encode)
        found = []
        for symbol, spans in zip(names, version.listing.spans_of(names, start, end), strict=True):
            live = version.live.of_symbol(symbol, start, end)
            found.append((live.num_rows > 0 or _overlap(spans), spans, live))
        parts: list[pa.Table] = []
        for is_mixed, some in itertools.groupby(found, operator.itemgetter(0)):
            alike = list(some)
            spans = [span for _, spans, _ in alike for span in spans]
            windows = Windows(self.groups, spans, TICK_SCHEMA if is_mixed else needed, start, end)
            if is_mixed:
                tables = (pa.concat_tables([windows.table(spans), live]) for _, spans, live in alike)
                parts.extend(sort_as_stored(rows, version).select(needed.names) for rows in tables)
            else:
                parts.append(windows.table(spans))
        table = parts[0] if len(parts) == 1 else pa.concat_tables([needed.empty_table(), *parts])
        return (table if needed is wanted else table.select(wanted.names)).unify_dictionaries()

    def latest(self, version: Version, symbols: Iterable[str]) -> pa.Table:
        """The newest tick of each symbol, the last of those at its instant; by symbol."""
        names = sorted(set(symbols), key=str.encode)
        place = {name: position for position, name in enumerate(names)}
        filed, owners, is_shared = version.listing.last_rows(names)
        filed_ns, live_ns = np.full((2, len(names)), MIN_NS - 1)
        filed_ns[owners] = times_ns(filed)
        for name, counts in version.live.symbols.items():
            if name in place:
                live_ns[place[name]] = counts["max_ns"]
        is_tied = (filed_ns == live_ns) & (live_ns >= MIN_NS)
        is_tied[owners[is_shared]] = True
        is_live = (live_ns > filed_ns) & ~is_tied
        in_file = filed.filter(pa.array(~(is_tied | is_live)[owners]))
        parts = [_as_ticks(in_file), version.live.last_rows(names[at] for at in np.flatnonzero(is_live))]
        for at in np.flatnonzero(is_tied).tolist():
            instant = int(max(filed_ns[at], live_ns[at]))
            rows = self.ticks(version, [names[at]], instant, instant + 1)
            parts.append(rows.slice(rows.num_rows - 1))
        table = pa.concat_tables(parts).unify_dictionaries()
        if in_file.num_rows == table.num_rows:
            return table
        return table.take(np.argsort([place[name] for name in table["symbol"].to_pylist()]))

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
            windows = Windows(self.groups, [span], TICK_SCHEMA, start, end, keep=False)
            first, stop = windows.rows(span)
            rows = windows.table([span])
            parts.append(Located(rows, [span.file.file_id], np.zeros(stop - first, np.int64), np.arange(first, stop)))
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
        names = sorted(set(symbols), key=str.encode)
        found = version.listing.spans_of(names, start, end, timeframe=timeframe, basis=basis)
        parts: list[pa.Table] = []
        # A month's file goes on behind that of a day of its own.
        for overlap, some in itertools.groupby(found, _overlap):
            alike = list(some)
            windows = Windows(self.groups, itertools.chain.from_iterable(alike), STORED_BARS, start, end)
            if overlap:
                parts.extend(windows.table(spans).unify_dictionaries().sort_by("timestamp_utc") for spans in alike)
            else:
                parts.append(windows.table(itertools.chain.from_iterable(alike)))
        return (parts[0] if len(parts) == 1 else pa.concat_tables([_NO_BARS, *parts])).unify_dictionaries()

    def file_parts(self, file: File) -> Iterator[tuple[int, pa.Table]]:
        """All rows of a file in canonical columns, some row groups at a time, with the number of the first row."""
        schema = TICK_SCHEMA if file.table == TICKS else STORED_BARS
        footer = self.groups.footer(file)
        for start in range(0, footer.num_groups, _GROUPS_AT_ONCE):
            groups = range(start, min(start + _GROUPS_AT_ONCE, footer.num_groups))
            yield footer.first_rows[start], pa.Table.from_batches(self.groups.decode(file, groups, schema), schema)

    def columns(self, file: File) -> ColumnLayouts:
        """The layout that a file's ticks are stored in."""
        stored = {column.name: column for column in self.groups.footer(file).schema}
        return [layout_of(stored.get(column.name)) for column in TICK_SCHEMA]


def _as_ticks(rows: pa.Table) -> pa.Table:
    """Rows as the index keeps them, in canonical columns."""
    return pa.table([rows[column.name].cast(column.type) for column in TICK_SCHEMA], schema=TICK_SCHEMA)


def _overlap(spans: Sequence[Span]) -> bool:
    """Whether rows of some spans of a symbol are between those of others."""
    return any(a.max_ns >= b.min_ns for a, b in itertools.pairwise(spans))
