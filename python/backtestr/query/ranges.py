"""Ranges of time that a statement's tree compares columns with, in ns: what is constant, evaluated by the engine."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from backtestr.errors import ArgumentError
from backtestr.instants import to_ns
from backtestr.query.parser import Node, call, cast, constants, type_name, unplaced, walk
from backtestr.query.values import Params, bound_to
from backtestr.storage.layout import DAY_NS

_FAR: Final = 1 << 100
_GRIDS: Final = {"timestamp_ns": 1, "timestamp_utc": 1_000}
"""Per column, the distance of its values: each is a row's instant, floored to it."""
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?)?")
_DATE_LENGTH = len("2024-01-02")
_TIMES = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"}
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "INTEGER_LITERAL"}
# Of equal arguments they give equal results, whenever they are asked.
_CONSTANT_FUNCTIONS = {
    "+", "-", "*", "//", "trunc", "date_trunc", "datetrunc", "to_days", "to_hours", "to_minutes", "to_seconds",
    "to_months", "to_years", "to_weeks", "to_milliseconds", "to_microseconds", "make_timestamp", "make_date",
    "epoch_ns", "epoch_us", "epoch_ms", "strptime",
}  # fmt: skip
_FLIPPED = {"LESSTHAN": "GREATERTHAN", "LESSTHANOREQUALTO": "GREATERTHANOREQUALTO"}
_FLIPPED |= {above: below for below, above in _FLIPPED.items()} | {"EQUAL": "EQUAL", "NOT_DISTINCT_FROM": "EQUAL"}
_NEGATED = {"LESSTHAN": "GREATERTHANOREQUALTO", "GREATERTHAN": "LESSTHANOREQUALTO"}
_NEGATED |= {after: before for before, after in _NEGATED.items()}
_NEGATED |= {"NOTEQUAL": "EQUAL", "DISTINCT_FROM": "EQUAL", "EQUAL": "NOTEQUAL"}


class Range(NamedTuple):
    """Instants from ``low`` to before ``high``, in ns."""

    low: int = -_FAR
    high: int = _FAR

    @classmethod
    def of(cls, start: int | None, end: int | None) -> Range:
        """From ``start`` to before ``end``; None bounds nothing."""
        return cls(-_FAR if start is None else start, _FAR if end is None else end)

    def __and__(self, other: Range) -> Range:
        return Range(max(self.low, other.low), min(self.high, other.high))

    def __or__(self, other: Range) -> Range:
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Range(min(self.low, other.low), max(self.high, other.high))

    @property
    def is_empty(self) -> bool:
        """Whether it holds no instant."""
        return self.low >= self.high

    @property
    def start(self) -> int | None:
        """The first instant; None where nothing bounds it."""
        return None if self.low == -_FAR else self.low

    @property
    def end(self) -> int | None:
        """The first instant behind; None where nothing bounds it."""
        return None if self.high == _FAR else self.high


def compared_ranges(node: Node, params: Params, *, negated: bool) -> list[list[tuple[list[str], Range]]]:
    """The alternatives of which one holds if a condition does: columns with the range of the rows that pass it.

    The column of a range is meant to be ``timestamp_utc`` or ``timestamp_ns`` by its last name. A condition between
    one such column and a constant is equivalent to its range, others have none.
    """
    kind = str(node.get("type")).removeprefix("COMPARE_")
    if kind == "BETWEEN" and "input" in node:
        low, high = (_compare(node["input"], op, node[side], params) for op, side in _ENDS[negated])
        return [low, high] if negated else [[*low, *high]]
    if kind in {"IN", "NOT_IN"} and (kind == "IN") != negated:
        first, *rest = node["children"]
        return [_compare(first, "EQUAL", child, params) for child in rest]
    if "left" in node and node.get("class") == "COMPARISON":
        operator = _NEGATED.get(kind) if negated else kind
        return [
            _compare(node["left"], operator, node["right"], params)
            or _compare(node["right"], _FLIPPED.get(str(operator)), node["left"], params)
        ]
    return []


