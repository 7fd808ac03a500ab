"""Bars of timeframes that are not stored, made from ticks in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import BarAggregator
from backtestr.schema import STORED_BARS
from backtestr.storage.encode import stored_field
from backtestr.storage.keys import times_ns
from backtestr.storage.layout import BARS, DAY_NS
from backtestr.storage.read import Reader
from backtestr.storage.snapshot import KINDS, Version, price_bases

_CHUNK_NS = 31 * DAY_NS
_GROUP_ROWS = 32_768


def tick_chunks(
    reader: Reader, version: Version, symbol: str, start: int | None = None, end: int | None = None
) -> Iterator[pa.Table]:
    """All ticks of a symbol in [start, end) ns in order, a month at a time."""
    bounds = [(span.min_ns, span.max_ns) for span in version.listing.spans(symbol, start, end)]
    if len(times := times_ns(version.live.of_symbol(symbol, start, end))):
        bounds.append((int(times[0]), int(times[-1])))
    if not bounds:
        return
    low, stop = min(first for first, _ in bounds), max(last for _, last in bounds) + 1
    low = low if start is None else max(low, start)
    stop = stop if end is None else min(stop, end)
    for begin in range(low, stop, _CHUNK_NS):
        yield reader.ticks(version, [symbol], begin, min(begin + _CHUNK_NS, stop))


def computed_bars(
    reader: Reader,
    version: Version,
    symbol: str,
    basis: str,
    timeframes: Sequence[str],
    start: int | None = None,
    end: int | None = None,
) -> Iterator[pa.Table]:
    """Bars of a symbol from its ticks in [start, end) ns, which must not cut a bucket; each timeframe by time."""
    aggregator = BarAggregator(list(timeframes), price=basis, bar_spec=version.bar_spec)
    for rows in tick_chunks(reader, version, symbol, start, end):
        if rows.num_rows:
            yield aggregator.update(rows)
    yield aggregator.finish()


def write_computed(
    path: Path, reader: Reader, version: Version, timeframes: Sequence[str], symbols: Iterable[str]
) -> None:
    """Write bars of symbols, of the bases that the view ``bars`` shows, to a Parquet file that the view can read."""
    schema = pa.schema([stored_field(BARS, column.with_type(_plain(column.type))) for column in STORED_BARS])
    with pq.ParquetWriter(path, schema, compression="lz4", store_schema=False) as writer:
        waiting, rows = [], 0
        for symbol in symbols:
            counts = version.symbols[symbol]
            for basis in version.bases.get(symbol) or price_bases([counts[kind] for kind in KINDS]):
                for bars in computed_bars(reader, version, symbol, basis, timeframes):
                    waiting.append(bars.select(schema.names).cast(schema))
                    rows += bars.num_rows
                    if rows >= _GROUP_ROWS:
                        writer.write_table(pa.concat_tables(waiting), row_group_size=_GROUP_ROWS)
                        waiting, rows = [], 0
        if rows:
            writer.write_table(pa.concat_tables(waiting), row_group_size=_GROUP_ROWS)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as files hold it: instants without zone, texts plain."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind
