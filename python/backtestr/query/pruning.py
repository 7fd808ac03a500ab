"""Which files the references of a statement need: those that may hold rows within the bounds of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from backtestr.query.bounds import TIMES
from backtestr.query.ranges import Range
from backtestr.query.references import VIEWS, Source
from backtestr.storage.layout import BARS
from backtestr.storage.listing import File, Span
from backtestr.storage.snapshot import Version

_LOOKED_UP: Final = 256
"""Symbols that are looked up one by one at most: more of them are in most files."""


class Wanted(NamedTuple):
    """The rows of a table that may matter: of some symbols and timeframes, in a range of time; None is all of them."""

    symbols: frozenset[str] | None = None
    timeframes: frozenset[str] | None = None
    range: Range = Range()

    @classmethod
    def of(cls, source: Source) -> Wanted:
        """What a reference requires."""
        within = Range()
        for column in TIMES:
            within &= source.bounds.get(column, within)
        return cls(source.bounds.get("symbol"), source.bounds.get("timeframe"), within)


class Part(NamedTuple):
    """A file that may hold rows that matter."""

    file: File
    spans: list[Span] | None
    """Where the index has them; None where it was not asked."""
    range: Range

    @property
    def rows(self) -> int:
        """Rows that may matter, as far as the index tells."""
        return self.file.rows if self.spans is None else sum(span.rows for span in self.spans)


def needed(version: Version, table: str, wanted: Iterable[Wanted]) -> list[Part]:
    """The files of a table that may hold rows that are wanted, each once; all of them where nothing says what is."""
    found: dict[str, Part] = {}
    for want in wanted:
        for part in _parts(version, table, want):
            known = found.get(part.file.file_id, part)
            is_known = known.spans is not None and part.spans is not None
            spans = list(dict.fromkeys([*known.spans, *part.spans])) if is_known else None  # type: ignore[misc]
            found[part.file.file_id] = Part(part.file, spans, known.range | part.range)
    return list(found.values())


def _parts(version: Version, table: str, want: Wanted) -> list[Part]:
    start, end = want.range.start, want.range.end
    if want.range.is_empty or want.symbols == frozenset():
        return []
    if table not in VIEWS or want.symbols is None or len(want.symbols) > _LOOKED_UP:
        return [Part(file, None, want.range) for file in version.listing.files_of(table, start, end)]
    symbols = sorted(want.symbols)
    found: dict[str, Part] = {}
    for timeframe, basis in _keys(version, table, want):
        for spans in version.listing.spans_of(symbols, start, end, timeframe=timeframe, basis=basis):
            for span in spans:
                part = found.setdefault(span.file.file_id, Part(span.file, [], want.range))
                part.spans.append(span)  # type: ignore[union-attr]
    return list(found.values())


def _keys(version: Version, table: str, want: Wanted) -> list[tuple[str | None, str | None]]:
    """The timeframes and bases under which the index has the rows of a table."""
    if table != BARS:
        return [(None, None)]
    bases = {basis for symbol in want.symbols or () for basis in version.listing.bases.get(symbol, ())}
    timeframes = version.timeframes if want.timeframes is None else sorted(want.timeframes)
    return [(timeframe, basis) for timeframe in timeframes for basis in sorted(bases)]
