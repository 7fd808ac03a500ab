"""The timeframes that a statement names and the store does not hold, and the references to bars that show them.

A reference shows computed bars only where a condition that every one of its rows must pass, in the SELECT that reads
it, sets its timeframe equal to texts: all other bars beside the stored ones are then filtered away again, so no other
reference, and no other row, can tell. What names such a timeframe elsewhere is refused, not answered without its bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backtestr.errors import SQLError, TimeframeError
from backtestr.models import Timeframe
from backtestr.query import texts
from backtestr.query.bounds import Reading, names_column
from backtestr.query.gate import Statement
from backtestr.query.parser import Node, walk
from backtestr.query.references import Data, Scope, Source
from backtestr.query.values import Params
from backtestr.storage.layout import BARS


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be computed for a statement."""

    timeframes: tuple[str, ...]
    symbols: frozenset[str] | None
    """None for all."""
    references: list[Node]
    """The tree's references to ``bars`` that are to show it."""


class Requirements(Reading):
    """What a statement requires of the rows it reads, and of bars that the store does not hold.

    Args:
        statement: one that passed the gate.
        params: the values bound to it.
        stored: the timeframes whose bars are stored.
        columns: the columns of the tables and frames it may read, as far as they are known.

    Raises:
        SQLError: it is nested too deeply.
    """

    def __init__(
        self, statement: Statement, params: Params, stored: Iterable[str], columns: Mapping[str, set[str]]
    ) -> None:
        super().__init__(statement, params, columns)
        self._found: set[str] = set()
        if BARS in statement.tables:
            named = texts.all_texts(statement.tree, params)
            self._found = {text for text in named if _is_computable(text)} - set(stored)
        self._mentions: list[tuple[set[str], list[Source] | None]] = []
        self._data: list[Data] = []
        try:
            self.query(statement.tree["node"], [])
        except RecursionError:
            raise SQLError("the query is nested too deeply; break it up by WITH") from None
        self.follow_links()

    def named(self) -> Named | None:
        """What is to be computed; None where nothing is.

        Raises:
            SQLError: a timeframe is named where it does not filter the rows of one reference to ``bars``.
        """
        if not self._found:
            return None
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
            for source in self.sources
            if (found := source.bounds.get("timeframe", frozenset()) & self._found)
        ]
        if not wanted:
            return None
        symbols = [source.bounds.get("symbol") for source, _ in wanted]
        known = None if None in symbols else frozenset().union(*(names for names in symbols if names is not None))
        every = frozenset().union(*(named for _, named in wanted))
        ordered = sorted(every, key=lambda text: Timeframe.parse(text).ns)
        return Named(tuple(ordered), known, [source.node for source, _ in wanted])

    def _misses(self, data: Data) -> bool:
        """Whether a reference may be meant to show bars that it does not."""
        unbound = [source for source in self.sources if source.kind == BARS and "timeframe" not in source.bounds]
        if data.is_foreign and any(source in unbound for source in data.sources):
            return True
        both = [*data.sources, *data.others]
        shows = any(source.bounds.get("timeframe", frozenset()) & self._found for source in both)
        return shows and (any(source in unbound for source in both) or (data.is_derived and bool(unbound)))

    def _note(self, node: Node, scopes: list[Scope], inner: list[Source], *, negated: bool) -> None:
        if not self._found:
            return
        if texts.is_equality(node, negated=negated):
            self._mention(node, list(texts.outside_queries(node)), node, scopes)
            for left, right in texts.compared(node):
                self._compare(left, right, scopes, inner)
                self._compare(right, left, scopes, inner)
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
            others += [source for source in inner if source.kind == BARS]
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
                hidden = any(names_column(inner, "timeframe") for inner in walk(selected))
                self._mentions += [(named, None)] if hidden else []

    def _note_shared(self, name: str, mine: list[Source], same: list[Source], others: list[Source]) -> None:
        if name == "timeframe" and mine and others:
            rest = [source for source in others if source not in same]
            self._data.append(Data(mine, same, any(source.kind == "derived" for source in rest), not same))

    def _note_pivot(self, node: Node, scopes: list[Scope]) -> None:
        named = texts.all_texts(node, self._params) & self._found
        if named and any(
            part.get("type") == "COLUMN_REF" and self._resolve(part["column_names"], "timeframe", scopes) != []
            for part in walk(node.get("pivot_expressions"))
        ):
            self._mentions.append((named, None))


def _is_computable(text: str) -> bool:
    try:
        return str(Timeframe.parse(text)) == text
    except TimeframeError:
        return False


def _columns_of(node: Node) -> list[list[str]]:
    return [part["column_names"] for part in texts.outside_queries(node) if part.get("type") == "COLUMN_REF"]


def _leaves(parts: list[Node]) -> list[Node]:
    return [part for part in parts if part.get("type") in {"VALUE_CONSTANT", "VALUE_PARAMETER"}]
