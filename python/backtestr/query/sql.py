"""SQL over the store: one read-only statement, over our names only, decided by the engine's own parser."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from backtestr.errors import ArgumentError, SQLError
from backtestr.query.frame import Frame
from backtestr.storage.session import SCHEMA, Session
from backtestr.storage.snapshot import SMALL_TABLES, Version

_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"}
_TABLE_REFS = {
    "BASE_TABLE",
    "SUBQUERY",
    "JOIN",
    "TABLE_FUNCTION",
    "EXPRESSION_LIST",
    "EMPTY",
    "PIVOT",
    "SHOW_REF",
}
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat"}
_NAME = re.compile(r"\w+")

_parser = threading.local()


def run_sql(
    session: Session,
    version: Version,
    text: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    frames: Mapping[str, Any],
) -> Frame:
    """Run one statement against a version.

    Args:
        session: the store's DuckDB.
        version: what to read.
        text: one SELECT.
        params: values bound to ``?``/``$1`` (sequence) or ``$name`` (mapping).
        frames: Arrow data to query beside the store's tables, by name.

    Raises:
        SQLError: not one read-only statement over known tables, or the engine refuses it.
    """
    known = {*version.tables["data_columns"]["table_name"].unique().to_pylist(), *SMALL_TABLES}
    for name in frames:
        if not _NAME.fullmatch(name) or name in known:
            raise ArgumentError(f"tables={{{name!r}: …}}: choose a plain name that is not one of the store's tables")
    check_statement(text, known, set(frames))
    files = {table: version.of(table) for table in known}
    cursor = session.cursor(version, files)
    try:
        for name, frame in frames.items():
            cursor.register(name, frame)
        return Frame(cursor.sql(text, params=params).to_arrow_table())
    except duckdb.Error as error:
        raise SQLError(f"the query failed: {error}") from None
    finally:
        cursor.close()


def check_statement(text: str, tables: set[str], frames: set[str]) -> None:
    """Refuse anything but one SELECT over known tables.

    Raises:
        SQLError: says what is not taken.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"a query is text, got {type(text).__name__}")
    tree = _parse(text)
    if tree["error"]:
        raise SQLError(f"store.sql takes one SELECT statement: {tree['error_message']}")
    if len(tree["statements"]) != 1:
        raise SQLError(f"store.sql takes one SELECT statement, got {len(tree['statements'])}")
    ctes = set()
    for node in _nodes(tree["statements"][0]):
        ctes |= {entry["key"] for entry in (node.get("cte_map") or {}).get("map", ())}
    strange = [name for name in ctes if not _NAME.fullmatch(name)]
    if strange:
        raise SQLError(f"a WITH query named {strange[0]!r}: use letters, digits and underscores")
    for node in _nodes(tree["statements"][0]):
        _check_node(node, tables, frames, ctes)


def _check_node(node: Mapping[str, Any], tables: set[str], frames: set[str], ctes: set[str]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise SQLError(f"store.sql only reads; {kind.removesuffix('_NODE').replace('_', ' ')} is not a SELECT")
    if kind == "BASE_TABLE":
        name, schema, catalog = node["table_name"], node.get("schema_name", ""), node.get("catalog_name", "")
        local = not schema and name in ctes | frames
        if not local and (catalog or schema not in {"", SCHEMA} or name not in tables):
            raise SQLError(f"no table {name!r}; there are {', '.join(sorted(tables | frames))}")
    if kind == "TABLE_FUNCTION":
        function = node["function"]["function_name"]
        if function not in _TABLE_FUNCTIONS:
            raise SQLError(f"the table function {function!r} is not taken; name a table, or pass frames by tables=")
    if "from_table" in node and (source := node["from_table"]["type"]) not in _TABLE_REFS:
        raise SQLError(f"{source} is not taken in FROM")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in the tree, the tree itself first."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _parse(text: str) -> dict[str, Any]:
    if not hasattr(_parser, "connection"):
        _parser.connection = duckdb.connect(
            config={"enable_external_access": "false", "autoload_known_extensions": "false"}
        )
    try:
        (tree,) = _parser.connection.execute("select json_serialize_sql(?::varchar)", [text]).fetchone()
    except duckdb.Error as error:
        raise SQLError(f"the query does not parse: {error}") from None
    return json.loads(tree)  # type: ignore[no-any-return]
