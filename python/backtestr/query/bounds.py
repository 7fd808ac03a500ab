"""What a statement requires of the rows of each table it reads: texts that columns equal, and a range of time.

A row outside of a reference's bounds changes nothing of the answer: a condition that every row must pass, in the SELECT
that reads it, fails for it. What cannot be told has no bounds.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from backtestr.query import texts
from backtestr.query.gate import Statement
from backtestr.query.parser import Node, walk
from backtestr.query.ranges import compared_ranges
from backtestr.query.references import VIEWS, Scope, Source, view_columns
from backtestr.query.values import Params
from backtestr.storage.layout import BARS, TICKS

TIMES: Final = ("timestamp_utc", "timestamp_ns")
_COLUMNS: Final = ("timeframe", "symbol", *TIMES)
_LINKED: Final = ("timeframe", "symbol")
_ORDINARY: Final = {*VIEWS[BARS], *VIEWS[TICKS], "exchange_id", "feed_id"} - {"timeframe"}
_FILTERS_LEFT = {"INNER", "RIGHT", "SEMI"}
_FILTERS_RIGHT = {"INNER", "LEFT", "SEMI", "ANTI"}
_NO_REFS: frozenset[int] = frozenset()
_OUTWARD: Final[list[Source]] = []
"""Stands for: not in this scope."""


class Reading:
    """One walk over a statement's tree."""

    def __init__(self, statement: Statement, params: Params, columns: Mapping[str, set[str]]) -> None:
        self._params, self._columns = params, columns
        self._shadowed = statement.shadowed
        self.sources: list[Source] = []
        """What the statement reads from, in all of its scopes."""
        self._derived = self._derivednames_column(statement)

    def follow_links(self) -> None:
        """What is equal to a bounded column is bounded too."""
        grew = True
        while grew:
            grew = False
            for source in self.sources:
                for column, others in source.links.items():
                    bounds = next((other.bounds[column] for other in others if column in other.bounds), None)
                    if bounds is not None and column not in source.bounds:
                        source.bounds[column] = bounds
                        grew = True

    def query(self, node: Node, scopes: list[Scope]) -> None:
        """Read a query node."""
        for entry in (node.get("cte_map") or {}).get("map", ()):
            self.expression(entry["value"], scopes)
        scope = Scope([], [])
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

    def expression(self, node: Any, scopes: list[Scope], *, negated: bool = False, is_query: bool = False) -> None:
        """Read the queries in an expression, and note what its conditions say."""
        if isinstance(node, list):
            for item in node:
                self.expression(item, scopes, negated=negated)
        elif isinstance(node, dict):
            kind = node.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE") and not is_query:
                self.query(node, scopes)
                return
            begun = len(self.sources)
            passes_on = kind == "OPERATOR_NOT" or node.get("class") == "CONJUNCTION"
            flipped = (negated != (kind == "OPERATOR_NOT")) and passes_on
            for value in node.values():
                self.expression(value, scopes, negated=flipped)
            self._note(node, scopes, self.sources[begun:], negated=negated)

    def _note(self, node: Node, scopes: list[Scope], inner: list[Source], *, negated: bool) -> None:
        """Take note of an expression, after the queries in it, which read from ``inner``."""

    def _note_shared(self, name: str, mine: list[Source], same: list[Source], others: list[Source]) -> None:
        """Take note of a column that a join shares: between ``mine`` and ``others``, of which ``same`` are bars."""

    def _note_pivot(self, node: Node, scopes: list[Scope]) -> None:
        """Take note of one of a PIVOT's columns."""

    def _from(self, node: Node, scope: Scope, scopes: list[Scope], *, visible: bool = True) -> frozenset[int]:
        """Read what a SELECT reads from; gives the sources that its WHERE filters row by row, by identity."""
        if node["type"] == "JOIN":
            return self._join(node, scope, scopes, visible=visible)
        name = str(node.get("alias") or node.get("table_name") or "").lower()
        source = Source(node, self._kind(node), name)
        if source.kind in VIEWS:
            source.columns = view_columns(source.kind, node.get("column_name_alias") or [])
        if node["type"] == "PIVOT":
            self._pivot(node, scopes)
        elif node["type"] != "BASE_TABLE":
            self.expression({key: value for key, value in node.items() if key != "type"}, scopes)
        scope.sources.append(source)
        self.sources.append(source)
        if visible:
            scope.visible.append(source)
        # A sample is drawn before any condition.
        is_filtered = source.kind in VIEWS and not node.get("sample")
        return frozenset({id(source)}) if is_filtered else _NO_REFS

    def _join(self, node: Node, scope: Scope, scopes: list[Scope], *, visible: bool) -> frozenset[int]:
        kind, how = node.get("join_type"), node.get("ref_type")
        begun = len(scope.sources)
        left = self._from(node["left"], scope, scopes, visible=visible)
        middle = len(scope.sources)
        shows_right = visible and kind not in {"SEMI", "ANTI"}
        right = self._from(node["right"], scope, scopes, visible=shows_right)
        by_condition = (left if kind in _FILTERS_LEFT else _NO_REFS) | (right if kind in _FILTERS_RIGHT else _NO_REFS)
        self._share(node, scope.sources[begun:middle], scope.sources[middle:], by_condition)
        if condition := node.get("condition"):
            scoped = [*scopes[:-1], Scope(scope.sources[begun:], scope.sources[begun:], scope.aliases)]
            self._bind(condition, scoped, by_condition if how in {"REGULAR", "ASOF"} else _NO_REFS)
            self.expression(condition, scoped)
        if how == "POSITIONAL":
            return _NO_REFS
        return left if how == "ASOF" or kind in {"SEMI", "ANTI"} else left | right

    def _share(self, node: Node, left: list[Source], right: list[Source], filtered: frozenset[int]) -> None:
        """Note what USING and NATURAL set equal."""
        using = {str(name).lower() for name in node.get("using_columns", ())}
        is_natural = node.get("ref_type") == "NATURAL"
        for name in _LINKED:
            if name not in using and not is_natural:
                continue
            sides = [[source for source in side if self._may_have(source, name)] for side in (left, right)]
            for mine, others in (sides, sides[::-1]):
                ours = [source for source in mine if source.is_column(name, name)]
                same = [source for source in others if source.is_column(name, name)]
                for source in ours:
                    if id(source) in filtered and node.get("ref_type") in {"REGULAR", "NATURAL"}:
                        source.links.setdefault(name, []).extend(same)
                self._note_shared(name, ours, same, others)

    def _may_have(self, source: Source, name: str) -> bool:
        known = source.columns if source.kind in VIEWS else self._known(source)
        return known is None or name in known

    def _known(self, source: Source) -> set[str] | None:
        """The columns of a table or frame, as far as they are known."""
        node = source.node
        is_plain = source.kind in {"other", TICKS} and node["type"] == "BASE_TABLE"
        if not is_plain or node.get("column_name_alias"):
            return None
        name = str(node["qualified_name"]["path"][-1]).lower()
        return None if name in self._shadowed and source.kind == "other" else self._columns.get(name)

    def _pivot(self, node: Node, scopes: list[Scope]) -> None:
        scope = Scope([], [])
        inner = [*scopes, scope]
        self._from(node["source"], scope, inner)
        for pivot in node.get("pivots", ()):
            self._note_pivot(pivot, inner)
        self.expression(node.get("aggregates"), inner)

    def _bind(self, condition: Node, scopes: list[Scope], filtered: frozenset[int]) -> None:
        for column in _COLUMNS:
            for source, found in self._required(condition, column, scopes, filtered, negated=False).items():
                source.bounds[column] = source.bounds.get(column, found) & found
        for column in _LINKED:
            self._link(condition, column, scopes, filtered)

    def _link(self, condition: Node, column: str, scopes: list[Scope], filtered: frozenset[int]) -> None:
        if condition.get("type") == "CONJUNCTION_AND":
            for child in condition["children"]:
                self._link(child, column, scopes, filtered)
        elif condition.get("type") == "COMPARE_EQUAL":
            for sides in texts.compared(condition):
                names = [texts.column(side) for side in sides]
                found = [None if name is None else self._resolve(name, column, scopes) for name in names]
                for mine, others in (found, found[::-1]):
                    # One on the other side: of several it may be any.
                    if mine and others and len(mine) == len(others) == 1 and id(mine[0]) in filtered:
                        mine[0].links.setdefault(column, []).append(others[0])

    def _required(
        self, node: Node, column: str, scopes: list[Scope], filtered: frozenset[int], *, negated: bool
    ) -> dict[Source, Any]:
        """Per source, what a row's column is one of, or in, if the condition holds (if negated: does not hold)."""
        if node.get("type") == "OPERATOR_NOT":
            return self._required(node["children"][0], column, scopes, filtered, negated=not negated)
        if node.get("class") == "CONJUNCTION":
            parts = [self._required(child, column, scopes, filtered, negated=negated) for child in node["children"]]
            is_and = (node["type"] == "CONJUNCTION_AND") != negated
            return _every(parts) if is_and else _any(parts)
        judge = compared_ranges if column in TIMES else texts.equalities
        parts = []
        for alternative in judge(node, self._params, negated=negated):
            pairs = []
            for names, values in alternative:
                sources = self._resolve(names, column, scopes) or []
                pairs.append({source: values for source in sources if id(source) in filtered})
            parts.append(_every(pairs))
        return _any(parts)

    def _resolve(self, names: list[str], column: str, scopes: list[Scope]) -> list[Source] | None:
        """The references whose ``column`` is meant; none where another is; None where it cannot be told."""
        *path, name = (str(part).lower() for part in names)
        for depth in range(len(scopes), 0, -1):
            if path:
                found = _qualified(path[-1], name, column, scopes[depth - 1])
            else:
                found = self._unqualified(name, column, scopes[:depth])
            if found is not _OUTWARD:
                return found
        return [] if not path and name != "timeframe" else None

    def _unqualified(self, name: str, column: str, scopes: list[Scope]) -> list[Source] | None:
        scope = scopes[-1]
        # A column goes before an alias of the same name.
        if any(name in source.columns for source in scope.visible):
            return [source for source in scope.visible if source.is_column(name, column)]
        if any(source.name == name and source.kind != "other" for source in scope.sources):
            return None
        is_surely_column = name in _ORDINARY and not any(
            source.node.get("column_name_alias") for source in scope.sources
        )
        if (meant := scope.aliases.get(name)) is not None and not is_surely_column:
            if meant.get("type") == "COLUMN_REF" and str(meant["column_names"][-1]).lower() != name:
                return self._resolve(meant["column_names"], column, scopes)
            if any(names_column(part, "timeframe") for part in walk(meant)):
                return None
        if any(source.kind == "derived" for source in scope.sources):
            return [] if name in _ORDINARY else None
        known = [self._known(source) for source in scope.sources]
        is_own = any(name in names for names in known if names is not None)
        return [] if is_own or (None in known and name != "timeframe") else _OUTWARD

    def _kind(self, node: Node) -> str:
        if node["type"] != "BASE_TABLE":
            return "derived" if self._reads_bars(node) else "other"
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        if path[-1] in VIEWS and (len(path) > 1 or path[-1] not in self._shadowed):
            return path[-1]
        return "derived" if len(path) == 1 and path[0] in self._derived else "other"

    def _derivednames_column(self, statement: Statement) -> set[str]:
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
        return any(part.get("type") == "BASE_TABLE" and self._kind(part) in {BARS, "derived"} for part in walk(tree))


def _every(parts: list[dict[Source, Any]]) -> dict[Source, Any]:
    out: dict[Source, Any] = {}
    for part in parts:
        for source, found in part.items():
            out[source] = out.get(source, found) & found
    return out


def _any(parts: list[dict[Source, Any]]) -> dict[Source, Any]:
    if not parts:
        return {}
    common = set(parts[0]).intersection(*parts[1:])
    return {source: reduce(operator.or_, (part[source] for part in parts)) for source in common}


def _qualified(alias: str, name: str, column: str, scope: Scope) -> list[Source] | None:
    hits = [source for source in scope.sources if source.name == alias]
    if len(hits) != 1:
        return None if hits else _OUTWARD
    if hits[0].kind in VIEWS:
        return [hits[0]] if hits[0].is_column(name, column) else []
    return None if hits[0].kind == "derived" and name not in _ORDINARY else []


def names_column(node: Node, column: str) -> bool:
    """Whether an expression is a reference to a column of that name, of any table."""
    return node.get("type") == "COLUMN_REF" and str(node["column_names"][-1]).lower() == column
