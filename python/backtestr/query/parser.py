"""The engine's own parser: SQL text to a tree and back. No statement runs here but constants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import duckdb

from backtestr.errors import ArgumentError, SQLError

MAX_TEXT = 1_000_000

Node = dict[str, Any]

_parser = threading.local()


def parse(text: str) -> Node:
    """The tree of a text: ``error`` and, without one, ``statements``.

    Raises:
        SQLError: it does not parse.
        ArgumentError: it is no text.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"a query is text, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise SQLError(
            f"the query has {len(text):,} characters, more than {MAX_TEXT:,}; pass values as parameters or by tables="
        )
    if "\0" in text:
        raise SQLError("the query holds a NUL character; pass values as parameters")
    try:
        return json.loads(_value("select json_serialize_sql(?::varchar)", text))  # type: ignore[no-any-return]
    except RecursionError:
        raise SQLError("the query is nested too deeply; break it up by WITH") from None
    except (duckdb.Error, UnicodeError, MemoryError) as error:
        raise SQLError(f"the query does not parse: {error}") from None


def written(query: Node) -> str | None:
    """The text of a query node; None where the engine cannot write it so that it reads the same again."""
    try:
        tree = {"error": False, "statements": [{"node": query, "named_param_map": []}]}
        text = _value("select json_deserialize_sql(?::json)", json.dumps(tree))
        again = parse(text)
    except (duckdb.Error, SQLError, UnicodeError):
        return None
    is_same = not again["error"] and unplaced(again["statements"][0]["node"]) == unplaced(query)
    return text if is_same else None


def expression_text(expression: Node) -> str | None:
    """The text of an expression, which names a column that has no other name; None where it cannot be written."""
    text = written(_empty_select() | {"select_list": [expression | {"alias": ""}]})
    return None if text is None else text.removeprefix("SELECT ")


def constants(expressions: Sequence[Node]) -> Sequence[Any] | None:
    """The values of expressions without columns and parameters; None where the engine refuses one."""
    text = written(_empty_select() | {"select_list": list(expressions)})
    if text is None:
        return None
    try:
        return _connection().execute(text).fetchone()
    except (duckdb.Error, OverflowError, ValueError):
        return None


def column(name: str) -> Node:
    """A reference to a column."""
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [name]}


def constant(text: str, kind: str = "STRING") -> Node:
    """A constant as it is written."""
    literal = {"kind": kind, "text": text}
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": literal}


def cast(expression: Node, kind: str) -> Node:
    """An expression as another type."""
    return {"class": "CAST", "type": "OPERATOR_CAST", "alias": "", "child": expression, "try_cast": False} | {
        "type_expr": {
            "class": "TYPE",
            "type": "TYPE",
            "alias": "",
            "catalog": "",
            "schema": "",
            "type_name": kind,
            "children": [],
            "qualified_name": {"path": [kind]},
        }
    }


def call(function: str, *arguments: Node) -> Node:
    """A call of a function."""
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "alias": "",
        "function_name": function,
        "schema": "",
        "filter": None,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": False,
        "is_operator": False,
        "export_state": False,
        "catalog": "",
        "arguments": [{"name": "", "expression": argument} for argument in arguments],
        "qualified_name": {"path": [function]},
        "is_legacy_function_call": False,
    }


def type_name(node: Node) -> str:
    """The type that a cast names, in lower case; of other nodes ``none``."""
    return str((node.get("type_expr") or {}).get("type_name")).lower()


def walk(tree: Any) -> Iterator[Node]:
    """Every object in the tree, the tree itself first."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def unplaced(tree: Any) -> Any:
    """The tree without places in the text."""
    if isinstance(tree, dict):
        return {key: unplaced(value) for key, value in tree.items() if not key.startswith("query_location")}
    return [unplaced(item) for item in tree] if isinstance(tree, list) else tree


@cache
def _empty_select() -> Node:
    (statement,) = parse("select 1")["statements"]
    return statement["node"]  # type: ignore[no-any-return]


def _value(statement: str, given: str) -> str:
    row = _connection().execute(statement, [given]).fetchone()
    return "" if row is None else str(row[0])


def _connection() -> duckdb.DuckDBPyConnection:
    if not hasattr(_parser, "connection"):
        _parser.connection = duckdb.connect(
            config={"enable_external_access": "false", "autoload_known_extensions": "false"}
        )
        _parser.connection.execute("set TimeZone = 'UTC'")
    return _parser.connection  # type: ignore[no-any-return]
