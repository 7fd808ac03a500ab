"""Aggregations of ticks answered from stored bars, where they can be proved equal, with ragged edges from ticks.

A SELECT over ``ticks`` alone whose groups change at no instant inside a stored bar, whose conditions are on symbol and
time, and whose aggregates bars have, gives the same rows when ``ticks`` is replaced by bars and the ticks that no bar
covers whole, and each aggregate by that of the bars' columns. Anything else is left as it is, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from backtestr.models import BarSpec
from backtestr.query.aggregates import Rewriting, UnroutedError
from backtestr.query.gate import VOLATILE, Statement, aggregate_names
from backtestr.query.parser import Node, expression_text, parse, walk, written
from backtestr.query.pruning import Part, Wanted, needed
from backtestr.query.ranges import Range, compared_ranges
from backtestr.query.references import Source
from backtestr.query.texts import outside_queries
from backtestr.query.values import Params
from backtestr.storage.layout import BARS, TICKS
from backtestr.storage.session import SCHEMA, TRADES_OF_BARS, TRADES_OF_TICKS, Session, text_sql
from backtestr.storage.snapshot import Version


class Piece(NamedTuple):
    """A stretch of time that a SELECT is answered for from bars of one timeframe, or from ticks."""

    timeframe: str | None
    """None for ticks."""
    range: Range
    parts: list[Part]


class Route(NamedTuple):
    """What became of one SELECT over ``ticks`` that aggregates."""

    source: Source
    pieces: list[Piece]
    """None at all where it is answered from ticks alone."""
    reason: str
    """Why it is not answered from bars; empty where it is."""
    columns: frozenset[str] = frozenset()
    """Columns of bars that its aggregates read."""


def routed(
    session: Session, statement: Statement, sources: Sequence[Source], params: Params, version: Version
) -> tuple[str | None, list[Route]]:
    """A statement's text with its aggregations of ticks written for bars, and what became of each.

    The text is None where none is, and the tree may be changed in any case.
    """
    routes = []
    by_node = {id(source.node): source for source in sources if source.kind == TICKS}
    for select in list(statement.nodes()):
        source = by_node.get(id(select.get("from_table")))
        if select.get("type") == "SELECT_NODE" and source is not None and _aggregates(select):
            routes.append(_route(session, select, source, params, version))
    if not any(route.pieces for route in routes):
        return None, routes
    text = written(statement.tree["node"])
    if text is None:
        return None, [Route(route.source, [], route.reason or "the engine cannot write it") for route in routes]
    return text, routes


def _aggregates(select: Node) -> bool:
    """Whether a SELECT groups rows."""
    told = {key: select.get(key) for key in ("select_list", "having", "modifiers", "qualify")}
    return bool(select.get("group_expressions")) or any(
        part.get("class") == "FUNCTION" and str(part.get("function_name")).lower() in aggregate_names()
        for part in outside_queries(list(told.values()))
    )


def _route(session: Session, select: Node, source: Source, params: Params, version: Version) -> Route:
    try:
        rewriting = _rewriting(select, source)
        within = _conditions(select, rewriting, params, version)
        changed = _rewritten(select, rewriting)
        pieces = _pieces(rewriting, source, within, version)
        relation = _relation(session, pieces)
        (parsed,) = parse(f"select * from ({relation}) as {_quoted(source.name)}")["statements"]
    except UnroutedError as reason:
        return Route(source, [], str(reason))
    select.update(changed, from_table=parsed["node"]["from_table"])
    return Route(source, pieces, "", frozenset(rewriting.columns))


def _rewriting(select: Node, source: Source) -> Rewriting:
    if select.get("sample") or source.node.get("sample"):
        raise UnroutedError("a sample is of single ticks")
    if source.node.get("column_name_alias"):
        raise UnroutedError("it gives the columns of ticks other names")
    aliases = {item["alias"].lower() for item in select["select_list"] if item.get("alias")}
    return Rewriting(source, aliases, one_symbol=_groups_by_symbol(select, source))


def _groups_by_symbol(select: Node, source: Source) -> bool:
    if len(source.bounds.get("symbol", ())) == 1:
        return True
    if len(select.get("group_sets") or ()) > 1:
        return False
    items = select["select_list"]
    chosen = items if select.get("aggregate_handling") == "FORCE_AGGREGATES" else select["group_expressions"]
    by_alias = {item["alias"].lower(): item for item in items if item.get("alias")}
    for group in chosen:
        literal = group.get("literal") or {}
        if literal.get("kind") == "INTEGER" and 0 < int(literal["text"]) <= len(items) and chosen is not items:
            group = items[int(literal["text"]) - 1]  # noqa: PLW2901 - the item that a number stands for
        if group.get("type") != "COLUMN_REF":
            continue
        *path, name = (part.lower() for part in group["column_names"])
        if path in ([], [source.name]) and name not in source.columns and name in by_alias:
            name = str((by_alias[name].get("column_names") or [""])[-1]).lower()
        if name == "symbol":
            return True
    return False


def _conditions(select: Node, rewriting: Rewriting, params: Params, version: Version) -> Range:
    """The range of time that a SELECT's WHERE is equivalent to, beside conditions on the symbol.

    Raises:
        UnroutedError: it has others, or ticks that are no trades count.
    """
    within, has_trades = Range(), False
    for condition in _conjuncts(select.get("where_clause")):
        if rewriting.is_trades(condition):
            has_trades = True
        elif (found := _exact_range(condition, rewriting, params)) is not None:
            within &= found
        elif not _is_of_symbol(condition, rewriting):
            raise UnroutedError("a condition is neither on the symbol alone nor between the time and a constant")
    if not has_trades:
        symbols = rewriting.source.bounds.get("symbol")
        counts = version.symbols.items()
        if any(row["trades"] != row["rows"] for name, row in counts if symbols is None or name in symbols):
            raise UnroutedError("bars are of trades, and there are quotes among the ticks: add tick_type = 0")
    return within


def _conjuncts(condition: Node | None) -> Iterator[Node]:
    if condition is None:
        return
    if condition.get("type") == "CONJUNCTION_AND":
        for child in condition["children"]:
            yield from _conjuncts(child)
    else:
        yield condition


def _exact_range(condition: Node, rewriting: Rewriting, params: Params) -> Range | None:
    """The range that a condition on time is equivalent to; None where it is not known."""
    alternatives = compared_ranges(condition, params, negated=False)
    sides = 2 if condition.get("class") == "BETWEEN" else 1
    if len(alternatives) != 1 or len(alternatives[0]) != sides:
        return None
    within = Range()
    for names, found in alternatives[0]:
        rewriting.name_of({"column_names": names})
        within &= found
    return within


def _is_of_symbol(condition: Node, rewriting: Rewriting) -> bool:
    parts = list(walk(condition))
    if any("subquery" in part or str(part.get("type")).endswith("_NODE") for part in parts):
        return False
    if any(str(part.get("function_name")).lower() in VOLATILE for part in parts):
        return False
    columns = [part for part in parts if part.get("type") == "COLUMN_REF"]
    return bool(columns) and all(rewriting.name_of(part) == "symbol" for part in columns)


def _rewritten(select: Node, rewriting: Rewriting) -> Node:
    """The clauses of a SELECT behind FROM and WHERE, for rows of bars."""
    changed: dict[str, Any] = {
        key: rewriting.expression(select[key]) for key in ("group_expressions", "having", "qualify") if key in select
    }
    changed["modifiers"] = [
        rewriting.expression(modifier, in_order=modifier["type"] == "ORDER_MODIFIER")
        for modifier in select["modifiers"]
    ]
    changed["select_list"] = []
    for item in select["select_list"]:
        before = rewriting.aggregates
        made = rewriting.expression(item)
        if rewriting.aggregates > before and not item.get("alias"):
            if (name := expression_text(item)) is None:
                raise UnroutedError("an aggregate without a name of its own")
            made = made | {"alias": name}
        changed["select_list"].append(made)
    return changed


def _pieces(rewriting: Rewriting, source: Source, within: Range, version: Version) -> list[Piece]:
    """The coarsest bars that cover a range of time, and ticks where none do, in order of time.

    Raises:
        UnroutedError: none do anywhere.
    """
    if version.bar_spec != BarSpec():
        raise UnroutedError("the store's bar specification leaves some trades out of bars")
    wanted = Wanted.of(source)
    counts = {name: row for name, row in version.symbols.items() if wanted.symbols is None or name in wanted.symbols}
    if any(row["trades"] and "trade" not in version.listing.bases.get(name, ()) for name, row in counts.items()):
        raise UnroutedError("some trades are in no bars yet")
    known = Range(
        min((row["min_ns"] for row in counts.values()), default=0),
        max((row["max_ns"] + 1 for row in counts.values()), default=0),
    )
    if (within & known).is_empty:
        raise UnroutedError("no ticks are asked for")
    steps = version.steps
    fitting = sorted((step for step in steps if rewriting.grid.holds(step)), reverse=True)
    if not fitting:
        raise UnroutedError(f"no stored timeframe has whole buckets in groups of {rewriting.grid.step:,} ns")
    # What is asked for beyond the last tick makes no bar ragged. The WHERE stays as it is and judges the starts of
    # bars, so none may begin before the range does, even if it has no ticks there.
    high = Range().high if within.high >= known.high else within.high
    stretches: dict[int | None, list[Range]] = {}
    for step, stretch in _cover(Range(within.low, high), fitting):
        stretches.setdefault(step, []).append(stretch)
    if not stretches.keys() - {None}:
        raise UnroutedError("the range has no whole bar")
    pieces = []
    for step, ranges in stretches.items():
        timeframe = None if step is None else steps[step]
        named = None if timeframe is None else frozenset({timeframe})
        for stretch in ranges:
            parts = needed(version, TICKS if step is None else BARS, [Wanted(wanted.symbols, named, stretch)])
            pieces.append(Piece(timeframe, stretch, parts))
    return pieces


def _cover(within: Range, steps: Sequence[int]) -> Iterator[tuple[int | None, Range]]:
    """Stretches of a range in whole buckets, by the first step that has one, its edges by those behind it."""
    if within.is_empty:
        return
    if not steps:
        yield None, within
        return
    step, *finer = steps
    first = within.low if within.start is None else -(-within.low // step) * step
    stop = within.high if within.end is None else within.high // step * step
    if first >= stop:
        yield from _cover(within, finer)
        return
    yield from _cover(Range(within.low, first), finer)
    yield step, Range(first, stop)
    yield from _cover(Range(stop, within.high), finer)


def _relation(session: Session, pieces: Sequence[Piece]) -> str:
    """SQL of the rows that stand for ticks."""
    branches = []
    for timeframe in dict.fromkeys(piece.timeframe for piece in pieces):
        mine = [piece for piece in pieces if piece.timeframe == timeframe]
        files = {part.file.file_id: part.file for piece in mine for part in piece.parts}
        within = " or ".join(_within(piece.range) for piece in mine)
        table, function = (TICKS, TRADES_OF_TICKS) if timeframe is None else (BARS, TRADES_OF_BARS)
        named = "" if timeframe is None else f"timeframe = {text_sql(timeframe)} and "
        rows = f"{SCHEMA}.{function}({session.listed(table, files.values())})"
        branches.append(f"select * from {rows} where {named}({within})")
    return " union all by name ".join(branches)


def _within(within: Range) -> str:
    bounds = [f"timestamp_ns >= {within.low}"] if within.start is not None else []
    bounds += [f"timestamp_ns < {within.high}"] if within.end is not None else []
    return f"({' and '.join(bounds)})" if bounds else "true"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
