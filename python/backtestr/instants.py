"""Points in time as callers write them, turned into nanoseconds since 1970-01-01 UTC."""

from __future__ import annotations

import datetime as dt
import operator
import re
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from backtestr.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np

    Instant: TypeAlias = "dt.datetime | dt.date | np.datetime64 | str | int"
else:
    Instant: TypeAlias = Any

MIN_NS = -9_214_560_000_000_000_000
"""First valid instant, 1678-01-01T00:00:00Z, in ns."""
END_NS = 9_214_646_400_000_000_000
"""First instant after the valid ones, 2262-01-01T00:00:00Z, in ns."""

_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
_FRACTION = re.compile(r"^([^.,]*:\d\d(?::?\d\d)?|[^.,]*[T ]\d{6})[.,](\d+)(.*)$", re.DOTALL)
_UNIT_NS = {
    "W": 604_800_000_000_000,
    "D": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}


def to_ns(value: Instant, *, argument: str = "timestamp", exclusive: bool = False) -> int:
    """Turn a point in time into ns since 1970-01-01 UTC.

    Args:
        value: an aware `datetime` (converted to UTC) or a naive one (taken as UTC), a `date` (its midnight UTC),
            a `pandas.Timestamp`, a `numpy.datetime64`, an ISO 8601 text, or an integer count of ns.
        argument: the caller's name for the value, for the error's message.
        exclusive: whether the value ends a half-open range, so that 2262-01-01 itself is taken.

    Returns:
        Nanoseconds since 1970-01-01T00:00:00Z, negative before it.

    Raises:
        ArgumentError: the value is of another type, unreadable, finer than 1 ns, or outside [1678, 2262).

    Example:
        >>> to_ns("2013-10-08T09:30:00-04:00")
        1381239000000000000
        >>> to_ns("1970-01-01 00:00:00.000000001")
        1
    """
    ns = _convert(value, argument)
    if not MIN_NS <= ns < END_NS + int(exclusive):
        raise ArgumentError(f"{argument}={value!r} is outside the valid years 1678 to 2261")
    return ns


def range_ns(start: Instant | None, end: Instant | None) -> tuple[int | None, int | None]:
    """Turn the ends of a half-open range into ns; None is open.

    Args:
        start: first instant.
        end: instant after the last.

    Raises:
        ArgumentError: as `to_ns`, or start is not before end.

    Example:
        >>> range_ns("1970-01-01T00:00:01Z", None)
        (1000000000, None)
    """
    low = None if start is None else to_ns(start, argument="start")
    high = None if end is None else to_ns(end, argument="end", exclusive=True)
    if low is not None and high is not None and low >= high:
        raise ArgumentError(f"start={start!r} is not before end={end!r}; ranges are half-open, [start, end)")
    return low, high


def to_datetime(ns: int) -> dt.datetime:
    """Turn ns since 1970-01-01 UTC into an aware `datetime`, floored to the microsecond.

    Args:
        ns: nanoseconds since 1970-01-01T00:00:00Z.

    Example:
        >>> to_datetime(1_381_239_000_000_000_999).isoformat()
        '2013-10-08T13:30:00+00:00'
    """
    return _EPOCH.replace(tzinfo=dt.UTC) + dt.timedelta(microseconds=ns // 1000)


def to_iso(ns: int) -> str:
    """Write ns since 1970-01-01 UTC as ISO 8601 text with as many decimals of a second as it needs.

    Args:
        ns: nanoseconds since 1970-01-01T00:00:00Z.

    Example:
        >>> to_iso(1_381_239_000_000_000_001)
        '2013-10-08T13:30:00.000000001Z'
        >>> to_iso(0)
        '1970-01-01T00:00:00Z'
    """
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = to_datetime(seconds * 1_000_000_000).strftime("%Y-%m-%dT%H:%M:%S")
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text}{decimals}Z"


def plain_instant(ns: int) -> str | int:
    """ISO 8601 text that `to_ns` reads back, or the bare number where the instant is not a valid one."""
    return to_iso(ns) if MIN_NS <= ns < END_NS else ns


def _convert(value: object, argument: str) -> int:
    if isinstance(value, dt.datetime):
        return _from_datetime(value, argument)
    if isinstance(value, dt.date):
        return (value.toordinal() - _EPOCH.toordinal()) * _UNIT_NS["D"]
    if isinstance(value, str):
        return _from_text(value, argument)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.datetime64):
        return _from_numpy(value, argument)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentError(
            f"{argument}={value!r} is a {type(value).__name__}; pass a datetime, a date, an ISO text or ns as an int"
        )
    return operator.index(value)


def _from_datetime(value: dt.datetime, argument: str) -> int:
    try:
        plain = dt.datetime(
            value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond
        )
        offset = value.utcoffset() or dt.timedelta(0)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{argument}={value!r} is not a point in time") from error
    # timedelta arithmetic is exact; going through timestamp() would round in float
    microseconds = (plain - _EPOCH) // _MICROSECOND - offset // _MICROSECOND
    return microseconds * 1000 + int(getattr(value, "nanosecond", 0))


def _from_text(text: str, argument: str) -> int:
    tail_ns = 0
    head = text.strip()
    if (match := _FRACTION.match(head)) is not None:
        before, digits, after = match.groups()
        if digits[9:].strip("0"):
            raise ArgumentError(f"{argument}={text!r} is finer than 1 ns")
        # fromisoformat() drops digits beyond the sixth without a word
        tail_ns = int(digits.ljust(9, "0")[6:9])
        head = f"{before}.{digits[:6].ljust(6, '0')}{after}"
    try:
        parsed = dt.datetime.fromisoformat(head)
    except ValueError as error:
        raise ArgumentError(
            f"{argument}={text!r} is not an ISO 8601 time; write 2013-10-08 or 2013-10-08T09:30:00-04:00"
        ) from error
    return _from_datetime(parsed, argument) + tail_ns


def _from_numpy(value: np.datetime64, argument: str) -> int:
    import numpy as np

    if np.isnat(value):
        raise ArgumentError(f"{argument}={value!r} is not a point in time")
    unit, step = np.datetime_data(value.dtype)
    if unit in ("Y", "M"):
        value, unit, step = value.astype("datetime64[D]"), "D", 1
    if unit not in _UNIT_NS:
        raise ArgumentError(f"{argument}={value!r} has unit {unit}; use ns or coarser")
    return int(value.astype(np.int64)) * step * _UNIT_NS[unit]
