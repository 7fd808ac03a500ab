"""How one window of time follows on another: by ns, or by whole months."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Final, NamedTuple, Self

from backtestr.instants import END_NS, MIN_NS, to_datetime
from backtestr.storage.layout import DAY_NS

_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


class Stride(NamedTuple):
    """What is added to start and end: ns, or months where both are the beginning of one."""

    start: int
    end: int
    is_months: bool = False

    @classmethod
    def between(cls, one: tuple[int, int], other: tuple[int, int]) -> Self:
        """The stride from a window to another."""
        months = [_month_at(at) for at in (*one, *other)]
        if None in months:
            return cls(other[0] - one[0], other[1] - one[1])
        a, b, c, d = (month or 0 for month in months)
        return cls(c - a, d - b, is_months=True)

    def after(self, window: tuple[int, int]) -> tuple[int, int] | None:
        """The window that a stride leads to; None beyond the valid years."""
        if self.is_months:
            months = [_month_at(at) for at in window]
            if None in months:
                return None
            low, high = (_start_of((month or 0) + by) for month, by in zip(months, self[:2], strict=True))
        else:
            low, high = window[0] + self.start, window[1] + self.end
        return (low, high) if MIN_NS <= low < high <= END_NS else None

    @property
    def moves(self) -> bool:
        """Whether it shifts a window, by the same at both ends."""
        return self.start == self.end != 0


@lru_cache(maxsize=1_024)
def _month_at(at: int) -> int | None:
    """Months since the year 0 of an instant that is the beginning of one."""
    if at % DAY_NS:
        return None
    day = to_datetime(at)
    return day.year * 12 + day.month - 1 if day.day == 1 else None


def _start_of(month: int) -> int:
    year, rest = divmod(month, 12)
    if not 1 <= year <= 9999:
        return END_NS + 1 if year > 0 else MIN_NS - 1
    return (dt.date(year, rest + 1, 1).toordinal() - _EPOCH) * DAY_NS
