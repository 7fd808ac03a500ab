"""How many rows a request finds, and where those that are read ahead of it go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backtestr.query.ahead.predict import Asked
from backtestr.storage.layout import TICKS
from backtestr.storage.read import Reader
from backtestr.storage.rowgroups import RowGroups
from backtestr.storage.snapshot import Version
from backtestr.storage.waiting import Place, WaitingGroups

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
    is_told = True
    for span in (span for spans in version.listing.spans_of(asked.symbols, start, end) for span in spans):
        if start <= span.min_ns < end or start <= span.max_ns < end:
            return True
        if span.groups > 1:
            footer = groups.footer(span.file)
            reached = footer.groups(span, start, end)
            if not reached:
                continue
            if footer.turns(reached, start, end):
                return True
        is_told = False
    if is_told and not version.live:
        return False
    try:
        held = Reader(groups.through(Filling(waiting, groups, None)))
        return bool(held.ticks(version, asked.symbols, start, end, ["timestamp_utc"]).num_rows)
    except StoppedError:
        return True


class StoppedError(Exception):
    """What is being read is not to be read, or no more."""


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
        if self._cache is not None:
            for place, is_held in enumerate(self._cache.holds(file_id, first, stop)):
                if is_held and found[place] is None:
                    at = first + place
                    found[place] = self._cache.get(file_id, at, at + 1, counted=False)[0]
        if self._owner is None and any(held is None for held in found):
            raise StoppedError
        return found

    def _waits(self, place: Place) -> Any:
        return self._waiting.peek(place) if self._owner is None else self._waiting.share(place, self._owner)

    def put(self, file_id: str, group: int, rows: Any, bytes: int) -> None:  # noqa: A002 - as a cache's
        """Have a group wait."""
        if self._owner is not None:
            self._waiting.put((file_id, group), rows, bytes, self._owner)

    def trim(self) -> None:
        """What waits is within its budget."""
