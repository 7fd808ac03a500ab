"""The timeframes that a statement names and the store does not hold, and the references to bars that show them.

A reference shows computed bars only where a condition that every one of its rows must pass, in the SELECT that reads
it, sets its timeframe equal to texts: all other bars beside the stored ones are then filtered away again, so no other
reference, and no other row, can tell. What names such a timeframe elsewhere is refused, not answered without its bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backtestr.errors import SQLError, TimeframeError
from backtestr.models import Timeframe
from backtestr.query import texts
from backtestr.query.gate import Statement, walk
from backtestr.query.references import Data, Scope, Source, is_column, view_columns
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


_OUTWARD: Final[list[Source]] = []
"""Stands for: not in this scope."""


class _Reading:
    """One walk over a statement's tree."""

    def __init__(self, statement: Statement, params: Params, found: set[str], columns: Mapping[str, set[str]]) -> None:
        self._params, self._found, self._columns = params, found, columns
        self._shadowed = statement.shadowed
        self._sources: list[Source] = []
        self._mentions: list[tuple[set[str], list[Source] | None]] = []
        self._data: list[Data] = []
        self._derived = self._derived_names(statement)

    def result(self) -> Named | None:
        """What was found, all mentions judged."""
        self._follow_links()
        self._mentions += [(self._found, None) for data in self._data if self._misses(data)]
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

    def _follow_links(self) -> None:
        """What is equal to a bounded column is bounded too."""
        grew = True
        while grew:
            grew = False
            for source in self._sources:
                for column, others in source.links.items():
                    bounds = next((other.bounds[column] for other in others if column in other.bounds), None)
                    if bounds is not None and column not in source.bounds:
                        source.bounds[column] = bounds
                        grew = True

    def _misses(self, data: Data) -> bool:
        """Whether a reference may be meant to show bars that it does not."""
        unbound = [source for source in self._sources if source.kind == "bars" and "timeframe" not in source.bounds]
        if data.is_foreign and any(source in unbound for source in data.sources):
            return True
        both = [*data.sources, *data.others]
        shows = any(source.bounds.get("timeframe", frozenset()) & self._found for source in both)
        return shows and (any(source in unbound for source in both) or (data.is_derived and bool(unbound)))

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
        """Note what an expression names, and read the queries in it."""
        if isinstance(node, list):
            for item in node:
                self.expression(item, scopes, negated=negated)
        elif isinstance(node, dict):
            kind = node.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE") and not is_query:
                self.query(node, scopes)
                return
            begun = len(self._sources)
            passes_on = kind == "OPERATOR_NOT" or node.get("class") == "CONJUNCTION"
            flipped = (negated != (kind == "OPERATOR_NOT")) and passes_on
            for value in node.values():
                self.expression(value, scopes, negated=flipped)
            if texts.is_equality(node, negated=negated):
                self._mention(node, list(texts.outside_queries(node)), node, scopes)
                for left, right in texts.compared(node):
                    self._compare(left, right, scopes, self._sources[begun:])
                    self._compare(right, left, scopes, self._sources[begun:])
            elif texts.may_select(node, negated=negated):
                direct = list(texts.direct_parts(node))
                self._mention(node, direct, _leaves(direct), scopes)

    def _compare(self, left: Node, right: Node, scopes: list[Scope], inner: list[Source]) -> None:
        """Note the timeframes on the left that are set equal to what is no text, on the right."""
        mine = [source for part in _columns_of(left) for source in self._resolve(part, "timeframe", scopes) or []]
        if not mine:
            return
        found = [self._resolve(part, "timeframe", scopes) for part in _columns_of(right)]
        others = [source for sources in found for source in sources or []]
        has_query = any(str(part.get("type")).endswith("_NODE") for part in walk(right))
        if has_query:
            others += [source for source in inner if source.kind == "bars"]
        is_derived = None in found or (has_query and any(source.kind == "derived" for source in inner))
        is_foreign = any(not sources for sources in found) or has_query
        if found or has_query:
            self._data.append(Data(mine, others, is_derived, is_foreign))

    def _mention(self, node: Node, own: list[Node], told: Any, scopes: list[Scope]) -> None:
        named = texts.all_texts(told, self._params) & self._found
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
        for part in own:
            outside = part if part is not node else {key: value for key, value in node.items() if key != "subquery"}
            if "subquery" in part and (part is not node or texts.all_texts(outside, self._params) & self._found):
                selected = (part["subquery"].get("node") or {}).get("select_list", part["subquery"])
                hidden = any(_names_timeframe(inner) for inner in walk(selected))
                self._mentions += [(named, None)] if hidden else []

    def _from(self, node: Node, scope: Scope, scopes: list[Scope], *, visible: bool = True) -> frozenset[int]:
        """Read what a SELECT reads from; gives the sources that its WHERE filters row by row, by identity."""
        if node["type"] == "JOIN":
            return self._join(node, scope, scopes, visible=visible)
        name = str(node.get("alias") or node.get("table_name") or "").lower()
        source = Source(node, self._kind(node), name)
        if source.kind == "bars":
            source.columns = view_columns(node.get("column_name_alias") or [])
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
        for name in ("timeframe", "symbol"):
            if name not in using and not is_natural:
                continue
            sides = [[source for source in side if self._may_have(source, name)] for side in (left, right)]
            for mine, others in (sides, sides[::-1]):
                bars = [source for source in mine if source.kind == "bars" and is_column(source, name, name)]
                same = [source for source in others if source.kind == "bars" and is_column(source, name, name)]
                for source in bars:
                    if id(source) in filtered and node.get("ref_type") in {"REGULAR", "NATURAL"}:
                        source.links.setdefault(name, []).extend(same)
                if name == "timeframe" and bars and others:
                    rest = [source for source in others if source not in same]
                    is_derived = any(source.kind == "derived" for source in rest)
                    self._data.append(Data(bars, same, is_derived, not same))

    def _may_have(self, source: Source, name: str) -> bool:
        known = source.columns if source.kind == "bars" else self._known(source)
        return known is None or name in known

    def _known(self, source: Source) -> set[str] | None:
        """The columns of a table or frame, as far as they are known."""
        node = source.node
        if source.kind != "other" or node["type"] != "BASE_TABLE" or node.get("column_name_alias"):
            return None
        name = str(node["qualified_name"]["path"][-1]).lower()
        return None if name in self._shadowed else self._columns.get(name)

    def _pivot(self, node: Node, scopes: list[Scope]) -> None:
        scope = Scope([], [])
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

    def _bind(self, condition: Node, scopes: list[Scope], filtered: frozenset[int]) -> None:
        for column in ("timeframe", "symbol"):
            for source, found in self._required(condition, column, scopes, filtered, negated=False).items():
                source.bounds[column] = source.bounds.get(column, found) & found
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
    ) -> dict[Source, frozenset[str]]:
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

    def _resolve(self, names: list[str], column: str, scopes: list[Scope]) -> list[Source] | None:
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

    def _unqualified(self, name: str, column: str, scopes: list[Scope]) -> list[Source] | None:
        scope = scopes[-1]
        # A column goes before an alias of the same name.
        if any(source.kind == "bars" and name in source.columns for source in scope.visible):
            return [source for source in scope.visible if source.kind == "bars" and is_column(source, name, column)]
        if any(source.name == name and source.kind != "other" for source in scope.sources):
            return None
        is_surely_column = name in _ORDINARY and not any(
            source.node.get("column_name_alias") for source in scope.sources
        )
        if (meant := scope.aliases.get(name)) is not None and not is_surely_column:
            if meant.get("type") == "COLUMN_REF" and str(meant["column_names"][-1]).lower() != name:
                return self._resolve(meant["column_names"], column, scopes)
            if any(_names_timeframe(part) for part in walk(meant)):
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


