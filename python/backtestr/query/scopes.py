"""What a name in a statement means: which references to ``bars`` a column belongs to, as far as the tree can tell.

Scopes stand inside one another as the SELECTs do. A name is looked up from the innermost one outwards, and the
answer is one of three: references to ``bars`` whose column is meant, another column (an empty list), or `UNKNOWN`.
What is unknown is never guessed: whoever asks must then refuse, or do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from backtestr.query.gate import walk
from backtestr.query.texts import Node
from backtestr.schema import BARS, TICKS

_ORDINARY = {*BARS.names, *TICKS.names, "timestamp_ns", "exchange", "feed"} - {"timeframe"}
"""Columns of the store's views that, in whatever is made from bars, are never the timeframe."""


class _Answer(Enum):
    UNKNOWN = "the tree does not tell which column is meant"
    OUTWARD = "nothing in this scope has the name"


UNKNOWN: Final = _Answer.UNKNOWN
_OUTWARD: Final = _Answer.OUTWARD


@dataclass(slots=True, eq=False)
class Source:
    """What a SELECT reads from under one name.

    Attributes:
        node: its reference in the tree.
        kind: ``bars``, ``derived`` from bars (a subquery or WITH query that reads them), or ``other``.
        name: its alias, else its own name, in lower case.
        timeframe: the name of the column ``timeframe``, which the reference may rename.
        bounds: per column, texts of which every row that passes has one.
    """

    node: Node
    kind: Literal["bars", "derived", "other"]
    name: str
    timeframe: str = "timeframe"
    bounds: dict[str, frozenset[str]] = field(default_factory=dict)

    def has(self, name: str, column: str) -> bool:
        """Whether a reference to bars calls the column ``column`` by this name."""
        return name == (self.timeframe if column == "timeframe" else column)


Meant = list[Source] | Literal[_Answer.UNKNOWN]
"""References to bars whose column a name means; none where it means another; `UNKNOWN` where it cannot be told."""


@dataclass(slots=True)
class Scope:
    """What one SELECT reads from.

    Attributes:
        sources: all of it.
        visible: what unqualified names see; the right side of a SEMI or ANTI join is not.
        aliases: its select list by alias, in lower case.
    """

    sources: list[Source] = field(default_factory=list)
    visible: list[Source] = field(default_factory=list)
    aliases: Mapping[str, Node] = field(default_factory=dict)


def resolve(names: Sequence[str], column: str, scopes: Sequence[Scope], known: Mapping[str, set[str]]) -> Meant:
    """The references to bars whose ``column`` a name means.

    Args:
        names: the name's parts, such as ``["b", "timeframe"]``.
        column: a column of bars, such as ``"timeframe"``.
        scopes: where the name stands, the outermost first.
        known: the columns of tables and frames by name, as far as they are known.
    """
    *path, name = (part.lower() for part in names)
    for depth in range(len(scopes), 0, -1):
        if path:
            found = _qualified(path[-1], name, column, scopes[depth - 1])
        else:
            found = _unqualified(name, column, scopes[:depth], known)
        if found is not _OUTWARD:
            return found
    return UNKNOWN if path or name == "timeframe" else []


def names_timeframe(node: Node) -> bool:
    """Whether a part of the tree is a column that is called ``timeframe``."""
    return node.get("type") == "COLUMN_REF" and str(node["column_names"][-1]).lower() == "timeframe"


def _qualified(alias: str, name: str, column: str, scope: Scope) -> Meant | Literal[_Answer.OUTWARD]:
    hits = [source for source in scope.sources if source.name == alias]
    if len(hits) != 1:
        return UNKNOWN if hits else _OUTWARD
    (source,) = hits
    if source.kind == "bars":
        return [source] if source.has(name, column) else []
    return UNKNOWN if source.kind == "derived" and name not in _ORDINARY else []


def _unqualified(
    name: str, column: str, scopes: Sequence[Scope], known: Mapping[str, set[str]]
) -> Meant | Literal[_Answer.OUTWARD]:
    scope = scopes[-1]
    if hits := [source for source in scope.visible if source.kind == "bars" and source.has(name, column)]:
        return hits
    # The name of a whole row, compared as one value.
    if any(source.name == name and source.kind != "other" for source in scope.sources):
        return UNKNOWN
    if (meant := scope.aliases.get(name)) is not None and name not in _ORDINARY:
        if meant.get("type") == "COLUMN_REF" and str(meant["column_names"][-1]).lower() != name:
            return resolve(meant["column_names"], column, scopes, known)
        if any(names_timeframe(part) for part in walk(meant)):
            return UNKNOWN
    if any(source.kind == "derived" for source in scope.sources):
        return [] if name in _ORDINARY else UNKNOWN
    columns = [known.get(source.name) for source in scope.sources]
    is_own = any(name in names for names in columns if names is not None)
    return [] if is_own or (None in columns and name != "timeframe") else _OUTWARD
