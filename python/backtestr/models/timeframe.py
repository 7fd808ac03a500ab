"""Timeframes: the length of a bar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from backtestr._native import timeframe_label, timeframe_ns
from backtestr.errors import TimeframeError


@dataclass(frozen=True, slots=True, order=True)
class Timeframe:
    """A bar length that divides a day, or a whole number of days.

    Buckets are anchored at 1970-01-01T00:00:00Z (for lengths up to a day: at every UTC midnight) and labelled by
    their start. Timeframes order by length.

    Args:
        ns: length in ns.

    Raises:
        TimeframeError: the length neither divides a day nor is a whole number of days.

    Example:
        >>> Timeframe.parse("300s")
        Timeframe('5m')
        >>> Timeframe.parse("1m") < Timeframe.parse("1h")
        True
        >>> Timeframe.parse("1m").ns
        60000000000
    """

    ns: int

    STANDARD: ClassVar[tuple[str, ...]] = (
        "1s",
        "5s",
        "15s",
        "30s",
        "1m",
        "5m",
        "15m",
        "30m",
        "1h",
        "4h",
        "1d",
    )
    """The eleven timeframes that are always there, finest first."""

    def __post_init__(self) -> None:
        timeframe_label(self.ns)

    @classmethod
    def parse(cls, value: str | Timeframe) -> Timeframe:
        """Read a number and one of ns, us, ms, s, m, h, d; a timeframe is passed on.

        Raises:
            TimeframeError: the text is none, or the length neither divides a day nor is a whole number of days.

        Example:
            >>> str(Timeframe.parse("60m"))
            '1h'
        """
        if isinstance(value, Timeframe):
            return value
        if not isinstance(value, str):
            raise TimeframeError(f"a timeframe is text such as '5m', or a Timeframe, got {value!r}")
        return _parse(value)

    def floor(self, timestamp_ns: int) -> int:
        """Start of the bucket that holds an instant, both in ns since 1970-01-01 UTC.

        Example:
            >>> Timeframe.parse("1m").floor(-1)
            -60000000000
        """
        return timestamp_ns - timestamp_ns % self.ns

    def is_multiple_of(self, finer: Timeframe) -> bool:
        """Whether bars of ``finer`` add up to bars of this timeframe.

        Example:
            >>> Timeframe.parse("5m").is_multiple_of(Timeframe.parse("1m"))
            True
        """
        return self.ns % finer.ns == 0

    def __str__(self) -> str:
        return timeframe_label(self.ns)

    def __repr__(self) -> str:
        return f"Timeframe({str(self)!r})"


@lru_cache(maxsize=256)
def _parse(text: str) -> Timeframe:
    try:
        return Timeframe(timeframe_ns(text))
    except UnicodeEncodeError:
        raise TimeframeError(f"timeframe {text!r} is no text that UTF-8 has; write one such as 5m or 1d") from None
