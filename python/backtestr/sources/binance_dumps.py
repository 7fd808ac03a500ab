"""Binance's public CSV dumps: trades, aggregate trades and best quotes, with and without header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from backtestr.errors import SourceAmbiguousError, SourceStructureError
from backtestr.sources.detect import looks_like_header
from backtestr.sources.files import Member
from backtestr.sources.model import Renames
from backtestr.sources.text import head, head_text, is_blank

_NAME = re.compile(r"(?P<symbol>[A-Z0-9_]+)-(?P<kind>trades|aggTrades|bookTicker)-\d{4}-\d{2}(-\d{2})?\.csv$")
_BOOLEAN = re.compile(r"(?i)(true|false)$")
_MESSAGE = re.compile(r"\s*\d{16,19}\s*\{")


@dataclass(frozen=True, slots=True)
class Dump:
    """How a dump is read.

    Attributes:
        kind: ``trades``, ``aggTrades`` or ``bookTicker``.
        own: The symbol in the file's name.
        spot: The columns are those of the spot market.
        spec: The native parser's format.
        skip_lines: Lines of header.
    """

    kind: str
    own: str | None
    spot: bool
    spec: dict[str, Any]
    skip_lines: int


def dump_of(member: Member, symbol: Renames) -> Dump | None:
    """How a CSV dump is read; none where the member is empty or holds recorded messages.

    Raises:
        SourceStructureError: It is neither.
        SourceAmbiguousError: The symbol cannot be told.
    """
    text = head_text(member, None)
    if is_blank(text) or _MESSAGE.match(text):
        return None
    rows = head(text, ",", None, 2)
    header = looks_like_header(rows.rows[0])
    cells = rows.rows[-1]
    kind = _kind(cells)
    if kind is None:
        if header and len(rows.rows) == 1 and _NAME.search(PurePath(member.inner).name):
            return None
        raise SourceStructureError(
            f"{member.name}: {text[:60]!r} is neither a recorded Binance message nor a row of a dump of trades, "
            "aggTrades or bookTicker (line 1, column 0); check source="
        )
    named = _NAME.search(PurePath(member.inner).name)
    own = named["symbol"] if named else None
    new = symbol if isinstance(symbol, str) else (symbol or {}).get(own or "", own)
    if new is None:
        raise SourceAmbiguousError(f"{member.name}: the file name holds no symbol; give symbol=")
    fields: list[dict[str, Any]] = [{"target": "ignore"} for _ in cells]
    if kind == "bookTicker":
        fields[0]["target"] = "sequence"
        for at, target in enumerate(("bid", "bid_size", "ask", "ask_size"), 1):
            fields[at]["target"] = target
    else:
        fields[:3] = [{"target": "sequence"}, {"target": "price"}, {"target": "volume"}]
    at = 4 if kind == "trades" else 5
    fields[at] = {"target": "timestamp", "format": "epoch_us" if len(cells[at]) >= 16 else "epoch_ms"}
    spec = {"separator": ",", "fields": fields, "symbol": new}
    spot = (kind, len(cells)) in {("trades", 7), ("aggTrades", 8)}
    return Dump(kind, own, spot, spec, rows.ends[0] if header else 0)


def _kind(cells: Sequence[str]) -> str | None:
    """The kind of a row: by what stands where its time, its ids and its side are."""

    def time(at: int) -> bool:
        return cells[at].isdigit() and 12 <= len(cells[at]) <= 16

    if len(cells) in {6, 7} and time(4) and all(_BOOLEAN.match(cell) for cell in cells[5:]):
        return "trades"
    if len(cells) in {7, 8} and time(5) and all(_BOOLEAN.match(cell) for cell in cells[6:]):
        return "aggTrades"
    if len(cells) == 7 and time(5) and time(6):
        return "bookTicker"
    return None