def _every(parts: list[dict[Source, frozenset[str]]]) -> dict[Source, frozenset[str]]:
    out: dict[Source, frozenset[str]] = {}
    for part in parts:
        for source, found in part.items():
            out[source] = out.get(source, found) & found
    return out


def _any(parts: list[dict[Source, frozenset[str]]]) -> dict[Source, frozenset[str]]:
    if not parts:
        return {}
    common = set(parts[0]).intersection(*parts[1:])
    return {source: frozenset().union(*(part[source] for part in parts)) for source in common}


def _qualified(alias: str, name: str, column: str, scope: Scope) -> list[Source] | None:
    hits = [source for source in scope.sources if source.name == alias]
    if len(hits) != 1:
        return None if hits else _OUTWARD
    return _column_of(hits[0], name, column)


def _columns_of(node: Node) -> list[list[str]]:
    return [part["column_names"] for part in texts.outside_queries(node) if part.get("type") == "COLUMN_REF"]


def _leaves(parts: list[Node]) -> list[Node]:
    return [part for part in parts if part.get("type") in {"VALUE_CONSTANT", "VALUE_PARAMETER"}]


def _column_of(source: Source, name: str, column: str) -> list[Source] | None:
    if source.kind == "bars":
        return [source] if is_column(source, name, column) else []
    return None if source.kind == "derived" and name not in _ORDINARY else []


def _names_timeframe(node: Node) -> bool:
    return node.get("type") == "COLUMN_REF" and str(node["column_names"][-1]).lower() == "timeframe"
