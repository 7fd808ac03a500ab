"""The timeframes that a statement names and the store does not hold, and the references to bars that show them.

A reference shows computed bars only where a condition that every one of its rows must pass, in the SELECT that reads
it, sets its timeframe equal to texts: all other bars beside the stored ones are then filtered away again, so no other
reference, and no other row, can tell. What names such a timeframe elsewhere is refused, not answered without its bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backtestr.errors import SQLError, TimeframeError
from backtestr.models import Timeframe
from backtestr.query import texts
from backtestr.query.gate import Statement, walk
from backtestr.query.texts import Node, Sets
from backtestr.query.values import Params
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.layout import BARS

_ORDINARY = {*BAR_SCHEMA.names, *TICK_SCHEMA.names, "timestamp_ns", "exchange", "feed"} - {"timeframe"}
_FILTERS_LEFT = {"INNER", "RIGHT", "SEMI"}
_FILTERS_RIGHT = {"INNER", "LEFT", "SEMI", "ANTI"}
_NO_REFS: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be computed for a statement."""

    timeframes: tuple[str, ...]
    symbols: frozenset[str] | None
    """None for all."""
    references: list[Node]
    """The tree's references to ``bars`` that are to show it."""


@dataclass(slots=True, eq=False)
class _Source:
    """What a SELECT reads from under one name."""

    node: Node
    kind: str
    """``bars``, ``derived`` from bars, or ``other``."""
    name: str
    timeframe: str = "timeframe"
    bounds: dict[str, frozenset[str]] = field(default_factory=dict)
    """Per column, the texts that every row has one of."""


@dataclass(slots=True)
class _Scope:
    sources: list[_Source]
    visible: list[_Source]
    aliases: Mapping[str, Node] = field(default_factory=dict)


def named_timeframes(
    statement: Statement, params: Params, stored: Iterable[str], columns: Mapping[str, set[str]]
) -> Named | None:
    """What a statement names and the store does not hold; None where that is nothing.

    Args:
        statement: one that passed the gate.
        params: the values bound to it.
        stored: the timeframes whose bars are stored.
        columns: the columns of the tables and frames it may read, as far as they are known.

    Raises:
        SQLError: such a timeframe is named where it does not filter the rows of one reference to ``bars``.
    """
    if BARS not in statement.tables:
        return None
    held = set(stored)
    found = {text for text in texts.all_texts(statement.tree, params) if _is_computable(text)} - held
    if not found:
        return None
    reading = _Reading(statement, params, found, columns)
    try:
        reading.query(statement.tree["node"], [])
    except RecursionError:
        raise SQLError("the query is nested too deeply; break it up by WITH") from None
    return reading.result()


def _is_computable(text: str) -> bool:
    try:
        return str(Timeframe.parse(text)) == text
    except TimeframeError:
        return False


_OUTWARD: Final[list[_Source]] = []
"""Stands for: not in this scope."""


