"""Aggregates of trades written as aggregates of bars: of the tree of one SELECT over ``ticks``."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd
from typing import Any, Final

from backtestr.query.gate import VOLATILE, aggregate_names
from backtestr.query.parser import Node, call, cast, column, constant, constants, type_name, unplaced
from backtestr.query.ranges import is_constant
from backtestr.query.references import Source
from backtestr.storage.layout import DAY_NS

_COUNTED = {"symbol", "timestamp_utc", "timestamp_ns", "sequence", "epoch", "tick_type", "price", "volume"}
"""Columns without nulls."""
_FIRST_OF = {"arg_min", "argmin", "min_by"}
_LAST_OF = {"arg_max", "argmax", "max_by"}
_OF_PARTS = {"date_trunc", "datetrunc", "date_part", "datepart"}
# time_bucket counts from Monday, 2000-01-03, or from 2000-01-01 where months are all that is named.
_BUCKET_ORIGIN_NS: Final = 10_959 * DAY_NS
_PARTS_NS: Final = {
    "microsecond": 1_000, "millisecond": 1_000_000, "second": 10**9, "minute": 60 * 10**9, "hour": 3_600 * 10**9,
    "day": DAY_NS, "week": DAY_NS, "month": DAY_NS, "quarter": DAY_NS, "year": DAY_NS, "decade": DAY_NS,
    "century": DAY_NS, "isodow": DAY_NS, "dow": DAY_NS, "doy": DAY_NS, "isoyear": DAY_NS, "yearweek": DAY_NS,
    "weekday": DAY_NS, "dayofweek": DAY_NS, "dayofmonth": DAY_NS, "dayofyear": DAY_NS, "monthname": DAY_NS,
    "dayname": DAY_NS, "last_day": DAY_NS,
}  # fmt: skip
"""Per part of an instant, a length of time, counted from 1970-01-01, in which it does not change."""


class UnroutedError(Exception):
    """The SELECT is not answered from bars: says why."""


@dataclass(slots=True)
class Grid:
    """Instants at which the groups of a SELECT may change: ``offset`` and every ``step`` from it, in ns."""

    step: int = 0
    offset: int = 0

    def refine(self, step: int, offset: int) -> None:
        """Take in one more expression, which may change at its own instants."""
        both = gcd(self.step, step, self.offset - offset if self.step else 0)
        self.step, self.offset = both, offset % both

    def holds(self, length: int) -> bool:
        """Whether no bucket of a length, counted from 1970-01-01, has an instant of the grid inside."""
        return self.step % length == 0 and self.offset % length == 0


@dataclass(slots=True)
class Rewriting:
    """One SELECT over ticks, as its expressions are written for rows of bars.

    Rows of bars have the columns symbol, timestamp_utc and timestamp_ns (a bucket's start), sequence, tick_type, open,
    high, low, close, volume, turnover and units (both as ``HUGEINT``) and trade_count.

    Args:
        source: the reference to ticks.
        aliases: names of what the SELECT selects.
        one_symbol: each group has ticks of one symbol.
    """

    source: Source
    aliases: Collection[str]
    one_symbol: bool
    grid: Grid = field(default_factory=Grid)
    aggregates: int = 0
    columns: set[str] = field(default_factory=set)
    """Columns of bars that aggregates read."""

    def expression(self, node: Any, *, in_order: bool = False) -> Any:
        """An expression that stands outside of aggregates.

        Raises:
            UnroutedError: it is no function of the symbol, a grid of time and aggregates that bars have.
        """
        if isinstance(node, list):
            return [self.expression(item, in_order=in_order) for item in node]
        if not isinstance(node, dict):
            return node
        kind, name = str(node.get("type")), str(node.get("function_name", "")).lower()
        if kind == "COLUMN_REF":
            return self._column(node, in_order=in_order)
        if node.get("class") == "FUNCTION" and name in aggregate_names():
            self.aggregates += 1
            return self._aggregate(node, name) | {"alias": node.get("alias", "")}
        if kind in {"STAR", "POSITIONAL_REFERENCE", "LAMBDA"} or kind.endswith("_NODE") or "subquery" in node:
            raise UnroutedError("it has a query, star or lambda within")
        if name in VOLATILE:
            raise UnroutedError(f"{name}() gives another value for each row")
        if (found := self._grid_of(node, name)) is not None:
            self.grid.refine(*found)
            return node
        return {key: self.expression(value, in_order=in_order) for key, value in node.items()}

    def name_of(self, node: Node, *, in_order: bool = False) -> str | None:
        """The column of ticks that a reference names; None for an alias of the SELECT.

        Raises:
            UnroutedError: it names something else.
        """
        *path, name = (str(part).lower() for part in node["column_names"])
        if path in ([], [self.source.name]):
            is_alias = not path and name in self.aliases
            # An alias goes first in ORDER BY only.
            if name in self.source.columns and not (is_alias and in_order):
                return name
            if is_alias:
                return None
        raise UnroutedError(f"{'.'.join(node['column_names'])} is none of the columns of ticks")

    def _column(self, node: Node, *, in_order: bool) -> Node:
        name = self.name_of(node, in_order=in_order)
        if name in {None, "symbol", "tick_type"}:
            return node
        raise UnroutedError(f"{name} outside of aggregates and buckets is that of single ticks")

    def _aggregate(self, node: Node, name: str) -> Node:
        arguments = [argument["expression"] for argument in node["arguments"]]
        orders = node["order_bys"]["orders"] if node.get("order_bys") else []
        self._check_filter(node)
        if node.get("export_state") or (orders and name not in {"first", "last"}):
            raise UnroutedError(f"{name}(… order by …) needs single ticks")
        if name in {"min", "max", "count"} and len(arguments) == 1 and (name != "count" or node["distinct"]):
            if self._is(arguments[0], "price") and name != "count":
                return call(name, self._bar("high" if name == "max" else "low"))
            # of what is the same for all ticks of a bar, the least, greatest and distinct ones are the bars'
            return node | {"arguments": [{"name": "", "expression": self._plain(arguments[0], name)}], "filter": None}
        if node["distinct"]:
            raise UnroutedError(f"{name}(distinct …) needs single ticks")
        if name == "count_star" or (name == "count" and self._is(arguments[0], *_COUNTED)):
            counted = [call("sum", self._bar("trade_count")), constant("0", "INTEGER")]
            coalesced = {"class": "OPERATOR", "type": "OPERATOR_COALESCE", "alias": "", "children": counted}
            return cast(coalesced, "BIGINT")
        if name == "sum" and self._is(arguments[0], "volume"):
            return call("sum", self._bar("volume"))
        if (
            name == "vwap"
            and len(arguments) == 2
            and self._is(arguments[0], "price")
            and self._is(arguments[1], "volume")
        ):
            return call("vwap_of_units", call("sum", self._bar("turnover")), call("sum", self._bar("units")))
        if (side := self._end(name, arguments, orders)) is not None:
            if not self.one_symbol:
                raise UnroutedError(f"{name} over several symbols at once: bars do not say whose tick was the first")
            price, pick = side
            return call(pick, self._bar(price), call("row", self._bar("timestamp_ns"), self._bar("sequence")))
        raise UnroutedError(f"bars do not have this {name}")

    def _bar(self, name: str) -> Node:
        self.columns.add(name)
        return column(name)

    def _check_filter(self, node: Node) -> None:
        condition = node.get("filter")
        if condition is not None and not self.is_trades(condition):
            raise UnroutedError("FILTER takes single ticks")

    def is_trades(self, condition: Node) -> bool:
        """Whether a condition is ``tick_type = 0``."""
        if condition.get("type") not in {"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"}:
            return False
        sides = condition["left"], condition["right"]
        return any(
            self._is(one, "tick_type") and (other.get("literal") or {}) == {"kind": "INTEGER", "text": "0"}
            for one, other in (sides, sides[::-1])
        )

    def _plain(self, node: Node, name: str) -> Node:
        before = self.aggregates
        try:
            made = self.expression(node)
        except UnroutedError:
            raise UnroutedError(f"bars do not have this {name}") from None
        if self.aggregates != before:
            raise UnroutedError("an aggregate within an aggregate")
        return made  # type: ignore[no-any-return]

    def _end(self, name: str, arguments: list[Node], orders: list[Node]) -> tuple[str, str] | None:
        """What of a bar is the first or last price in order, and how it is picked."""
        if not arguments or not self._is(arguments[0], "price"):
            return None
        if name in {"first", "last"} and len(arguments) == 1:
            keys = [order["expression"] for order in orders]
            is_ascending = all(order["type"] in {"ORDER_DEFAULT", "ASCENDING"} for order in orders)
            if not is_ascending:
                return None
        elif name in _FIRST_OF | _LAST_OF and len(arguments) == 2 and arguments[1].get("function_name") == "row":
            keys = [argument["expression"] for argument in arguments[1]["arguments"]]
        else:
            return None
        if len(keys) != 2 or not self._is(keys[0], "timestamp_ns") or not self._is(keys[1], "sequence"):
            return None
        return ("open", "arg_min") if name in _FIRST_OF or name == "first" else ("close", "arg_max")

    def _is(self, node: Node, *names: str) -> bool:
        return node.get("type") == "COLUMN_REF" and self.name_of(node) in names

    def _grid_of(self, node: Node, name: str) -> tuple[int, int] | None:
        """Step and offset of a function of a tick's time alone; None where it is no such."""
        if node.get("type") == "OPERATOR_CAST":
            return (DAY_NS, 0) if type_name(node) == "date" and self._is(node["child"], "timestamp_utc") else None
        arguments = [argument["expression"] for argument in node.get("arguments", ())]
        found = None
        if len(arguments) == 1 and name in _PARTS_NS and self._is(arguments[0], "timestamp_utc"):
            found = _PARTS_NS[name], 0
        elif len(arguments) == 2 and name == "//" and self._is(arguments[0], "timestamp_ns"):
            literal = arguments[1].get("literal") or {}
            divisor = int(literal["text"]) if literal.get("kind") == "INTEGER" else 0
            found = (divisor, 0) if divisor else None
        elif len(arguments) == 2 and name == "time_bucket" and self._is(arguments[1], "timestamp_utc"):
            found = _interval_grid(json.dumps(unplaced(arguments[0]))) if is_constant(arguments[0]) else None
        elif len(arguments) == 2 and name in _OF_PARTS and self._is(arguments[1], "timestamp_utc"):
            part = str((arguments[0].get("literal") or {}).get("text")).lower().removesuffix("s")
            found = (_PARTS_NS[part], 0) if part in _PARTS_NS else None
        return found


@lru_cache(maxsize=256)
def _interval_grid(text: str) -> tuple[int, int] | None:
    """Step and offset of the buckets of a constant interval; None where it is none."""
    node = json.loads(text)
    if node.get("type") == "VALUE_CONSTANT":
        node = cast(node, "INTERVAL")
    parts = [call("date_part", constant(part), node) for part in ("year", "month", "day")]
    found = constants([call("typeof", node), *parts, call("epoch_us", node)])
    if found is None or found[0] != "INTERVAL":
        return None
    _, years, months, days, microseconds = found
    if years or months:
        return (DAY_NS, 0) if not days else None
    step = int(microseconds) * 1_000
    return (step, _BUCKET_ORIGIN_NS % step) if step > 0 else None
