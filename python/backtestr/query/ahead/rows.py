"""How many rows a request finds, and where those that are read ahead of it go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from backtestr.query.ahead.passing import StoppedError, add_cached
from backtestr.query.ahead.predict import Asked
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.layout import TICKS
from backtestr.storage.listing import Span
from backtestr.storage.rowgroups import RowGroups
from backtestr.storage.snapshot import Version
from backtestr.storage.waiting import Place, WaitingGroups
from backtestr.storage.windows import Windows

_TIMES: Final = pa.schema([TICK_SCHEMA.field("timestamp_utc")])
_SYMBOLS: Final = 64
"""With more of them, rows are counted by file."""


def rows_of(version: Version, asked: Asked) -> float:
    """About how many ticks a request reads, as if they were spread evenly over each file; 0 if there are none."""
    start, end = asked.window
    found: list[tuple[int, int, int]]
    if 0 < len(asked.symbols) <= _SYMBOLS:
        spans = version.listing.spans_of(asked.symbols, start, end)
        found = [(span.rows, span.min_ns, span.max_ns) for some in spans for span in some]
    else:
        files = version.listing.files_of(TICKS, start, end)
        found = [(file.rows, file.min_ns or 0, file.max_ns or 0) for file in files]
    live = (version.live.symbols[name] for name in asked.symbols if name in version.live.symbols)
    found += [(counts["rows"], counts["min_ns"], counts["max_ns"]) for counts in live]
    return sum(
        rows * (min(end, high + 1) - max(start, low)) / (high + 1 - low)
        for rows, low, high in found
        if low < end and high >= start
    )


def has_rows(version: Version, groups: RowGroups, waiting: WaitingGroups, asked: Asked) -> bool:
    """Whether a request finds ticks, as far as that can be told without reading a file's rows; else it may."""
    start, end = asked.window
    if not 0 < len(asked.symbols) <= _SYMBOLS:
        return rows_of(version, asked) > 0
    if any(_is_live(version, name, start, end) for name in asked.symbols):
        return True
    held = groups.through(Filling(waiting, groups, None))
    try:
        return any(
            _reaches(span, held, start, end)
            for spans in version.listing.spans_of(asked.symbols, start, end)
            for span in spans
        )
    except StoppedError:
        return True


def is_cached(version: Version, groups: RowGroups, asked: Asked) -> bool:
    """Whether all ticks of a request are in the cache."""
    if asked.kind != "ticks" or not 0 < len(asked.symbols) <= _SYMBOLS or groups.cache is None:
        return False
    start, end = asked.window
    for span in (span for spans in version.listing.spans_of(asked.symbols, start, end) for span in spans):
        reached = groups.footer(span.file).groups(span, start, end)
        if not all(groups.cache.holds(span.file.file_id, reached.start, reached.stop)):
            return False
    return True


def _is_live(version: Version, symbol: str, start: int, end: int) -> bool:
    """Whether live ticks of a symbol may be in [start, end) ns."""
    counts = version.live.symbols.get(symbol) if version.live else None
    return counts is not None and counts["min_ns"] < end and counts["max_ns"] >= start


def _reaches(span: Span, held: RowGroups, start: int, end: int) -> bool:
    """Whether a span has rows in [start, end) ns.

    Raises:
        StoppedError: its rows are not in memory.
    """
    if start <= span.min_ns < end or start <= span.max_ns < end:
        return True
    if span.groups > 1:
        footer = held.footer(span.file)
        if footer.turns(footer.groups(span, start, end), start, end):
            return True
    first, stop = Windows(held, [span], _TIMES, start, end).rows(span)
    return stop > first


class Filling:
    """Has row groups wait that are neither in the cache nor waiting.

    Args:
        waiting: where they wait.
        groups: the store's, with its cache.
        owner: the number of the prediction that they are read for; None to read none.
        is_stopped: whether to read no further.
    """

    def __init__(
        self,
        waiting: WaitingGroups,
        groups: RowGroups,
        owner: int | None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._waiting = waiting
        self._cache = groups.cache
        self._owner = owner
        self._is_stopped = is_stopped

    def get(self, file_id: str, first: int, stop: int) -> list[Any]:
        """What is held of each group of a file from ``first`` to before ``stop``, or None."""
        if self._is_stopped():
            raise StoppedError
        found = [self._waits((file_id, group)) for group in range(first, stop)]
        add_cached(found, self._cache, file_id, first)
        missing = [(file_id, first + place) for place, held in enumerate(found) if held is None]
        if missing and (self._owner is None or not self._waiting.being_read.isdisjoint(missing)):
            raise StoppedError
        if missing:
            self._waiting.expect(missing)
        return found

    def _waits(self, place: Place) -> Any:
        return self._waiting.peek(place) if self._owner is None else self._waiting.share(place, self._owner)

    def put(self, file_id: str, group: int, rows: Any, bytes: int) -> None:  # noqa: A002 - as a cache's
        """Have a group wait."""
        if self._owner is not None:
            self._waiting.put((file_id, group), rows, bytes, self._owner)

    def trim(self) -> None:
        """What waits is within its budget."""