class _Reading:
    """One walk over a statement's tree."""

    def __init__(self, statement: Statement, params: Params, found: set[str], columns: Mapping[str, set[str]]) -> None:
        self._params, self._found, self._columns = params, found, columns
        self._shadowed = statement.shadowed
        self._sources: list[_Source] = []
        self._mentions: list[tuple[set[str], list[_Source] | None]] = []
        self._derived = self._derived_names(statement)

    def result(self) -> Named | None:
        """What was found, all mentions judged."""
        for named, sources in self._mentions:
            if sources is None or any("timeframe" not in source.bounds for source in sources):
                listed = ", ".join(sorted(named))
                raise SQLError(
                    f"bars of {listed} are not stored: they are computed where the WHERE or ON of the SELECT that "
                    f"reads bars requires it, as in (select * from bars where timeframe = '{min(named)}'); put the "
                    "condition there, and qualify a column of another table that only has the name"
                )
        wanted = [
            (source, found)
            for source in self._sources
            if (found := source.bounds.get("timeframe", frozenset()) & self._found)
        ]
        if not wanted:
            return None
        symbols = [source.bounds.get("symbol") for source, _ in wanted]
        known = None if None in symbols else frozenset().union(*(names for names in symbols if names is not None))
        every = frozenset().union(*(named for _, named in wanted))
        ordered = sorted(every, key=lambda text: Timeframe.parse(text).ns)
        return Named(tuple(ordered), known, [source.node for source, _ in wanted])

    def query(self, node: Node, scopes: list[_Scope]) -> None:
        """Read a query node."""
        for entry in (node.get("cte_map") or {}).get("map", ()):
            self.expression(entry["value"], scopes)
        scope = _Scope([], [])
        inner = [*scopes, scope]
        rest = {key: value for key, value in node.items() if key not in {"cte_map", "from_table", "where_clause"}}
        if node["type"] == "SELECT_NODE":
            scope.aliases = {item["alias"].lower(): item for item in node.get("select_list", ()) if item.get("alias")}
            filtered = self._from(node["from_table"], scope, inner)
            if where := node.get("where_clause"):
                if not node.get("sample"):
                    self._bind(where, inner, filtered)
                self.expression(where, inner)
        self.expression(rest, inner, is_query=True)

    def expression(self, node: Any, scopes: list[_Scope], *, negated: bool = False, is_query: bool = False) -> None:
        """Note what an expression names, and read the queries in it."""
        if isinstance(node, list):
            for item in node:
                self.expression(item, scopes, negated=negated)
        elif isinstance(node, dict):
            kind = node.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE") and not is_query:
                self.query(node, scopes)
                return
            if texts.is_equality(node, negated=negated):
                self._mention(node, scopes)
            passes_on = kind == "OPERATOR_NOT" or node.get("class") == "CONJUNCTION"
            flipped = (negated != (kind == "OPERATOR_NOT")) and passes_on
            for value in node.values():
                self.expression(value, scopes, negated=flipped)

    def _mention(self, node: Node, scopes: list[_Scope]) -> None:
        own = list(texts.outside_queries(node))
        named = texts.all_texts(node, self._params) & self._found
        if not named:
            return
        for part in own:
            if part.get("type") == "STAR":
                self._mentions.append((named, None))
            elif part.get("type") == "COLUMN_REF":
                sources = self._resolve(part["column_names"], "timeframe", scopes)
                if sources is None or sources:
                    self._mentions.append((named, sources))
        # 'x' in (select timeframe …): the column is in a scope of its own.
        if node.get("class") == "SUBQUERY" and texts.all_texts(node.get("child"), self._params) & self._found:
            hidden = any(_names_timeframe(part) for part in walk(node["subquery"]))
            self._mentions += [(named, None)] if hidden else []

    def _from(self, node: Node, scope: _Scope, scopes: list[_Scope], *, visible: bool = True) -> frozenset[int]:
        """Read what a SELECT reads from; gives the sources that its WHERE filters row by row, by identity."""
        if node["type"] == "JOIN":
            return self._join(node, scope, scopes, visible=visible)
        name = str(node.get("alias") or node.get("table_name") or "").lower()
        source = _Source(node, self._kind(node), name)
        if source.kind == "bars" and (renamed := node.get("column_name_alias")):
            source.timeframe = dict(enumerate(renamed)).get(BAR_SCHEMA.names.index("timeframe"), "timeframe").lower()
        if node["type"] == "PIVOT":
            self._pivot(node, scopes)
        elif node["type"] != "BASE_TABLE":
            self.expression({key: value for key, value in node.items() if key != "type"}, scopes)
        scope.sources.append(source)
        self._sources.append(source)
        if visible:
            scope.visible.append(source)
        # A sample is drawn before any condition.
        is_filtered = source.kind == "bars" and not node.get("sample")
        return frozenset({id(source)}) if is_filtered else _NO_REFS

    def _join(self, node: Node, scope: _Scope, scopes: list[_Scope], *, visible: bool) -> frozenset[int]:
        kind, how = node.get("join_type"), node.get("ref_type")
        begun = len(scope.sources)
        left = self._from(node["left"], scope, scopes, visible=visible)
        shows_right = visible and kind not in {"SEMI", "ANTI"}
        right = self._from(node["right"], scope, scopes, visible=shows_right)
        if condition := node.get("condition"):
            scoped = [*scopes[:-1], _Scope(scope.sources[begun:], scope.sources[begun:], scope.aliases)]
            by_condition = (left if kind in _FILTERS_LEFT else _NO_REFS) | (
                right if kind in _FILTERS_RIGHT else _NO_REFS
            )
            self._bind(condition, scoped, by_condition if how in {"REGULAR", "ASOF"} else _NO_REFS)
            self.expression(condition, scoped)
        if how == "POSITIONAL":
            return _NO_REFS
        return left if how == "ASOF" or kind in {"SEMI", "ANTI"} else left | right

    def _pivot(self, node: Node, scopes: list[_Scope]) -> None:
        scope = _Scope([], [])
        inner = [*scopes, scope]
        self._from(node["source"], scope, inner)
        for pivot in node.get("pivots", ()):
            named = texts.all_texts(pivot, self._params) & self._found
            if named and any(
                part.get("type") == "COLUMN_REF" and self._resolve(part["column_names"], "timeframe", inner) != []
                for part in walk(pivot.get("pivot_expressions"))
            ):
                self._mentions.append((named, None))
        self.expression(node.get("aggregates"), inner)

    def _bind(self, condition: Node, scopes: list[_Scope], filtered: frozenset[int]) -> None:
        for column in ("timeframe", "symbol"):
            for source, found in self._required(condition, column, scopes, filtered, negated=False).items():
                source.bounds[column] = source.bounds.get(column, found) & found

    def _required(
        self, node: Node, column: str, scopes: list[_Scope], filtered: frozenset[int], *, negated: bool
    ) -> dict[_Source, frozenset[str]]:
        """Per source, the texts that a row's column has one of if the condition holds (if negated: does not hold)."""
        if node.get("type") == "OPERATOR_NOT":
            return self._required(node["children"][0], column, scopes, filtered, negated=not negated)
        if node.get("class") == "CONJUNCTION":
            parts = [self._required(child, column, scopes, filtered, negated=negated) for child in node["children"]]
            is_and = (node["type"] == "CONJUNCTION_AND") != negated
            return _every(parts) if is_and else _any(parts)
        found: list[Sets] = texts.equalities(node, self._params, negated=negated)
        parts = []
        for alternative in found:
            pairs = []
            for names, values in alternative:
                sources = self._resolve(names, column, scopes) or []
                pairs.append({source: values for source in sources if id(source) in filtered})
            parts.append(_every(pairs))
        return _any(parts)

    def _resolve(self, names: list[str], column: str, scopes: list[_Scope]) -> list[_Source] | None:
        """The references to bars whose ``column`` is meant; none where another is; None where it cannot be told."""
        *path, name = (str(part).lower() for part in names)
        for depth in range(len(scopes), 0, -1):
            if path:
                found = _qualified(path[-1], name, column, scopes[depth - 1])
            else:
                found = self._unqualified(name, column, scopes[:depth])
            if found is not _OUTWARD:
                return found
        return [] if not path and name != "timeframe" else None

    def _unqualified(self, name: str, column: str, scopes: list[_Scope]) -> list[_Source] | None:
        scope = scopes[-1]
        if hits := [source for source in scope.visible if source.kind == "bars" and _is_column(source, name, column)]:
            return hits
        if any(source.name == name and source.kind != "other" for source in scope.sources):
            return None
        if (meant := scope.aliases.get(name)) is not None and name not in _ORDINARY:
            if meant.get("type") == "COLUMN_REF" and str(meant["column_names"][-1]).lower() != name:
                return self._resolve(meant["column_names"], column, scopes)
            if any(_names_timeframe(part) for part in walk(meant)):
                return None
        if any(source.kind == "derived" for source in scope.sources):
            return [] if name in _ORDINARY else None
        known = [self._columns.get(source.name) for source in scope.sources]
        is_own = any(name in names for names in known if names is not None)
        return [] if is_own or (None in known and name != "timeframe") else _OUTWARD

    def _kind(self, node: Node) -> str:
        if node["type"] != "BASE_TABLE":
            return "derived" if self._reads_bars(node) else "other"
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        if path[-1] == BARS and (len(path) > 1 or BARS not in self._shadowed):
            return "bars"
        return "derived" if len(path) == 1 and path[0] in self._derived else "other"

    def _derived_names(self, statement: Statement) -> set[str]:
        """Names of WITH queries that read bars, one through another too."""
        self._derived = {BARS} & self._shadowed
        bodies = [
            (str(entry["key"]).lower(), entry["value"])
            for node in statement.nodes()
            for entry in (node.get("cte_map") or {}).get("map", ())
        ]
        grown = -1
        while grown != len(self._derived):
            grown = len(self._derived)
            self._derived |= {name for name, body in bodies if self._reads_bars(body)}
        return self._derived

    def _reads_bars(self, tree: Any) -> bool:
        return any(part.get("type") == "BASE_TABLE" and self._kind(part) != "other" for part in walk(tree))


