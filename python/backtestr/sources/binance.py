"""Binance: recorded websocket lines, and the public CSV dumps of trades and aggregate trades."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

import pyarrow as pa

from backtestr import _native
from backtestr.errors import SourceAmbiguousError
from backtestr.sources.binance_dumps import Dump, dump_of
from backtestr.sources.files import Member, PathInput, members
from backtestr.sources.model import OpenedSource, Renames, TickBatch, check_clock, in_parts
from backtestr.sources.text import Renamer, parsed_batches, text_batches


def open_binance(
    data: PathInput,
    /,
    *,
    clock: str = "exchange",
    symbol: Renames = None,
    market: str | None = None,
    feed: str | None = None,
) -> OpenedSource:
    """Open recorded Binance websocket lines (``<receive time, ns> <message>``) or CSV dumps.

    Trades and best quotes become rows; depth updates and all else are counted in ``skipped``. The trade id and the
    order book's update id are the rows' sequence.

    Args:
        data: Path, paths or folder.
        clock: ``exchange``: the trade's (``T``) or event's time, which is right for bars of trades; a spot bookTicker
            has none and keeps the receive time. ``receive``: the recorder's clock for all, which keeps trades and
            quotes in the order they arrived.
        symbol: New name of the symbol, or names by name.
        market: ``spot``, ``um``, ``cm`` … part of the feed's name; else what folders and columns of a dump say, or
            ``spot``.
        feed: Identity of the rows; ``binance:<market>`` if not given, ``binance:<market>:aggTrades`` of aggregates,
            whose ids are others.

    Raises:
        SourceStructureError: A line is no recorded message.

    Example:
        >>> open_binance("btcusdt_20240808.gz", clock="receive")  # doctest: +SKIP
    """
    check_clock(clock)
    found = [member for member in members(data) if not member.inner.endswith(".CHECKSUM")]
    dumps = {member.name: dump for member in found if (dump := dump_of(member, symbol)) is not None}
    if dumps and clock != "exchange":
        raise SourceAmbiguousError(f'{found[0].name}: a dump has the exchange\'s clock only; leave out clock="receive"')
    if isinstance(symbol, str) and len({dump.own for dump in dumps.values()}) > 1:
        raise SourceAmbiguousError(f"symbol={symbol!r} names one symbol, but the files are of several; leave it out")
    feeds = sorted({_feed(PurePath(name), dump, market) for name, dump in dumps.items()})
    if feed is None and len(feeds) > 1:
        raise SourceAmbiguousError(f"the files are of {', '.join(feeds)}; load each alone, or give feed=")
    rename = Renamer(symbol)
    skipped: dict[str, int] = {}

    def parse(chunk: bytes, last: bool, first_line: int) -> tuple[pa.RecordBatch, int, int, int]:
        return _native.parse_binance(chunk, clock=clock, last=last, first_line=first_line)

    def batches(member: Member) -> Iterator[TickBatch]:
        if member.name in dumps:
            dump = dumps[member.name]
            yield from text_batches(member, dump.spec, skip_lines=dump.skip_lines)
            return
        for batch, left_out in parsed_batches(member, parse):
            if left_out:
                skipped["message without trade or best quote"] = (
                    skipped.get("message without trade or best quote", 0) + left_out
                )
            if batch.columns.num_rows:
                yield rename(batch)

    said = f"Binance {'CSV dumps' if dumps else 'websocket lines'}, {clock} clock"
    feed = feed or (feeds[0] if feeds else f"binance:{market or 'spot'}")
    return OpenedSource("binance", feed, in_parts(map(batches, found)), said, row_unique_sequence=True, skipped=skipped)


def _feed(path: PurePath, dump: Dump, market: str | None) -> str:
    said = [part for part in path.parts if part in {"spot", "um", "cm"}]
    market = market or (said[-1] if said else "spot" if dump.spot else "um")
    return f"binance:{market}:aggTrades" if dump.kind == "aggTrades" else f"binance:{market}"
