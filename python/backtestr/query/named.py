"""The timeframes that a statement names and the store does not hold, and the references to bars that show them.

Bars of such a timeframe are computed, and a reference to ``bars`` shows them beside the stored ones, only where all
other rows that it would gain are filtered away again: no other reference, and no other row, can tell. The rules:

1. **Names.** A timeframe is named where a condition (``=``, ``in``, ``not`` of their contraries) compares something
   with its text: a constant, a parameter, or one of a list of them.
2. **Binding.** A reference is bound to texts where a condition that each of its rows must pass sets its timeframe
   equal to them: the WHERE of the SELECT that reads it, or the ON of a join that drops the rows that fail it. ``and``
   intersects what its sides bind, ``or`` binds only what both bind; a symbol is bound alike, to compute no others.
3. **Refusal.** Each comparison of rule 1 must mean the timeframe of references that are bound, or a column that
   certainly is another: what is neither would be answered without its bars, and is an error instead.

What a column's name means is found in `backtestr.query.scopes`, what a condition compares in `backtestr.query.texts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backtestr.errors import SQLError, TimeframeError
from backtestr.models import Timeframe
from backtestr.query import texts
from backtestr.query.gate import Statement, walk
from backtestr.query.scopes import UNKNOWN, Meant, Scope, Source, names_timeframe, resolve
from backtestr.query.texts import Node, Sets
from backtestr.query.values import Params
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.storage.layout import BARS

_FILTERS_LEFT = {"INNER", "RIGHT", "SEMI"}
"""Joins whose condition drops rows of the left side that fail it."""
_FILTERS_RIGHT = {"INNER", "LEFT", "SEMI", "ANTI"}
"""The same of the right side."""
_NOTHING: frozenset[Source] = frozenset()

Bounds = dict[Source, frozenset[str]]
"""Per reference to bars, texts of which a column of each row has one."""


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be computed for a statement.

    Attributes:
        timeframes: those to compute, finest first.
        symbols: whose bars; None for all.
        references: the tree's references to ``bars`` that are to show them.
    """

    timeframes: tuple[str, ...]
    symbols: frozenset[str] | None
    references: list[Node]


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


class _Reading:
    """One walk over a statement's tree."""

    def __init__(self, statement: Statement, params: Params, found: set[str], columns: Mapping[str, set[str]]) -> None:
        self._params, self._found, self._columns = params, found, columns
        self._shadowed = statement.shadowed
        self._sources: list[Source] = []
        self._mentions: list[tuple[set[str], Meant]] = []
        self._derived = self._derived_names(statement)

    def result(self) -> Named | None:
        """What was found, all mentions judged."""
        for named, sources in self._mentions:
            if sources is UNKNOWN or any("timeframe" not in source.bounds for source in sources):
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

    def query(self, node: Node, scopes: list[Scope]) -> None:
        """Read a query node."""
        for entry in (node.get("cte_map") or {}).get("map", ()):
            self.expression(entry["value"], scopes)
        scope = Scope()
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

    def _mention(self, node: Node, scopes: list[Scope]) -> None:
        own = list(texts.outside_queries(node))
        named = texts.all_texts(node, self._params) & self._found
        if not named:
            return
        for part in own:
            if part.get("type") == "STAR":  # COLUMNS(…) may be any of them
                self._mentions.append((named, UNKNOWN))
            elif part.get("type") == "COLUMN_REF":
                self._mentions.append((named, self._resolve(part["column_names"], "timeframe", scopes)))
        # 'x' in (select timeframe …): the column is in a scope of its own.
        if node.get("class") == "SUBQUERY" and texts.all_texts(node.get("child"), self._params) & self._found:
            hidden = any(names_timeframe(part) for part in walk(node["subquery"]))
            self._mentions += [(named, UNKNOWN)] if hidden else []

    def _from(self, node: Node, scope: Scope, scopes: list[Scope], *, visible: bool = True) -> frozenset[Source]:
        """Read what a SELECT reads from; gives the references to bars that its WHERE filters row by row."""
        if node["type"] == "JOIN":
            return self._join(node, scope, scopes, visible=visible)
        name = str(node.get("alias") or node.get("table_name") or "").lower()
        source = Source(node, self._kind(node), name)
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
        return frozenset({source}) if is_filtered else _NOTHING

    def _join(self, node: Node, scope: Scope, scopes: list[Scope], *, visible: bool) -> frozenset[Source]:
        kind, how = node.get("join_type"), node.get("ref_type")
        begun = len(scope.sources)
        left = self._from(node["left"], scope, scopes, visible=visible)
        shows_right = visible and kind not in {"SEMI", "ANTI"}
        right = self._from(node["right"], scope, scopes, visible=shows_right)
        if condition := node.get("condition"):
            scoped = [*scopes[:-1], Scope(scope.sources[begun:], scope.sources[begun:], scope.aliases)]
            by_condition = (left if kind in _FILTERS_LEFT else _NOTHING) | (
                right if kind in _FILTERS_RIGHT else _NOTHING
            )
            self._bind(condition, scoped, by_condition if how in {"REGULAR", "ASOF"} else _NOTHING)
            self.expression(condition, scoped)
        if how == "POSITIONAL":
            return _NOTHING
        return left if how == "ASOF" or kind in {"SEMI", "ANTI"} else left | right

    def _pivot(self, node: Node, scopes: list[Scope]) -> None:
        scope = Scope()
        inner = [*scopes, scope]
        self._from(node["source"], scope, inner)
        for pivot in node.get("pivots", ()):
            named = texts.all_texts(pivot, self._params) & self._found
            if named and any(
                part.get("type") == "COLUMN_REF" and self._resolve(part["column_names"], "timeframe", inner) != []
                for part in walk(pivot.get("pivot_expressions"))
            ):
                self._mentions.append((named, UNKNOWN))
        self.expression(node.get("aggregates"), inner)

    def _bind(self, condition: Node, scopes: list[Scope], filtered: frozenset[Source]) -> None:
        for column in ("timeframe", "symbol"):
            for source, found in self._required(condition, column, scopes, filtered, negated=False).items():
                source.bounds[column] = source.bounds.get(column, found) & found

    def _required(
        self, node: Node, column: str, scopes: list[Scope], filtered: frozenset[Source], *, negated: bool
    ) -> Bounds:
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
                meant = self._resolve(names, column, scopes)
                sources = () if meant is UNKNOWN else meant
                pairs.append({source: values for source in sources if source in filtered})
            parts.append(_every(pairs))
        return _any(parts)

    def _resolve(self, names: list[str], column: str, scopes: list[Scope]) -> Meant:
        return resolve(names, column, scopes, self._columns)

    def _kind(self, node: Node) -> Literal["bars", "derived", "other"]:
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


def _every(parts: list[Bounds]) -> Bounds:
    out: Bounds = {}
    for part in parts:
        for source, found in part.items():
            out[source] = out.get(source, found) & found
    return out


def _any(parts: list[Bounds]) -> Bounds:
    if not parts:
        return {}
    common = set(parts[0]).intersection(*parts[1:])
    return {source: frozenset().union(*(part[source] for part in parts)) for source in common}
