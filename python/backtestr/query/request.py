"""Requests for ticks and bars, answered from one version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from backtestr._native import append_vwap, sort_ticks
from backtestr.errors import ArgumentError
from backtestr.models import PRICE_BASES, Timeframe
from backtestr.query.frame import Frame
from backtestr.schema import BARS, TICKS
from backtestr.storage import Storage
from backtestr.storage.computed import computed_bars
from backtestr.storage.snapshot import Version


def read_ticks(
    storage: Storage,
    version: Version,
    symbols: str | Iterable[str] | None,
    start: int | None,
    end: int | None,
    columns: Sequence[str] | None,
) -> Frame:
    """Ticks of symbols in [start, end) ns, ordered by (symbol, timestamp_utc, sequence).

    Raises:
        SymbolNotFoundError: no such symbol.
        ArgumentError: no such column.
    """
    check_columns(columns, TICKS)
    table = storage.reader.ticks(version, version.known(symbols), start, end, columns)
    return Frame(table.select(columns) if columns else table)


def read_bars(
    storage: Storage,
    version: Version,
    symbols: str | Iterable[str] | None,
    timeframe: str,
    start: int | None,
    end: int | None,
    price: str | None,
) -> Frame:
    """Bars of one timeframe with start in [start, end) ns: stored ones, else aggregated from ticks.

    Raises:
        SymbolNotFoundError: no such symbol.
        TimeframeError: no such timeframe.
        ArgumentError: no such price basis, or one must be named.
    """
    frame = Timeframe.parse(timeframe)
    wanted: dict[str, list[str]] = {}
    for symbol in version.known(symbols):
        wanted.setdefault(_basis(version, symbol, price), []).append(symbol)
    stored = {Timeframe.parse(text).ns for text in version.timeframes}
    parts, kinds = [BARS.empty_table()], 0
    for basis, names in wanted.items():
        materialised = [name for name in names if frame.ns in stored and basis in version.bases.get(name, ())]
        others = [name for name in names if name not in materialised]
        parts.append(append_vwap(storage.reader.bars(version, materialised, str(frame), basis, start, end)))
        kinds += bool(materialised) + bool(others)
        window = _ceil(start, frame.ns), _ceil(end, frame.ns)
        for name in sorted(set(others), key=str.encode):
            parts.extend(computed_bars(storage.reader, version, name, basis, [str(frame)], *window))
    table = pa.concat_tables(parts).unify_dictionaries()
    if kinds > 1:
        table = sort_ticks(table)
    return Frame(table)


def check_columns(columns: Sequence[str] | None, schema: pa.Schema) -> None:
    """Refuse columns that are not there.

    Raises:
        ArgumentError: no such column.
    """
    unknown = [name for name in columns or () if name not in schema.names]
    if unknown:
        raise ArgumentError(f"no column {unknown[0]!r}; there are {', '.join(schema.names)}")


def _basis(version: Version, symbol: str, price: str | None) -> str:
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
