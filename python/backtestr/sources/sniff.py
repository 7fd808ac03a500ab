"""Finding out which format an input is in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backtestr.errors import SourceAmbiguousError, SourceStructureError
from backtestr.sources import detect
from backtestr.sources.csv import NUMBERS
from backtestr.sources.files import Member, files, members
from backtestr.sources.model import is_frame
from backtestr.sources.text import SEPARATORS, head, head_text, is_blank

_LEAN_NAME = re.compile(
    r"(^|[/\\])\d{8}_(trade|quote|openinterest)(_[a-z]+)?\.(zip|csv)$|(^|[/\\!])\d{8}_.+_(tick_(trade|quote|openinterest)|(trade|quote|openinterest)_tick)(_.+)?\.csv$",
    re.IGNORECASE,
)
_DUMP_NAME = re.compile(r"(^|[/\\!])[A-Z0-9_]+-(trades|aggTrades|bookTicker)-\d{4}-\d{2}(-\d{2})?\.csv$")
_FIRST_LINES = (
    (re.compile(r"\d{16,19} \{"), "binance"),
    (re.compile(r"\d{8} \d{9},[\d.]+,[\d.]+(,\d+)?$"), "histdata"),
    (re.compile(r"[A-Z]{3}/[A-Z]{3},\d{8} \d\d:\d\d:\d\d(\.\d+)?,[\d.]+,[\d.]+$"), "truefx"),
    (re.compile(r"timestamp,bid,ask$", re.IGNORECASE), "truefx"),
    (re.compile(r"exchange,symbol,timestamp,local_timestamp,"), "tardis"),
    (re.compile(r"SecurityID,Market,TradeTime,TradePrice,TradeQty"), "dolphindb"),
)


def sniff(data: Any, options: Mapping[str, Any]) -> str:
    """The name of the format of an input, from its bytes and names.

    Raises:
        SourceAmbiguousError: No format is recognised, or the files are of several; name it with ``source=``.
    """
    if is_frame(data):
        return "arrow"
    found: dict[str, str] = {}
    for path in files(data):
        if path.suffix == ".bi5":
            found.setdefault("dukascopy", str(path))
            continue
        if path.name.endswith(".CHECKSUM"):
            continue
        with path.open("rb") as file:
            magic = file.read(6)
        if magic[:4] in {b"PAR1", b"FEA1", b"\xff\xff\xff\xff"} or magic == b"ARROW1":
            found.setdefault("arrow", str(path))
            continue
        for member in members(path):
            if name := _member(member, options):
                found.setdefault(name, member.name)
    if len(found) > 1:
        seen = "; ".join(f"{where} looks like {name}" for name, where in found.items())
        raise SourceAmbiguousError(f"the files are of several formats ({seen}); load each alone, with source=")
    return next(iter(found), "csv")


def _member(member: Member, options: Mapping[str, Any]) -> str | None:
    """The format of one stream; none where it is empty."""
    with member.open() as stream:
        start = stream.read(4)
    if start[:3] == b"DBN" and start[3:] < b" ":
        return "databento"
    for named, name in ((_LEAN_NAME, "lean"), (_DUMP_NAME, "binance")):
        if named.search(member.name):
            return name
    try:
        text = head_text(member, options.get("encoding"))
    except SourceStructureError as error:
        raise SourceAmbiguousError(f"{error}; if the format is known, give source=") from error
    lines = [line for line in text.split("\n") if not is_blank(line)]
    if not lines:
        return None
    for pattern, name in _FIRST_LINES:
        if pattern.match(lines[0]):
            return name
    headers = [set(detect.recognise(head(text, one, '"', 1).rows[0])) for one in SEPARATORS]
    if "columns" in options or any("timestamp" in names and names & set(NUMBERS) for names in headers):
        return "csv"
    raise SourceAmbiguousError(f"{member.name}: the format of {lines[0][:60]!r} is not recognised; give source=")
