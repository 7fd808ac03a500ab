"""References to tables in a statement's scopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backtestr.query.parser import Node
from backtestr.schema import BARS as BAR_SCHEMA
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.layout import BARS, TICKS

_SHOWN: Final = {"exchange_id": ["exchange"], "feed_id": ["feed"], "timestamp_utc": ["timestamp_utc", "timestamp_ns"]}
VIEWS: Final = {
    table: [shown for name in schema.names for shown in _SHOWN.get(name, [name])]
    for table, schema in ((TICKS, TICK_SCHEMA), (BARS, BAR_SCHEMA))
}
"""The columns of the views ``ticks`` and ``bars``, in order."""


@dataclass(slots=True, eq=False)
class Source:
    """What a SELECT reads from under one name."""

    node: Node
    kind: str
    """``ticks``, ``bars``, ``derived`` from one of them, or ``other``."""
    name: str
    columns: list[str] = field(default_factory=list)
    """Of ticks and bars: the names of the view's columns here."""
    bounds: dict[str, Any] = field(default_factory=dict)
    """Per column, the texts that every row has one of, or the range of time it is in."""
    links: dict[str, list[Source]] = field(default_factory=dict)
    """Per column, the references that every row has a column in common with."""

    def is_column(self, name: str, column: str) -> bool:
        """Whether a name means the view's column."""
        view = VIEWS.get(self.kind, [])
        return column in view and name == self.columns[view.index(column)]


@dataclass(frozen=True, slots=True)
class Data:
    """References to bars whose timeframe is set equal to what is no text."""

    sources: list[Source]
    others: list[Source]
    """References that it comes from."""
    is_derived: bool
    """It may come from bars that a query within hands on."""
    is_foreign: bool
    """It may come from elsewhere."""


@dataclass(slots=True)
class Scope:
    """What a SELECT reads from, what of it can be named, and the aliases of what it selects."""

    sources: list[Source]
    visible: list[Source]
    aliases: Mapping[str, Node] = field(default_factory=dict)


def view_columns(table: str, aliases: list[str]) -> list[str]:
    """The names of a view's columns, the first ones given others; of equal names the later ones are numbered."""
    names: list[str] = []
    for name in [*(alias.lower() for alias in aliases), *VIEWS[table][len(aliases) :]]:
        times = sum(name == other for other in names)
        names.append(f"{name}_{times}" if times else name)
    return names
