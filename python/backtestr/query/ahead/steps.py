"""The windows of a walk: whole hours, days, weeks, months, years or timeframes, cut by its range."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from backtestr.errors import ArgumentError, TimeframeError
from backtestr.instants import END_NS, MIN_NS, to_datetime
from backtestr.models import Timeframe
from backtestr.storage.layout import DAY_NS, TICKS
from backtestr.storage.snapshot import Version

_MONTHS: Final = {"month": 1, "year": 12}
_FIXED: Final = {"hour": DAY_NS // 24, "day": DAY_NS, "week": 7 * DAY_NS}
_MONDAY_NS: Final = 4 * DAY_NS
"""The first Monday, in ns since 1970."""
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()
_SYMBOLS: Final = 64
"""With more of them, a walk looks for its next rows by file, as their places in files would be too many."""


@dataclass(frozen=True, slots=True)
class Step:
    """How long each window is: ns from an anchor on, or whole months."""

    ns: int
    anchor: int = 0
    months: int = 0

    @classmethod
    def parse(cls, by: str | Timeframe) -> Step:
        """Read ``by=`` of a walk.

        Raises:
            ArgumentError: it is neither a span of the calendar nor a timeframe.
        """
        if isinstance(by, str):
            if by in _MONTHS:
                return cls(0, months=_MONTHS[by])
            if by in _FIXED:
                return cls(_FIXED[by], _MONDAY_NS if by == "week" else 0)
        try:
            return cls(Timeframe.parse(by).ns)
        except (TimeframeError, TypeError) as error:
            names = ", ".join(map(repr, [*_FIXED, *_MONTHS]))
            raise ArgumentError(f"by={by!r}: choose one of {names}, or a timeframe such as '4h'") from error

    def floor(self, at: int) -> int:
        """Start of the window that holds an instant."""
        return self._month(at, 0) if self.months else at - (at - self.anchor) % self.ns

    def next(self, at: int) -> int:
        """Start of the window behind the one that holds an instant."""
        return self._month(at, self.months) if self.months else self.floor(at) + self.ns

    def _month(self, at: int, further: int) -> int:
        day = to_datetime(at)
        months = day.year * 12 + day.month - 1
        year, month = divmod(months - months % self.months + further, 12)
        return (dt.date(year, month + 1, 1).toordinal() - _EPOCH) * DAY_NS


@dataclass(frozen=True, slots=True)
class Cover:
    """Ranges of time, by time and apart from each other, outside of which there are no rows."""

    lows: Sequence[int]
    highs: Sequence[int]
    """The last instant of each."""

    @classmethod
    def of(cls, version: Version, symbols: Sequence[str], frame_ns: int = 1) -> Cover:
        """Of the ticks of symbols, or of their bars: a bar begins before its ticks, by less than its length."""
        found: list[tuple[int, int]]
        if len(symbols) > _SYMBOLS:
            files = version.listing.files_of(TICKS)
            found = [
                (file.min_ns, file.max_ns) for file in files if file.min_ns is not None and file.max_ns is not None
            ]
        else:
            found = [(span.min_ns, span.max_ns) for spans in version.listing.spans_of(symbols) for span in spans]
        live = (version.live.symbols[name] for name in symbols if name in version.live.symbols)
        found += [(counts["min_ns"], counts["max_ns"]) for counts in live]
        lows: list[int] = []
        highs: list[int] = []
        for low, high in sorted((low - low % frame_ns, high) for low, high in found):
            if highs and low <= highs[-1]:
                highs[-1] = max(highs[-1], high)
            else:
                lows.append(low)
                highs.append(high)
        return cls(lows, highs)

    def next(self, at: int) -> int | None:
        """The first instant from one on that may have rows; None behind the last."""
        place = bisect_right(self.lows, at) - 1
        if place >= 0 and at <= self.highs[place]:
            return at
        return self.lows[place + 1] if place + 1 < len(self.lows) else None

    def ends(self, step: Step, start: int | None, end: int | None) -> tuple[int, int]:
        """The range of a walk, an open end being that of the window with the first rows, or the last."""
        if not self.lows:
            return 0, 0
        low = max(step.floor(self.lows[0]), MIN_NS) if start is None else start
        high = min(step.next(self.highs[-1]), END_NS) if end is None else end
        return low, high


def windows(step: Step, start: int, end: int, cover: Cover | None = None) -> Iterator[tuple[int, int]]:
    """The windows of [start, end) ns, by time; with a cover, those that may have rows.

    Example:
        >>> list(windows(Step(10), 5, 30))
        [(5, 10), (10, 20), (20, 30)]
    """
    low = start
    while low < end:
        if cover is not None:
            rows = cover.next(low)
            if rows is None:
                return
            if rows >= step.next(low):
                low = step.floor(rows)
                if low >= end:
                    return
        high = min(step.next(low), end)
        yield low, high
        low = high
