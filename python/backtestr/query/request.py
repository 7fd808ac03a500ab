"""Requests for ticks and bars, answered from one version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from backtestr._native import append_vwap, sort_ticks
from backtestr.errors import ArgumentError
from backtestr.models import PRICE_BASES, Timeframe
from backtestr.query.cut import ALL, Cut
from backtestr.schema import BARS, TICKS
from backtestr.storage import Storage
from backtestr.storage.computed import computed_bars
from backtestr.storage.keys import times_ns
from backtestr.storage.snapshot import Version

_NO_BARS = BARS.empty_table()


def read_ticks(
    storage: Storage,
    version: Version,
    symbols: str | Iterable[str] | None,
    start: int | None,
    end: int | None,
    columns: Sequence[str] | None,
    cut: Cut = ALL,
) -> pa.Table:
    """Ticks of symbols in [start, end) ns, ordered by (symbol, timestamp_utc, sequence).

    Raises:
        SymbolNotFoundError: no such symbol.
        ArgumentError: no such column.
    """
    check_columns(columns, TICKS)
    names = version.known(symbols)
    needed = columns and [*columns, *({"symbol"} - set(columns) if cut != ALL else ())]

    def read(some: Sequence[str], low: int | None, high: int | None) -> pa.Table:
        return storage.reader.ticks(version, some, low, high, needed)

    def width(symbol: str) -> int:
        counts = version.symbols[symbol]
        return (counts["max_ns"] - counts["min_ns"]) * (cut.limit or 0) // counts["rows"] + 1

    table = read(names, start, end) if cut == ALL else cut.of(version, names, start, end, read, width)
    return table.select(columns) if columns else table


def read_latest(storage: Storage, version: Version, symbols: str | Iterable[str] | None) -> pa.Table:
    """The newest tick of each symbol, by symbol.

    Raises:
        SymbolNotFoundError: no such symbol.
    """
    return storage.reader.latest(version, version.known(symbols))


def read_bars(
    storage: Storage,
    version: Version,
    symbols: str | Iterable[str] | None,
    timeframe: str,
    start: int | None,
    end: int | None,
    price: str | None,
    cut: Cut = ALL,
) -> pa.Table:
    """Bars of one timeframe with start in [start, end) ns: stored ones, else aggregated from ticks.

    Raises:
        SymbolNotFoundError: no such symbol.
        TimeframeError: no such timeframe.
        ArgumentError: no such price basis, or one must be named.
    """
    frame = Timeframe.parse(timeframe)
    names = version.known(symbols)
    basis_of = {symbol: basis_of_bars(version, symbol, price) for symbol in names}

    def read(some: Sequence[str], low: int | None, high: int | None) -> pa.Table:
        return _bars(storage, version, {name: basis_of[name] for name in some}, frame, low, high)

    if cut == ALL:
        return read(names, start, end)
    return cut.of(version, names, start, end, read, lambda _: frame.ns * (cut.limit or 0), step=frame.ns)


def is_stored(version: Version, symbol: str, frame: Timeframe, basis: str) -> bool:
    """Whether a symbol's bars of a timeframe and basis are in files."""
    return frame.ns in version.steps and basis in version.listing.bases.get(symbol, ())


def _bars(
    storage: Storage,
    version: Version,
    basis_of: Mapping[str, str],
    frame: Timeframe,
    start: int | None,
    end: int | None,
) -> pa.Table:
    wanted: dict[str, list[str]] = {}
    for symbol, basis in basis_of.items():
        wanted.setdefault(basis, []).append(symbol)
    parts, kinds = [_NO_BARS], 0
    for basis, names in wanted.items():
        held = [name for name in names if is_stored(version, name, frame, basis)]
        others = [name for name in names if name not in held]
        late = [name for name in held if name in version.live.symbols]
        whole = [name for name in held if name not in late]
        parts.append(append_vwap(storage.reader.bars(version, whole, str(frame), basis, start, end)))
        kinds += bool(whole) + bool(others) + 2 * bool(late)
        for name in late:
            parts.extend(_patched(storage, version, name, frame, basis, start, end))
        window = _ceil(start, frame.ns), _ceil(end, frame.ns)
        for name in sorted(set(others), key=str.encode):
            parts.extend(computed_bars(storage.reader, version, name, basis, [str(frame)], *window))
    table = pa.concat_tables(parts).unify_dictionaries()
    return sort_ticks(table) if kinds > 1 else table


def _patched(
    storage: Storage,
    version: Version,
    symbol: str,
    frame: Timeframe,
    basis: str,
    start: int | None,
    end: int | None,
) -> Iterator[pa.Table]:
    """Stored bars of a symbol, those with live ticks made anew from all of their ticks; in no order."""
    live = times_ns(version.live.of_symbol(symbol, _ceil(start, frame.ns), _ceil(end, frame.ns)))
    buckets = np.unique(live // frame.ns)
    bars = storage.reader.bars(version, [symbol], str(frame), basis, start, end)
    yield append_vwap(bars.filter(pa.array(~np.isin(times_ns(bars) // frame.ns, buckets))))
    for run in np.split(buckets, np.flatnonzero(np.diff(buckets) > 1) + 1) if len(buckets) else ():
        window = int(run[0]) * frame.ns, (int(run[-1]) + 1) * frame.ns
        yield from computed_bars(storage.reader, version, symbol, basis, [str(frame)], *window)


def check_columns(columns: Sequence[str] | None, schema: pa.Schema) -> None:
    """Refuse columns that are not there.

    Raises:
        ArgumentError: no such column, or no list of them.
    """
    if isinstance(columns, str):
        raise ArgumentError(f"columns={columns!r}: give a list of names, such as [{columns!r}]")
    unknown = [name for name in columns or () if name not in schema.names]
    if unknown:
        raise ArgumentError(f"no column {unknown[0]!r}; there are {', '.join(schema.names)}")


def basis_of_bars(version: Version, symbol: str, price: str | None) -> str:
    """The price basis of the bars asked for: the one named, else the symbol's own.

    Raises:
        ArgumentError: no such price basis, or one must be named.
    """
    counts = version.symbols[symbol]
    if price is None:
        found = version.bases.get(symbol, ())
        if len(found) == 1:
            return found[0]
        if counts["trades"]:
            return "trade"
        if counts["composites"]:
            return "mid"
        raise ArgumentError(f"{symbol!r} has one-sided quotes only: say price='bid' or price='ask'")
    if price not in PRICE_BASES:
        raise ArgumentError(f"price={price!r}: choose one of {', '.join(PRICE_BASES)}")
    if price == "mid" and not counts["composites"] and counts["bids"] + counts["asks"]:
        raise ArgumentError(f"{symbol!r} has one-sided quotes only, which have no mid: say price='bid' or price='ask'")
    return price


def _ceil(instant: int | None, step: int) -> int | None:
    return None if instant is None else -(-instant // step) * step