def _every(parts: list[dict[_Source, frozenset[str]]]) -> dict[_Source, frozenset[str]]:
    out: dict[_Source, frozenset[str]] = {}
    for part in parts:
        for source, found in part.items():
            out[source] = out.get(source, found) & found
    return out


def _any(parts: list[dict[_Source, frozenset[str]]]) -> dict[_Source, frozenset[str]]:
    if not parts:
        return {}
    common = set(parts[0]).intersection(*parts[1:])
    return {source: frozenset().union(*(part[source] for part in parts)) for source in common}


def _qualified(alias: str, name: str, column: str, scope: _Scope) -> list[_Source] | None:
    hits = [source for source in scope.sources if source.name == alias]
    if len(hits) != 1:
        return None if hits else _OUTWARD
    return _column_of(hits[0], name, column)


def _is_column(source: _Source, name: str, column: str) -> bool:
    return name == (source.timeframe if column == "timeframe" else column)


def _column_of(source: _Source, name: str, column: str) -> list[_Source] | None:
    if source.kind == "bars":
        return [source] if _is_column(source, name, column) else []
    return None if source.kind == "derived" and name not in _ORDINARY else []


def _names_timeframe(node: Node) -> bool:
    return node.get("type") == "COLUMN_REF" and str(node["column_names"][-1]).lower() == "timeframe"
