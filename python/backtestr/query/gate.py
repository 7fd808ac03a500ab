"""The gate: one SELECT over known tables and harmless functions, decided on the tree of the engine's own parser."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from backtestr.errors import ArgumentError, SQLError
from backtestr.query.parser import parse, unplaced, walk
from backtestr.storage.session import COMPUTED, SCHEMA

NAME = re.compile(r"\w+")
_LONG_NAME = 100

_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"}
_TABLE_REFS = {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"}
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat"}
VOLATILE = {"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"}
"""Functions of another value at each call; they change nothing and tell nothing."""
# Pure to the catalog, yet they tell of the session, its settings and paths, run SQL text, or take raw engine state.
_TELLING = {
    "getenv", "getvariable", "current_setting", "set_config", "in_search_path", "txid_current",
    "parse_duckdb_log_message",
    "json_serialize_plan", "json_deserialize_sql", "json_execute_serialized_sql", "get_block_size", "which_secret",
    "current_database", "current_schema", "current_schemas", "current_catalog", "current_role", "current_user",
    "session_user", "col_description", "obj_description", "shobj_description", "index_key", "combine", "finalize",
    "to_aggregate_state", "nextval", "currval", "setval",
}  # fmt: skip
_TELLING_PREFIXES = (
    "__internal", "read_", "parquet_", "pragma_", "duckdb_", "pg_", "has_", "inet_", "query", "sniff_", "glob",
)  # fmt: skip
_PLAIN_PREFIXED = {"pg_typeof", "pg_size_pretty"}
_TELLING_WORDS = {
    "current_catalog",
    "current_schema",
    "current_database",
    "current_role",
    "current_user",
    "session_user",
}

_REFERENCE = re.compile(rb'(?:"?financial_data"?\s*\.\s*)?("?bars"?)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that passed the gate."""

    tree: Mapping[str, Any]
    tables: frozenset[str]
    """The store's tables that it names, or a WITH query of the same name."""
    shadowed: frozenset[str]
    """Names of its WITH queries."""

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every object of its tree."""
        return walk(self.tree)


def check_statement(text: str, tables: Set[str], frames: Set[str]) -> Statement:
    """Refuse anything but one SELECT over known tables that calls nothing which reaches or tells more than values.

    Raises:
        SQLError: says what is not taken.
    """
    tree = parse(text)
    if tree["error"]:
        raise SQLError(f"store.sql takes one SELECT statement: {tree['error_message']}")
    if len(tree["statements"]) != 1:
        raise SQLError(f"store.sql takes one SELECT statement, got {len(tree['statements'])}")
    ctes = set()
    for node in walk(tree["statements"][0]):
        ctes |= {entry["key"] for entry in (node.get("cte_map") or {}).get("map", ())}
    for name in ctes:
        # A WITH name holds for the whole statement here, so it must not open the engine's own views outside its scope.
        if not NAME.fullmatch(name) or name.lower() in _engine_views():
            raise SQLError(f"a WITH query named {name!r}: choose another name, of letters, digits and underscores")
    named, local = set(), {name.lower() for name in ctes | frames}
    for node in walk(tree["statements"][0]):
        _check_node(node)
        if node.get("type") == "BASE_TABLE":
            named.add(_check_table(node, tables, local))
    return Statement(tree["statements"][0], frozenset(named & tables), frozenset(name.lower() for name in ctes))


def reading_computed(text: str, statement: Statement, references: Sequence[dict[str, Any]]) -> str:
    """The text with references to ``bars`` changed to the view that also shows computed bars, and nothing else.

    Raises:
        SQLError: a reference is written in a way that cannot be changed.
    """
    changed = text.encode()
    for node in sorted(references, key=lambda node: -int(node["query_location"])):
        start = int(node["query_location"])
        found = _REFERENCE.match(changed, start)
        if found is None:
            raise SQLError("write bars as a plain name in FROM: a timeframe that is not stored is computed for it")
        changed = changed[:start] + f"{COMPUTED}.".encode() + changed[found.start(1) :]
    for node in references:
        name = node["qualified_name"]
        node["schema_name"], node["qualified_name"] = COMPUTED, {**name, "path": [COMPUTED, name["path"][-1]]}
    tree = parse(changed.decode())
    # The proof that only the references changed is that nothing else in the tree did.
    if tree["error"] or unplaced(tree["statements"]) != unplaced([statement.tree]):
        raise SQLError("write bars as a plain name in FROM: a timeframe that is not stored is computed for it")
    return changed.decode()


def check_frame_name(name: str, tables: Set[str]) -> None:
    """Refuse a name for a caller's frame that is not plain or already means something.

    Raises:
        ArgumentError: says which.
    """
    taken = isinstance(name, str) and (name.lower() in tables or name.lower() in _engine_views())
    if taken or not isinstance(name, str) or not NAME.fullmatch(name):
        raise ArgumentError(f"tables={{{name!r}: …}}: choose a plain name that is not one of the store's tables")


def _check_table(node: Mapping[str, Any], tables: Set[str], local: Set[str]) -> str:
    path = [str(part).lower() for part in node["qualified_name"]["path"]]
    ours = path[-1] in tables and path[:-1] in ([], [SCHEMA])
    if not ours and not (len(path) == 1 and path[0] in local):
        near = difflib.get_close_matches(path[-1][:_LONG_NAME], tables | local, n=1)
        hint = f"the nearest is {near[0]!r}, and " if near else ""
        raise SQLError(f"no table {'.'.join(path)!r}; {hint}there are {', '.join(sorted(tables | local))}")
    if node.get("at_clause"):
        raise SQLError("AT is not taken: a statement reads one version of the store")
    return path[-1]


def _check_node(node: Mapping[str, Any]) -> None:
    kind = node.get("type")
    if node.get("function_name") is not None:
        path = (node.get("qualified_name") or {}).get("path") or [node["function_name"]]
        for name in {str(path[-1]).lower(), str(node["function_name"]).lower()}:
            if name in _refused_functions() or (name.startswith(_TELLING_PREFIXES) and name not in _PLAIN_PREFIXED):
                raise SQLError(f"the function {name!r} is not taken: it reaches outside, or tells of the engine")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise SQLError(f"store.sql only reads; {kind.removesuffix('_NODE').replace('_', ' ')} is not a SELECT")
    if "from_table" in node and (source := node["from_table"]["type"]) not in _TABLE_REFS:
        raise SQLError(f"{source} is not taken in FROM")
    if kind == "TABLE_FUNCTION":
        function = str(node["function"].get("function_name")).lower()
        if function not in _TABLE_FUNCTIONS:
            raise SQLError(f"the table function {function!r} is not taken; name a table, or pass frames by tables=")
    if kind == "SHOW_REF" and not node.get("query") and str(node.get("table_name")).strip('"').lower() != "tables":
        raise SQLError("SHOW is taken for tables only; DESCRIBE and SUMMARIZE take a table or a query")
    if kind == "COLUMN_REF" and len(node["column_names"]) == 1 and node["column_names"][0].lower() in _TELLING_WORDS:
        raise SQLError(
            f"{node['column_names'][0]!r} is not taken: it tells of the engine; qualify a column of that name"
        )


@cache
def _refused_functions() -> frozenset[str]:
    """Names of scalar functions that are refused: what the engine's catalog calls side-effecting, and what tells."""
    return _catalog("function_name", "duckdb_functions() where has_side_effects") - VOLATILE | _TELLING


@cache
def _engine_views() -> frozenset[str]:
    return _catalog("view_name", "duckdb_views() where internal")


@cache
def aggregate_names() -> frozenset[str]:
    """Names of the engine's aggregates, and of our own macro that is one."""
    return _catalog("function_name", "duckdb_functions() where function_type = 'aggregate'") | {"vwap"}


def _catalog(column: str, rows: str) -> frozenset[str]:
    with duckdb.connect() as connection:
        found = connection.execute(f"select distinct {column} from {rows}").fetchall()
    return frozenset(name.lower() for (name,) in found)
