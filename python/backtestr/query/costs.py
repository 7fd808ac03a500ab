"""What a plan costs: rows and bytes by the index, time by what this machine took for requests like it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from backtestr.instants import to_iso
from backtestr.models import Estimate, Measured, Plan, Timeframe
from backtestr.query.advice import advise
from backtestr.query.named import Named
from backtestr.query.pruning import Part, Wanted
from backtestr.query.ranges import Range
from backtestr.query.sql import Prepared
from backtestr.query.tally import Run, Tallies, Tally
from backtestr.schema import END_NS, MIN_NS
from backtestr.storage import Storage
from backtestr.storage.footer import Footer
from backtestr.storage.snapshot import Version

_FITTED: Final = 256
"""Runs that an estimate is made from, at most."""


def with_costs(
    plan: Plan, storage: Storage, version: Version, tallies: Tallies, kind: str, like: Tally, *, rows: int, units: int
) -> Plan:
    """A plan with its estimate, what was measured, and advice.

    Args:
        plan: what is read.
        storage: the store.
        version: what it holds.
        tallies: what is remembered.
        kind: the request's kind: where it has run, its own runs are what is looked at.
        like: an empty tally of its family and timeframes; else runs of its family are, those apart that computed bars.
        rows: rows expected.
        units: what its time is judged by; see `Run`.
    """
    mine = tallies.get(kind)
    runs = _alike(tallies, like, version.timeframes) if mine is None else mine.recent
    return replace(
        plan,
        estimate=Estimate(rows, plan.bytes, fitted_ns(runs, units) / 1e6 if runs else None, len(runs)),
        measured=None if mine is None else _measured(mine),
        advice=advise(tallies, version, storage.settings.max_file_bytes),
    )


def _measured(tally: Tally) -> Measured:
    last = to_iso(tally.last_ns // 1_000_000_000 * 1_000_000_000)
    return Measured(tally.runs, tally.median_rows, tally.median_ns / 1e6, tally.slowest_ns / 1e6, last)


def _alike(tallies: Tallies, like: Tally, stored: Collection[str]) -> list[Run]:
    """The newest runs of a family that computed bars, or of one that did not, as an empty tally of it would."""
    mine = like.family, _computes(like, stored)
    alike = [one for one in tallies.values() if (one.family, _computes(one, stored)) == mine]
    alike.sort(key=lambda one: one.last_ns)
    return [run for one in alike for run in one.recent][-_FITTED:]


def fitted_ns(runs: Sequence[Run], units: int) -> float:
    """The time of a run of some units: on the line of the median slope between any two runs (Theil 1950, Sen 1968).

    Runs of one size tell no slope: a larger one is then taken to cost in proportion, a smaller one the same.
    """
    sizes = np.array([run.units for run in runs], np.float64)
    took = np.array([run.took_ns for run in runs], np.float64)
    first, second = np.triu_indices(len(runs), 1)
    differs = sizes[first] != sizes[second]
    first, second = first[differs], second[differs]
    if not len(first):
        return float(np.median(took) * max(units / max(sizes[0], 1), 1))
    slope = max(float(np.median((took[second] - took[first]) / (sizes[second] - sizes[first]))), 0)
    return max(float(np.median(took - slope * sizes)), 0) + slope * units


def expected_rows(part: Part, footer: Footer | None, groups: Sequence[int]) -> float:
    """Rows of a part in its range, if instants are spread evenly between the bounds that are known.

    Args:
        part: a file's spans, and the range.
        footer: has the bounds of row groups, which are closer; None where it was not read.
        groups: the row groups that may hold some.
    """
    if part.range == Range():
        return part.rows
    if part.spans is None:
        if footer is None or not groups:
            low, high = part.file.min_ns, part.file.max_ns
            return part.file.rows * (1 if low is None or high is None else _share(part.range, low, high))
        return float(_rows_of(footer, np.array(groups), part.range).sum())
    rows = 0.0
    for span in part.spans:
        if footer is None or span.groups == 1:
            rows += span.rows * _share(part.range, span.min_ns, span.max_ns)
        else:
            own = np.arange(span.first_group, span.first_group + span.groups)
            rows += float(_rows_of(footer, own, part.range).sum())
    return rows


def computed_rows(prepared: Prepared, named: Named) -> int:
    """The most bars that are computed for a statement and pass its conditions on time."""
    version, wanted = prepared.version, [Wanted.of(one) for one in prepared.sources if one.node in named.references]
    names = version.symbols if named.symbols is None else named.symbols & version.symbols.keys()
    frames = [Timeframe.parse(text) for text in named.timeframes]
    return sum(bucket_count(version, names, frame, want.range) for want in wanted for frame in frames)


def bucket_count(version: Version, names: Iterable[str], frame: Timeframe, within: Range) -> int:
    """The most bars that ticks of some symbols make: one for each, and one for each bucket."""
    most = 0
    for name in names:
        counts = version.symbols[name]
        low, high = max(within.low, counts["min_ns"]), min(within.high, counts["max_ns"] + 1)
        most += max(min(counts["rows"], -(-high // frame.ns) - low // frame.ns), 0)
    return most


def _rows_of(footer: Footer, groups: npt.NDArray[np.int64], within: Range) -> npt.NDArray[np.float64]:
    lows, highs = (times[groups] for times in footer.times)
    rows = np.diff(footer.first_rows)[groups]
    start, end = max(within.low, MIN_NS), min(within.high, END_NS)
    inside = np.minimum(highs + 1, end) - np.maximum(lows, start)
    return rows * np.clip(inside, 0, None) / (highs + 1 - lows)  # type: ignore[no-any-return]


def _share(within: Range, low: int, high: int) -> float:
    """The share of [low, high] ns that is within a range."""
    return max(min(high + 1, within.high) - max(low, within.low), 0) / (high + 1 - low)


def _computes(tally: Tally, stored: Collection[str]) -> bool:
    return any(timeframe not in stored for timeframe in tally.timeframes)
