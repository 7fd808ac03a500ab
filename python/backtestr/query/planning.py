"""What a request reads, as `Plan`: files and row groups by the index, bytes by the files' footers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from backtestr.instants import range_ns, to_iso
from backtestr.models import Plan, Scan, Timeframe
from backtestr.models.report import listed
from backtestr.query.alike import request_kind, statement_kind, symbol_count
from backtestr.query.bounds import names_column
from backtestr.query.costs import bucket_count, computed_rows, expected_rows, with_costs
from backtestr.query.cut import Cut
from backtestr.query.parser import parse, walk
from backtestr.query.pruning import Part, Wanted, needed
from backtestr.query.ranges import Range
from backtestr.query.references import VIEWS, Source
from backtestr.query.request import basis_of_bars, check_columns, is_stored
from backtestr.query.routing import Piece, Route
from backtestr.query.sql import Prepared
from backtestr.query.tally import Tallies, Tally
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.schema import END_NS, MIN_NS, Instant
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage import Storage
from backtestr.storage.layout import BARS, TICKS
from backtestr.storage.snapshot import SMALL_TABLES, Version

PUSHDOWN: Final = "predicate pushdown"
PRUNING: Final = "partition pruning"
COLUMNS: Final = "column pruning"
JOINS: Final = "join order"
ROUTING: Final = "aggregation routing"
_FOOTERS_READ: Final = 64
"""Footers that are read for one table at most; the bytes of other files are taken to be alike."""
_STORED: Final = {
    "timestamp_ns": ("timestamp_utc",),
    "exchange": ("exchange_id",),
    "feed": ("feed_id",),
    "vwap": ("turnover", "volume"),
}
"""Columns of views that files hold under another name."""


def plan_request(
    storage: Storage,
    version: Version,
    tallies: Tallies,
    symbols: str | Iterable[str] | None = None,
    timeframe: str | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    columns: Sequence[str] | None = None,
    price: str | None = None,
    limit: int | None = None,
    order: str = "asc",
) -> Plan:
    """How a request for bars of a timeframe, or for ticks without one, is answered.

    Raises:
        SymbolNotFoundError: no such symbol.
        ArgumentError: no such column, price basis, limit or order, or start is not before end.
        TimeframeError: no such timeframe.
    """
    cut = Cut.parse(limit, order)
    low, high = range_ns(start, end)
    within = Range.of(low, high)
    count = symbol_count(symbols)
    names = version.known(symbols)
    shown = listed(names)
    scans, from_ticks = [], names
    rows, width, like = 0.0, len(columns or TICK_SCHEMA), Tally(TICKS)
    if timeframe is None:
        check_columns(columns, TICK_SCHEMA)
        request = f"ticks of {shown}"
    else:
        check_columns(columns, BAR_SCHEMA)
        frame = Timeframe.parse(timeframe)
        request = f"bars of {frame} of {shown}"
        bases = {name: basis_of_bars(version, name, price) for name in names}
        held = frozenset(name for name in names if is_stored(version, name, frame, bases[name]))
        from_ticks = [name for name in names if name not in held]
        rows, width, like = (
            bucket_count(version, from_ticks, frame, within),
            len(BAR_SCHEMA),
            Tally(BARS, (str(frame),)),
        )
        if held:
            parts = needed(version, BARS, [Wanted(held, frozenset({str(frame)}), within)])
            scans.append(scan(storage, version, BARS, f"bars of {frame}", parts, columns))
            rows += scans[0].rows_expected
    if from_ticks:
        what = "rows" if timeframe is None else f"ticks that bars of {timeframe} are computed from"
        parts = needed(version, TICKS, [Wanted(frozenset(from_ticks), None, within)])
        scans.append(scan(storage, version, TICKS, what, parts, columns))
        rows += 0 if timeframe else scans[-1].rows_expected
    rules = {
        PUSHDOWN: f"symbol in ({shown})" + (f" and {range_text(within)}" if within != Range() else ""),
        PRUNING: _pruned(scans),
        COLUMNS: "all columns" if columns is None else _named(columns),
    }
    if cut.limit is not None:
        rules["limit"] = (
            f"{'last' if cut.descending else 'first'} {cut.limit:,} rows of each symbol, read from that end"
        )
    if live := sum(version.live.symbols[name]["rows"] for name in names if name in version.live.symbols):
        rules["live rows"] = f"{live:,} ticks that only the log holds are merged in"
    kind = request_kind(
        timeframe,
        count,
        (low, high),
        None if columns is None else len(columns),
        limited=limit is not None,
        price=price,
    )
    most = round(rows) if cut.limit is None else min(round(rows), cut.limit * len(names))
    plan = Plan(request, version.lsn, tuple(scans), rules)
    return with_costs(plan, storage, version, tallies, kind, like, rows=most, units=most * width)


def plan_sql(storage: Storage, prepared: Prepared, lsn: int, tallies: Tallies) -> Plan:
    """How a statement is answered from the version of an LSN."""
    version, sources = prepared.version, prepared.sources
    scans, rules = [], {}
    told = [text for source in sources if source.kind in VIEWS and (text := _told(source))]
    rules[PUSHDOWN] = "; ".join(told) or "no condition on symbol, timeframe or time that every row must pass"
    for table, parts in sorted(prepared.parts.items()):
        if table in SMALL_TABLES or (not parts and table == TICKS and _is_all_routed(prepared)):
            continue
        scans.append(scan(storage, version, table, "rows", parts, _columns_of(prepared, table)))
    pieces: dict[str | None, list[Piece]] = {}
    for route in prepared.routes:
        for piece in route.pieces:
            pieces.setdefault(piece.timeframe, []).append(piece)
    for timeframe, some in pieces.items():
        parts = [part for piece in some for part in piece.parts]
        if timeframe is None:
            scans.append(scan(storage, version, TICKS, "ragged edges", parts, _columns_of(prepared, TICKS)))
        else:
            names = _bar_columns(prepared.routes)
            scans.append(scan(storage, version, BARS, f"bars of {timeframe}", parts, names))
    rules[PRUNING] = _pruned(scans)
    rules[COLUMNS] = _each(f"{one.table}: {_named(one.columns)}" for one in scans)
    rules[JOINS] = "left to DuckDB"
    rules[ROUTING] = _routing(prepared.routes, sources)
    rows = 0
    if (named := prepared.named) is not None:
        listing = ", ".join(named.timeframes)
        rules["computed bars"] = f"{listing} from ticks, as they are not stored"
        parts = needed(version, TICKS, [Wanted(named.symbols)])
        scans.append(scan(storage, version, TICKS, f"ticks that bars of {listing} are computed from", parts, None))
        rows = computed_rows(prepared, named) - scans[-1].rows_expected
    plan = Plan(prepared.request, lsn, tuple(scans), rules, routed=bool(pieces))
    like = Tally("sql", () if prepared.named is None else prepared.named.timeframes)
    rows += sum(one.rows_expected for one in scans)
    units = sum(part.file.size for _, part in prepared.reads())
    return with_costs(plan, storage, version, tallies, statement_kind(prepared.request), like, rows=rows, units=units)


def scan(
    storage: Storage, version: Version, table: str, what: str, parts: Sequence[Part], columns: Sequence[str] | None
) -> Scan:
    """What is read of some files of a table."""
    files = version.listing.files_of(table)
    groups, read, rows, judged, expected = 0, 0, 0, 0, 0.0
    for part in parts[_FOOTERS_READ:]:
        expected += expected_rows(part, None, ())
    for part in parts[:_FOOTERS_READ]:
        footer = storage.reader.groups.footer(part.file)
        chosen = _groups(storage, part)
        groups += len(chosen)
        held = sum(footer.first_rows[group + 1] - footer.first_rows[group] for group in chosen)
        rows += min(held, part.rows)
        expected += min(expected_rows(part, footer, chosen), part.rows)
        read += footer.bytes_of(chosen, None if columns is None else _stored(columns))
        judged += part.file.size
    size = sum(part.file.size for part in parts)
    if judged < size:
        read, rows = read * size // judged, rows * size // judged
        groups = groups * len(parts) // _FOOTERS_READ
    return Scan(
        table=table,
        what=what,
        files=len({part.file.file_id for part in parts}),
        files_considered=len(files),
        row_groups=groups,
        rows=rows,
        rows_expected=round(expected),
        bytes=read,
        bytes_considered=sum(file.size for file in files),
        columns=None if columns is None else tuple(columns),
    )


def _groups(storage: Storage, part: Part) -> list[int]:
    """The row groups of a file that may hold rows that matter."""
    footer = storage.reader.groups.footer(part.file)
    if part.spans is None:
        return footer.between(part.range.start, part.range.end)
    return sorted({group for span in part.spans for group in footer.groups(span, part.range.start, part.range.end)})


def _told(source: Source) -> str:
    want = Wanted.of(source)
    said = []
    for name, texts in (("timeframe", want.timeframes), ("symbol", want.symbols)):
        if texts is not None:
            said.append(f"{name} in ({listed(sorted(texts))})")
    if want.range != Range():
        said.append(range_text(want.range))
    return f"{source.kind}: {' and '.join(said)}" if said else ""


def range_text(within: Range) -> str:
    """A range of time for people."""
    if within.is_empty:
        return "no instant at all"
    low = "" if within.start is None else f"{to_iso(max(within.low, MIN_NS))} <= "
    high = "" if within.end is None else f" < {to_iso(min(within.high, END_NS - 1))}"
    return f"{low}time{high}"


def _is_all_routed(prepared: Prepared) -> bool:
    routed = {id(route.source) for route in prepared.routes if route.pieces}
    return all(id(source) in routed for source in prepared.sources if source.kind == TICKS)


def _columns_of(prepared: Prepared, table: str) -> list[str] | None:
    """The columns of a table that a statement names; None where it takes all."""
    nodes = list(walk(parse(prepared.request)))
    is_renamed = any(one.kind == table and one.node.get("column_name_alias") for one in prepared.sources)
    if table not in VIEWS or is_renamed or any(node.get("type") == "STAR" for node in nodes):
        return None
    return [name for name in VIEWS[table] if any(names_column(node, name) for node in nodes)]


def _bar_columns(routes: Iterable[Route]) -> list[str]:
    """The columns of bars that aggregations read."""
    found = {"symbol", "timeframe", "price_basis", "timestamp_utc"}
    for route in routes:
        found |= {"volume" if name == "units" else name for name in route.columns}
    return [name for name in VIEWS[BARS] if name in found]


def _stored(columns: Iterable[str]) -> set[str]:
    return {stored for name in columns for stored in _STORED.get(name, (name,))}


def _pruned(scans: Iterable[Scan]) -> str:
    return _each(
        f"{one.table}: {one.files_considered - one.files:,} of {one.files_considered:,} files" for one in scans
    )


def _each(said: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(said)) or "nothing is read"


def _named(columns: Sequence[str] | None) -> str:
    return "all columns" if columns is None else f"{', '.join(columns) or 'none'}"


def _routing(routes: Sequence[Route], sources: Sequence[Source]) -> str:
    if not routes:
        reads = any(source.kind == TICKS for source in sources)
        return "no aggregation over ticks alone" if reads else "no ticks are read"
    said = []
    for route in routes:
        if not route.pieces:
            said.append(f"from ticks: {route.reason}")
            continue
        names = list(dict.fromkeys(piece.timeframe for piece in route.pieces))
        bars = [name for name in names if name is not None]
        said.append(f"from bars of {', '.join(bars)}" + (", ragged edges from ticks" if None in names else ""))
    return "; ".join(said)
