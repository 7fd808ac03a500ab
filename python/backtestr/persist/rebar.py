"""Stored bars against those that the ticks make, to the last digit, a month at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import DataCorruptError
from backtestr.instants import to_iso
from backtestr.models import Problem
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.storage.computed import computed_bars
from backtestr.storage.read import Reader
from backtestr.storage.snapshot import KINDS, Version, price_bases

_PLAIN = pa.schema(
    [
        column.with_type(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in BAR_SCHEMA
        if column.name != "vwap"
    ]
)


def compare_bars(reader: Reader, version: Version, symbol: str) -> tuple[int, list[Problem]]:
    """How many stored bars of a symbol were compared, and the first that is wrong of each basis and timeframe."""
    counts = version.symbols.get(symbol)
    bases = {*version.bases.get(symbol, ()), *(price_bases([counts[kind] for kind in KINDS]) if counts else ())}
    compared, problems = 0, []
    for basis in sorted(bases):
        # ticks of another basis may be there too, whose bars are not stored
        is_stored = counts is not None and basis in price_bases([counts[kind] for kind in KINDS])
        try:
            for rows, wrong in _compare(reader, version, symbol, basis, is_stored=is_stored):
                compared += rows
                problems += [wrong] if wrong is not None else []
        except DataCorruptError as error:
            problems.append(_problem(symbol, f"{basis} bars cannot be compared: {error}"))
    return compared, problems


def _compare(
    reader: Reader, version: Version, symbol: str, basis: str, *, is_stored: bool
) -> Iterator[tuple[int, Problem | None]]:
    known = set(version.listing.rows(["timeframe"])["timeframe"].unique().drop_null().to_pylist())
    reached: dict[str, int | None] = dict.fromkeys([*version.timeframes, *sorted(known - set(version.timeframes))])
    wrong: set[str] = set()
    made = computed_bars(reader, version, symbol, basis, version.timeframes) if is_stored else iter(())
    for bars in made:
        plain = bars.select(_PLAIN.names).cast(_PLAIN)
        for timeframe in version.timeframes:
            right = plain.filter(pc.equal(plain["timeframe"], timeframe))
            if timeframe in wrong or not right.num_rows:
                continue
            start, end = reached[timeframe], int(right["timestamp_utc"][-1].value) + 1
            stored = reader.bars(version, [symbol], timeframe, basis, start, end).cast(_PLAIN)
            reached[timeframe] = end
            if stored.equals(right):
                yield stored.num_rows, None
            else:
                wrong.add(timeframe)
                yield stored.num_rows, _first_wrong(version, symbol, basis, timeframe, stored, right)
    for timeframe, start in reached.items():
        if timeframe not in wrong:
            # any bar behind the last that the ticks make is one too many
            spans = version.listing.spans(symbol, start, timeframe=timeframe, basis=basis)
            if spans:
                more = reader.bars(version, [symbol], timeframe, basis, start).cast(_PLAIN)
                if more.num_rows:
                    right = _PLAIN.empty_table()
                    yield more.num_rows, _first_wrong(version, symbol, basis, timeframe, more, right)


def _first_wrong(
    version: Version, symbol: str, basis: str, timeframe: str, stored: pa.Table, right: pa.Table
) -> Problem:
    shared = min(stored.num_rows, right.num_rows)
    differs = np.zeros(shared, bool)
    for name in _PLAIN.names:
        one, other = (rows[name].slice(0, shared).combine_chunks() for rows in (stored, right))
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        differs |= ~pc.coalesce(pc.equal(one, other), both_null).to_numpy(zero_copy_only=False)
    place = int(np.argmax(differs)) if differs.any() else shared
    times = [int(rows["timestamp_utc"][place].value) for rows in (stored, right) if place < rows.num_rows]
    at = min(times)
    columns = [name for name in _PLAIN.names if place < shared and stored[name][place] != right[name][place]]
    if not columns or "timestamp_utc" in columns:
        is_missing = place >= stored.num_rows or (place < right.num_rows and times[1] < times[0])
        message = (
            f"{timeframe} {basis} bar at {to_iso(at)} is {'missing' if is_missing else 'one the ticks do not make'}"
        )
    else:
        message = f"{timeframe} {basis} bar at {to_iso(at)} is not that of the ticks in {', '.join(columns)}"
    spans = version.listing.spans(symbol, at, at + 1, timeframe=timeframe, basis=basis)
    return _problem(symbol, f"{symbol}: {message}", spans[0].file.path if spans else None)


def _problem(symbol: str, message: str, path: str | None = None) -> Problem:
    return Problem("bars", path or "data/bars", message, (symbol,))
