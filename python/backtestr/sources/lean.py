"""QuantConnect Lean tick files: zip of CSV without header, times in ms since midnight of the day in the file's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import SourceAmbiguousError, SourceStructureError
from backtestr.sources.files import Member, PathInput, members
from backtestr.sources.model import OpenedSource, TickBatch, in_parts
from backtestr.sources.text import head, head_text, is_blank, text_batches

SECURITY_TYPES = (
    "equity",
    "forex",
    "cfd",
    "crypto",
    "cryptofuture",
    "future",
    "option",
    "futureoption",
    "index",
    "indexoption",
)
_TYPE_OF_MARKET = {
    "usa": "equity",
    "india": "equity",
    "oanda": "forex",
    "fxcm": "forex",
    **dict.fromkeys(("comex", "nymex", "cbot", "cme", "cfe", "ice", "sgx", "eurex", "hkfe", "nyseliffe"), "future"),
    **dict.fromkeys(("coinbase", "gdax", "bitfinex", "bitstamp", "kraken", "binance", "binanceus", "bybit"), "crypto"),
}
_ZONES = {
    ("equity", "usa"): "America/New_York",
    ("option", "usa"): "America/New_York",
    ("index", "usa"): "America/New_York",
    ("indexoption", "usa"): "America/New_York",
    ("equity", "india"): "Asia/Kolkata",
    ("forex", "fxcm"): "-05:00",
    ("cfd", "fxcm"): "-05:00",
}
_UTC_TYPES = {"forex", "cfd", "crypto", "cryptofuture", "future", "futureoption"}
_SCALED_TYPES = {"equity", "option", "indexoption"}
_LAYOUTS: dict[tuple[str, int], tuple[str, ...]] = {
    ("trade", 6): ("price", "volume", "exchange", "conditions", "suspicious"),
    ("trade", 4): ("price", "volume", "suspicious"),
    ("quote", 8): ("bid", "bid_size", "ask", "ask_size", "exchange", "conditions", "suspicious"),
    ("quote", 7): ("bid", "bid_size", "ask", "ask_size", "exchange", "suspicious"),
    ("quote", 6): ("bid", "bid_size", "ask", "ask_size", "suspicious"),
    ("quote", 3): ("bid", "ask"),
}
_ZIP_NAME = re.compile(r"(?P<date>\d{8})_(?P<ticks>trade|quote|openinterest)(_[a-z]+)?\.(zip|csv)$", re.IGNORECASE)
_MEMBER_NAME = re.compile(
    r"(?P<date>\d{8})_(?P<symbol>.+?)_(?:tick_(?P<new>trade|quote|openinterest)|(?P<old>trade|quote)_tick)"
    r"(?:_(?P<contract>.+))?\.csv$",
    re.IGNORECASE,
)
_MS_OF_DAY = re.compile(r"\d{1,8}(\.\d+)?")
_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}$")


@dataclass(frozen=True, slots=True)
class Label:
    """What path, names and arguments say of one member."""

    symbol: str
    market: str
    security_type: str
    date: str
    ticks: str
    zone: str


def open_lean(
    data: PathInput,
    /,
    *,
    symbol: str | None = None,
    market: str | None = None,
    security_type: str | None = None,
    date: str | None = None,
    ticks: str | None = None,
    timezone: str | None = None,
    feed: str | None = None,
) -> OpenedSource:
    """Open Lean tick files.

    What is not given is read from Lean's folders (``equity/usa/tick/spy/20131008_trade.zip``) and from the names of the
    file and its members. Each expiry in a futures archive is a symbol of its own: ``GC_201312``.

    Args:
        data: Path, paths or folder.
        symbol: Symbol; of futures and options the root.
        market: Lean's market, such as ``usa``, ``oanda`` or ``comex``.
        security_type: ``equity``, ``forex``, ``crypto``, ``future`` …
        date: ``YYYY-MM-DD``, where no name holds it.
        ticks: ``trade`` or ``quote``, where no name holds it.
        timezone: Zone of the times, where the market's usual one is not right.
        feed: Identity of the rows; ``lean:<market>`` if not given.

    Raises:
        SourceAmbiguousError: Something cannot be told; names the argument.
        SourceStructureError: The text is no Lean tick file.

    Example:
        >>> open_lean("20131008_trade.zip", symbol="SPY", market="usa")  # doctest: +SKIP
    """
    given = {"symbol": symbol, "market": market, "security_type": security_type, "date": date, "ticks": ticks}
    found = [(member, _label(member, given, timezone)) for member in members(data)]
    plans = [(member, label) for member, label in found if label.ticks != "openinterest"]
    skipped = {"open interest file": len(found) - len(plans)} if len(found) > len(plans) else {}
    if symbol is not None and len({_own_symbol(member) for member, _ in plans} - {None}) > 1:
        raise SourceAmbiguousError(f"symbol={symbol!r} names one symbol, but the files are of several; leave it out")
    markets = sorted({label.market for _, label in plans})
    if feed is None and len(markets) > 1:
        raise SourceAmbiguousError(f"the files are of the markets {', '.join(markets)}; load each alone or give feed=")
    feed = feed or (f"lean:{markets[0]}" if markets else None)

    def texts() -> Iterator[Iterator[TickBatch]]:
        for member, label in plans:
            spec = _spec(member, label)
            if spec is not None:
                yield map(_without_absent_sizes, text_batches(member, spec))

    return OpenedSource("lean", feed, in_parts(texts()), _described(plans), skipped=skipped)


def _described(plans: list[tuple[Member, Label]]) -> str:
    if not plans:
        return "no Lean files"
    label = plans[0][1]
    more = f" and {len(plans) - 1} more" if len(plans) > 1 else ""
    return (
        f"Lean {label.security_type} {label.ticks}s of {label.symbol}{more}, market {label.market}, "
        f"day {label.date} in {label.zone}"
    )


def _own_symbol(member: Member) -> str | None:
    """The symbol that the names of file and folders say, whatever the arguments do."""
    if named := _MEMBER_NAME.search(PurePath(member.inner).name):
        return named["symbol"].upper()
    parts = member.path.absolute().parts
    return parts[-2].upper() if len(parts) > 2 and parts[-3].lower() == "tick" else None


def _label(member: Member, given: dict[str, str | None], timezone: str | None) -> Label:
    path, inner = member.path, PurePath(member.inner).name
    by_zip, by_member = _ZIP_NAME.search(path.name), _MEMBER_NAME.search(inner)
    found: dict[str, str] = {}
    parts = [part.lower() for part in path.absolute().parts]
    # …/<security type>/<market>/tick/<symbol>/<file>
    if len(parts) >= 5 and parts[-3] == "tick" and parts[-5] in SECURITY_TYPES:
        found = {"security_type": parts[-5], "market": parts[-4], "symbol": path.parent.name.upper()}
    dates = {match["date"] for match in (by_zip, by_member) if match}
    if len(dates) == 1:
        found["date"] = dates.pop()
    elif dates and given["date"] is None:
        raise SourceAmbiguousError(
            f"{member.name}: file and member name the days {' and '.join(sorted(dates))}; give date="
        )
    if by_member:
        found["ticks"] = (by_member["new"] or by_member["old"]).lower()
        found.setdefault("symbol", by_member["symbol"].upper())
    if by_zip:
        found["ticks"] = by_zip["ticks"].lower()
    found |= {name: value for name, value in given.items() if value is not None}
    if "market" in found and "security_type" not in found and found["market"].lower() in _TYPE_OF_MARKET:
        found["security_type"] = _TYPE_OF_MARKET[found["market"].lower()]
    for name in ("symbol", "market", "security_type", "date", "ticks"):
        if name not in found:
            raise SourceAmbiguousError(f"{member.name}: neither folder nor file name says the {name}; give {name}=")
    return _complete(member, found, by_member, timezone)


def _complete(member: Member, found: dict[str, str], named: re.Match[str] | None, timezone: str | None) -> Label:
    market, security_type = found["market"].lower(), found["security_type"].lower()
    zone = timezone or _ZONES.get((security_type, market)) or ("UTC" if security_type in _UTC_TYPES else None)
    if zone is None:
        raise SourceAmbiguousError(f"{member.name}: the zone of market {market!r} is not known; give timezone=")
    if not _DATE.match(found["date"]):
        raise SourceAmbiguousError(f"{member.name}: {found['date']!r} is no day; give date= as YYYY-MM-DD")
    day = found["date"].replace("-", "")
    symbol = found["symbol"]
    contract = named["contract"] if named else None
    if contract:
        contract = contract.split("_")[0] if security_type == "future" else contract
        symbol = f"{symbol}_{contract.upper()}"
    return Label(symbol, market, security_type, f"{day[:4]}-{day[4:6]}-{day[6:]}", found["ticks"].lower(), zone)


def _spec(member: Member, label: Label) -> dict[str, Any] | None:
    text = head_text(member, None)
    if is_blank(text):
        return None
    cells = head(text, ",", None, 1).rows[0]
    width = len(cells)
    layout = _LAYOUTS.get((label.ticks, width))
    if layout is None or not _MS_OF_DAY.fullmatch(cells[0]):
        raise SourceStructureError(
            f"{member.name}: {width} columns that begin with {cells[0][:40]!r} are no Lean {label.ticks} ticks "
            "(line 1, column 1); "
            "check ticks= and source="
        )
    power = -4 if label.security_type in _SCALED_TYPES else 0
    fields: list[dict[str, Any]] = [{"target": "timestamp", "format": "ms_of_day"}]
    for target in layout:
        field: dict[str, Any] = {"target": target}
        if target in {"price", "bid", "ask"}:
            field["power"] = power
        if target in {"bid", "ask"}:
            field["zero_is_absent"] = True
        if target.startswith(("bid", "ask")):
            field["empty_is_absent"] = True
        fields.append(field)
    return {"separator": ",", "fields": fields, "symbol": label.symbol, "zone": label.zone, "date": label.date}


def _without_absent_sizes(batch: TickBatch) -> TickBatch:
    """A side without a price has no size either: Lean prints 0 for both."""
    columns = batch.columns
    for side in ("bid", "ask"):
        at = columns.schema.get_field_index(f"{side}_size")
        if at >= 0:
            sizes = columns.column(at)
            there = pc.is_valid(columns.column(columns.schema.get_field_index(side)))
            columns = columns.set_column(at, f"{side}_size", pc.if_else(there, sizes, pa.scalar(None, sizes.type)))
    return replace(batch, columns=columns)
