"""References to tables in a statement's scopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backtestr.query.texts import Node
from backtestr.schema import BARS as BAR_SCHEMA

VIEW = [*BAR_SCHEMA.names[:4], "timestamp_ns", *BAR_SCHEMA.names[4:]]
"""The columns of the view ``bars``, in order."""


@dataclass(slots=True, eq=False)
class Source:
    """What a SELECT reads from under one name."""

    node: Node
    kind: str
    """``bars``, ``derived`` from bars, or ``other``."""
    name: str
    columns: list[str] = field(default_factory=list)
    """Of bars: the names of the view's columns here."""
    bounds: dict[str, frozenset[str]] = field(default_factory=dict)
    """Per column, the texts that every row has one of."""
    links: dict[str, list[Source]] = field(default_factory=dict)
    """Per column, the references that every row has a column in common with."""


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


def is_column(source: Source, name: str, column: str) -> bool:
    """Whether a name of a reference to bars means the view's column."""
    return name == source.columns[VIEW.index(column)]


def view_columns(aliases: list[str]) -> list[str]:
    """The names of the view's columns, the first ones given others; of equal names the later ones are numbered."""
    names: list[str] = []
    for name in [*(alias.lower() for alias in aliases), *VIEW[len(aliases) :]]:
        times = sum(name == other for other in names)
        names.append(f"{name}_{times}" if times else name)
    return names
