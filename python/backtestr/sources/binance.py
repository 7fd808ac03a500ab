"""Binance: recorded websocket lines, and the public CSV dumps of trades and aggregate trades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from backtestr import _native
from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceStructureError
from backtestr.sources.detect import looks_like_header
from backtestr.sources.files import Member, PathInput, members
from backtestr.sources.fx_text import first_cells
from backtestr.sources.model import OpenedSource, Renames, TickBatch
from backtestr.sources.text import head_text, parsed_batches, rename_symbols, text_batches

_DUMP_NAME = re.compile(r"(?P<symbol>[A-Z0-9_]+)-(?P<kind>trades|aggTrades)-\d{4}-\d{2}(-\d{2})?\.csv$")
# kind → position of the time, by which a dump has 6 to 8 columns.
_DUMP_TIME = {"trades": 4, "aggTrades": 5}


def open_binance(
    data: PathInput,
    /,
    *,
    clock: str = "exchange",
    symbol: Renames = None,
    market: str = "spot",
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
        market: ``spot``, ``um`` … part of the feed's name.
        feed: Identity of the rows; ``binance:<market>`` if not given.

    Raises:
        SourceStructureError: A line is no recorded message.

    Example:
        >>> open_binance("btcusdt_20240808.gz", clock="receive")  # doctest: +SKIP
    """
    if clock not in {"exchange", "receive"}:
        raise ArgumentError(f'clock={clock!r}; give "exchange" or "receive"')
    found = list(members(data))
    dumps = {member.name: spec for member in found if (spec := _dump(member, clock, symbol)) is not None}
    skipped: dict[str, int] = {}

    def parse(chunk: bytes, last: bool, first_line: int) -> tuple[pa.RecordBatch, int, int, int]:
        return _native.parse_binance(chunk, clock=clock, last=last, first_line=first_line)

    def batches() -> Iterator[TickBatch]:
        for member in found:
            if member.name in dumps:
                spec, header = dumps[member.name]
                yield from text_batches(member, spec, skip_lines=header)
                continue
            for batch, left_out in parsed_batches(member, parse):
                if left_out:
                    skipped["message without trade or best quote"] = (
                        skipped.get("message without trade or best quote", 0) + left_out
                    )
                if batch.columns.num_rows:
                    yield rename_symbols(batch, symbol)

    said = f"Binance {'CSV dumps' if dumps else 'websocket lines'}, {clock} clock"
    return OpenedSource(
        "binance", feed or f"binance:{market}", batches(), said, row_unique_sequence=True, skipped=skipped
    )


def _dump(member: Member, clock: str, symbol: Renames) -> tuple[dict[str, Any], int] | None:
    """How a CSV dump is read, and its lines of header; none where the member is not one."""
    text = head_text(member, None)
    if not text.strip() or re.match(r"\s*\d{16,19} \{", text):
        return None
    name = PurePath(member.inner).name
    match = _DUMP_NAME.search(name)
    cells = first_cells(member)
    if match is None or len(cells) not in {6, 7, 8}:
        raise SourceStructureError(
            f"{member.name}: {text[:60]!r} is neither a recorded Binance message nor a dump named like "
            "BTCUSDT-trades-2024-08-08.csv (line 1, column 0); check source="
        )
    if clock != "exchange":
        raise SourceAmbiguousError(f'{member.name}: a dump has the exchange\'s clock only; leave out clock="receive"')
    at = _DUMP_TIME[match["kind"]]
    header = looks_like_header(cells)
    sample = text.splitlines()[1 if header else 0].split(",") if not header or len(text.splitlines()) > 1 else cells
    unit = "epoch_us" if len(sample[at]) >= 16 else "epoch_ms"
    fields: list[dict[str, Any]] = [{"target": "ignore"} for _ in cells]
    fields[:3] = [{"target": "sequence"}, {"target": "price"}, {"target": "volume"}]
    fields[at] = {"target": "timestamp", "format": unit}
    own = match["symbol"]
    new = symbol if isinstance(symbol, str) else (symbol or {}).get(own, own)
    return {"separator": ",", "fields": fields, "symbol": new}, int(header)
