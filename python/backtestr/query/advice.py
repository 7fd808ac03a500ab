"""One line of advice from the requests that are remembered: what would save most time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from backtestr.models import Timeframe
from backtestr.query.tally import SLOW_NS, Tallies, Tally
from backtestr.schema import END_NS, MIN_NS
from backtestr.storage.layout import BARS, TICKS
from backtestr.storage.listing import File
from backtestr.storage.snapshot import Version

_MANY_FILES: Final = 16
"""Files of an interval from which they are too many, where fewer would hold the same."""
_OFTEN: Final = 2
_SHOWN: Final = 3


def advise(tallies: Tallies, version: Version, max_file_bytes: int) -> str | None:
    """What would save most of the time that requests took; None where nothing would.

    Args:
        tallies: what is remembered.
        version: what the store holds now.
        max_file_bytes: where files are cut.
    """
    intervals = _slow_intervals(tallies, version)
    found = [*_timeframes(tallies, version), *_files(intervals, max_file_bytes)]
    return max(found)[1] if found else _slow(tallies, intervals)


def _timeframes(tallies: Tallies, version: Version) -> Iterator[tuple[int, str]]:
    """Timeframes that are computed again and again, with the time that takes in ns."""
    runs, took = Counter[str](), Counter[str]()
    for tally in tallies.values():
        for timeframe in tally.timeframes:
            if timeframe not in version.timeframes:
                runs[timeframe] += tally.runs
                took[timeframe] += tally.total_ns
    for timeframe, count in runs.items():
        if count >= _OFTEN:
            stored = sorted({*version.timeframes, timeframe}, key=lambda text: Timeframe.parse(text).ns)
            yield (
                took[timeframe],
                f"materialise {timeframe}: it is not stored, and requests that compute it ran {count:,} times, "
                f"{_seconds(took[timeframe])} in all; a store made with materialized_timeframes="
                f"'{' '.join(stored)}' holds it",
            )


def _files(intervals: Iterable[_Interval], max_file_bytes: int) -> Iterator[tuple[int, str]]:
    """Intervals of many small files that slow requests read, with the time of these requests in ns."""
    for one in intervals:
        fewer = -(-one.bytes // max_file_bytes)
        if one.files >= _MANY_FILES and fewer < one.files:
            yield (
                one.took_ns,
                f"merge {one.name}: slow requests read its {one.files:,} files, where {fewer:,} would hold the same; "
                "loading them anew in one call of ingest with mode='replace' makes them so",
            )


def _slow(tallies: Tallies, intervals: Iterable[_Interval]) -> str | None:
    """The intervals that slow requests read most often."""
    slow = [(tally.slow_ns, kind, tally.slow_runs) for kind, tally in tallies.items() if _is_slow(tally)]
    if not slow:
        return None
    most = sorted(intervals, key=lambda one: (-one.runs, one.name))[:_SHOWN]
    read = ", ".join(f"{one.name} ({one.runs:,})" for one in most)
    runs, took = sum(count for *_, count in slow), sum(total for total, *_ in slow)
    return (
        f"{runs:,} runs took more than {SLOW_NS // 1_000_000} ms, {_seconds(took)} in all"
        + (f", the newest reading {read}" if read else "")
        + f"; most of it is {max(slow)[1]}"
    )


@dataclass(slots=True)
class _Interval:
    """The files of a table and interval, and the slow runs that read them."""

    name: str
    files: int = 0
    bytes: int = 0
    min_ns: int = END_NS
    max_ns: int = MIN_NS
    runs: int = 0
    took_ns: int = 0

    def add(self, file: File) -> None:
        self.files += 1
        self.bytes += file.size
        self.min_ns = min(self.min_ns, MIN_NS if file.min_ns is None else file.min_ns)
        self.max_ns = max(self.max_ns, END_NS if file.max_ns is None else file.max_ns)


def _slow_intervals(tallies: Tallies, version: Version) -> list[_Interval]:
    """The intervals that the newest slow runs read."""
    reads = Counter[tuple[str, int, int]]()
    took = Counter[tuple[str, int, int]]()
    for tally in filter(_is_slow, tallies.values()):
        is_computed = any(timeframe not in version.timeframes for timeframe in tally.timeframes)
        for read in tally.slow:
            table = TICKS if read.table == BARS and is_computed else read.table
            window = table, MIN_NS if read.start is None else read.start, END_NS if read.end is None else read.end
            reads[window] += 1
            took[window] += read.took_ns
    found: dict[tuple[str, str], _Interval] = {}
    for table in {table for table, *_ in reads}:
        for file in version.of(table):
            key = table, file.interval
            found.setdefault(key, _Interval(f"{table} of {file.interval}")).add(file)
    for (table, start, end), count in reads.items():
        for (held, _), one in found.items():
            if held == table and one.max_ns >= start and one.min_ns < end:
                one.runs += count
                one.took_ns += took[table, start, end]
    return [one for one in found.values() if one.runs]


def _is_slow(tally: Tally) -> bool:
    """Whether a kind of request is slow as a rule: a first run that nothing was ready for is no sign."""
    return tally.slow_runs >= _OFTEN and tally.median_ns > SLOW_NS


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:,.1f} s" if ns >= 100_000_000 else f"{ns / 1e6:.3g} ms"
