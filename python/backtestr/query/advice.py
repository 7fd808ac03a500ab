"""One line of advice from the requests that are remembered: what would save most time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from backtestr.models import Timeframe
from backtestr.query.tally import SLOW_NS, Tallies, Tally
from backtestr.storage.layout import BARS, TICKS
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
    found = [*_timeframes(tallies, version), *_intervals(tallies, version, max_file_bytes)]
    return max(found)[1] if found else _slow(tallies, version)


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


def _intervals(tallies: Tallies, version: Version, max_file_bytes: int) -> Iterator[tuple[int, str]]:
    """Intervals of many small files that slow requests read, with the time of these requests in ns."""
    took = _slow_intervals(tallies, version)[1]
    for (table, interval), total in took.items():
        files = [file.size for file in version.of(table) if file.interval == interval]
        fewer = -(-sum(files) // max_file_bytes)
        if len(files) >= _MANY_FILES and fewer < len(files):
            yield (
                total,
                f"merge {table} of {interval}: slow requests read its {len(files):,} files, where {fewer:,} would hold "
                "the same; loading them anew in one call of ingest with mode='replace' makes them so",
            )


def _slow(tallies: Tallies, version: Version) -> str | None:
    """The intervals that slow requests read most often."""
    slow = [(tally.slow_ns, kind, tally.slow_runs) for kind, tally in tallies.items() if _is_slow(tally)]
    if not slow:
        return None
    counts = _slow_intervals(tallies, version)[0]
    most = sorted(counts, key=lambda key: (-counts[key], key))[:_SHOWN]
    read = ", ".join(f"{table} of {interval} ({counts[table, interval]:,})" for table, interval in most)
    runs, took = sum(count for *_, count in slow), sum(total for total, *_ in slow)
    return (
        f"{runs:,} runs took more than {SLOW_NS // 1_000_000} ms, {_seconds(took)} in all"
        + (f", the newest reading {read}" if read else "")
        + f"; most of it is {max(slow)[1]}"
    )


def _slow_intervals(tallies: Tallies, version: Version) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """How many of the newest slow runs read each interval of a table, and what they took in ns."""
    runs, took = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for tally in filter(_is_slow, tallies.values()):
        for read in tally.slow:
            is_computed = any(timeframe not in version.timeframes for timeframe in tally.timeframes)
            table = TICKS if read.table == BARS and is_computed else read.table
            for interval in {file.interval for file in version.listing.files_of(table, read.start, read.end)}:
                runs[table, interval] += 1
                took[table, interval] += read.took_ns
    return runs, took


def _is_slow(tally: Tally) -> bool:
    """Whether a kind of request is slow as a rule: a first run that nothing was ready for is no sign."""
    return tally.slow_runs >= _OFTEN and tally.median_ns > SLOW_NS


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:,.1f} s" if ns >= 100_000_000 else f"{ns / 1e6:.3g} ms"