_ENDS: Final = {
    False: (("GREATERTHANOREQUALTO", "lower"), ("LESSTHANOREQUALTO", "upper")),
    True: (("LESSTHAN", "lower"), ("GREATERTHAN", "upper")),
}


def _compare(left: Node, operator: str | None, right: Node, params: Params) -> list[tuple[list[str], Range]]:
    """The column on the left and the range in which its rows compare so with the constant on the right."""
    grid, names = _gridded(left)
    if operator is None or not names:
        return []
    value = _constant(right, grid, params)
    if value is None:
        return []
    below, above = value // grid * grid, -(-value // grid) * grid
    found = {
        "GREATERTHANOREQUALTO": Range(low=above),
        "GREATERTHAN": Range(low=below + grid),
        "LESSTHAN": Range(high=above),
        "LESSTHANOREQUALTO": Range(high=below + grid),
        "EQUAL": Range(above, below + grid),
        "NOT_DISTINCT_FROM": Range(above, below + grid),
    }.get(operator)
    return [] if found is None else [(names, found)]


def _gridded(node: Node) -> tuple[int, list[str]]:
    """The distance of an expression's values, and the column whose instants it floors to them; none where it is not."""
    is_date = node.get("type") == "OPERATOR_CAST" and type_name(node) == "date"
    column = node["child"] if is_date else node
    names = column.get("column_names") if column.get("type") == "COLUMN_REF" else None
    grid = _GRIDS.get(str(names[-1]).lower()) if names else None
    if not names or grid is None or (is_date and grid == 1):
        return 0, []
    return (DAY_NS if is_date else grid), names


def _constant(node: Node, grid: int, params: Params) -> int | None:
    """An expression without columns, as the engine compares it with values on a grid: an instant in ns."""
    if node.get("type") == "VALUE_PARAMETER":
        return _value_ns(bound_to(node, params), grid)
    named = node["child"] if node.get("type") == "OPERATOR_CAST" and type_name(node) == "timestamp" else node
    literal = named.get("literal") or {}
    if (
        grid != 1
        and literal.get("kind") == "STRING"
        and (plain := _value_ns(str(literal.get("text")), grid)) is not None
    ):
        return plain
    if not is_constant(node):
        return None
    return _evaluated(json.dumps(unplaced(node)), grid)


def _value_ns(value: Any, grid: int) -> int | None:
    """A bound value, or a text that means the same instant to everyone, in ns; None where it is neither."""
    if grid == 1:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    is_plain = isinstance(value, str) and _ISO.fullmatch(value) and not (grid == DAY_NS and len(value) > _DATE_LENGTH)
    if not is_plain and not isinstance(value, dt.date):
        return None
    try:
        return to_ns(value)
    except ArgumentError:
        return None


def is_constant(node: Node) -> bool:
    """Whether an expression has the same value for all rows, whenever it is asked for; parameters aside."""
    return all(_is_constant(part) for part in walk(node))


def _is_constant(part: Node) -> bool:
    kind = str(part.get("type"))
    if kind in {"COLUMN_REF", "VALUE_PARAMETER", "SUBQUERY", "STAR"} or kind.endswith("_NODE"):
        return False
    return part.get("class") != "FUNCTION" or part.get("function_name") in _CONSTANT_FUNCTIONS


@lru_cache(maxsize=256)
def _evaluated(text: str, grid: int) -> int | None:
    """A constant expression's instant in ns; None where it is no such, or not finite."""
    node = json.loads(text)
    if node.get("type") == "VALUE_CONSTANT" and (node.get("literal") or {}).get("kind") == "STRING":
        node = cast(node, {1: "BIGINT", DAY_NS: "DATE"}.get(grid, "TIMESTAMP"))
    kind = (constants([call("typeof", node)]) or ("",))[0]
    if grid == 1:
        found = constants([node]) if kind in _INTEGERS else None
        return None if found is None else found[0]
    if kind not in _TIMES:
        return None
    found = constants([call("isfinite", node), call("epoch_ns" if kind == "TIMESTAMP_NS" else "epoch_us", node)])
    if found is None or found[0] is not True:
        return None
    return int(found[1]) * (1 if kind == "TIMESTAMP_NS" else 1_000)
