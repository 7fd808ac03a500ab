"""Texts that a statement's tree compares columns with: constants, and the values of its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backtestr.query.parser import Node, type_name, walk
from backtestr.query.values import Params, bound_to

Sets = list[tuple[list[str], frozenset[str]]]
"""Columns by their parts, each with the texts it has one of, all at once."""

_EQUAL = {"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"}
_UNEQUAL = {"COMPARE_NOTEQUAL", "COMPARE_DISTINCT_FROM"}
_CONTAINS = {"contains", "list_contains", "array_contains", "list_has", "array_has"}
_UNLIKE = {"!~~", "!~~*", "not_like_escape", "not_ilike_escape"}
_COMPARED = {"COMPARISON", "BETWEEN", "CONJUNCTION", "SUBQUERY"}
_MENTIONING = {"COMPARISON", "BETWEEN", "FUNCTION", "OPERATOR", "CASE"}
_TEXT_TYPES = {"varchar", "text", "string"}


def all_texts(tree: Any, params: Params) -> set[str]:
    """Every text constant in a tree, and every text in the parameters it refers to."""
    found: set[str] = set()
    for node in walk(tree):
        if node.get("type") == "VALUE_CONSTANT" and node.get("literal", {}).get("kind") == "STRING":
            found.add(str(node["literal"].get("text", "")))
        elif node.get("type") == "VALUE_PARAMETER":
            found.update(_texts_in(bound_to(node, params)))
    return found


def outside_queries(node: Any) -> Iterator[Node]:
    """The objects of an expression that are in no query within it."""
    if isinstance(node, list):
        for item in node:
            yield from outside_queries(item)
    elif isinstance(node, dict) and not str(node.get("type")).endswith("_NODE"):
        yield node
        for value in node.values():
            yield from outside_queries(value)


def direct_parts(node: Any) -> Iterator[Node]:
    """The objects of an expression that are in no query, comparison or condition within it."""
    yield node
    for part in _below(node):
        if part.get("class") in _COMPARED or str(part.get("type")).startswith("COMPARE_"):
            continue
        yield from direct_parts(part)


def _below(node: Any) -> Iterator[Node]:
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and not str(value.get("type")).endswith("_NODE"):
            yield value
        elif isinstance(value, list):
            yield from _below(value)


def may_select(node: Node, *, negated: bool) -> bool:
    """Whether an expression may pick rows by the texts in it; what is unequal to them picks none."""
    kind = node.get("type")
    if node.get("class") not in _MENTIONING or kind == "OPERATOR_NOT":
        return False
    unequal = (_EQUAL | {"COMPARE_IN"}) if negated else (_UNEQUAL | {"COMPARE_NOT_IN"})
    return kind not in unequal and node.get("function_name") not in _UNLIKE


def compared(node: Node) -> list[tuple[Node, Node]]:
    """The sides that a condition sets equal, rows part by part; the query of ``in (select …)`` is a side too."""
    if node.get("class") == "SUBQUERY":
        return [(node["child"], node["subquery"])] if node.get("child") else []
    if "left" in node:
        return _parts(node["left"], node["right"])
    if node.get("type") in {"COMPARE_IN", "COMPARE_NOT_IN"}:
        return [pair for child in node["children"][1:] for pair in _parts(node["children"][0], child)]
    sides = [argument["expression"] for argument in node.get("arguments", ())][:2]
    return [(sides[1], sides[0])] if len(sides) == 2 else []


def _parts(left: Node, right: Node) -> list[tuple[Node, Node]]:
    if left.get("function_name") == "row" and right.get("function_name") == "row":
        sides = [[argument["expression"] for argument in side["arguments"]] for side in (left, right)]
        if len(sides[0]) == len(sides[1]):
            return [pair for a, b in zip(*sides, strict=True) for pair in _parts(a, b)]
    return [(left, right)]


def is_equality(node: Node, *, negated: bool) -> bool:
    """Whether the condition sets something equal to something, or to one of several."""
    kind = node.get("type")
    if kind == "SUBQUERY" and node.get("subquery_type") == "ANY":
        kind = node.get("comparison_type")
    if not isinstance(kind, str):
        return False
    if negated:
        return kind in _UNEQUAL or kind == "COMPARE_NOT_IN"
    is_contains = kind == "FUNCTION" and str(node.get("function_name")).lower() in _CONTAINS
    return kind in _EQUAL or kind == "COMPARE_IN" or is_contains


def equalities(node: Node, params: Params, *, negated: bool) -> list[Sets]:
    """The alternatives of which one holds if a condition does: columns that equal texts; none where it is no such.

    Only what is constant is taken: columns by themselves against text constants, parameters and lists of them.
    """
    if not is_equality(node, negated=negated):
        return []
    kind = node["type"]
    if "left" in node:
        pairs = _pairs(node["left"], node["right"], params) or _pairs(node["right"], node["left"], params)
        # null is not distinct from null: no text is required then
        return [[pair for pair in pairs if pair[1] or "DISTINCT" not in kind]]
    if kind in {"COMPARE_IN", "COMPARE_NOT_IN"}:
        return [_pairs(node["children"][0], child, params) for child in node["children"][1:]]
    if kind == "SUBQUERY":
        listed, item = _unnested(node["subquery"].get("node") or {}), node.get("child")
    else:
        listed, item = (argument["expression"] for argument in node["arguments"][:2])
    found = None if listed is None else _list_texts(listed, params)
    names = column(item)
    return [] if found is None or names is None else [[(names, found)]]


def _pairs(left: Node, right: Node, params: Params) -> Sets:
    known = [(column(a), _text(b, params)) for a, b in _parts(left, right)]
    return [(names, found) for names, found in known if names is not None and found is not None]


def column(node: Any) -> list[str] | None:
    """The parts of a column's name, if the expression is nothing but a column."""
    node = _uncast(node)
    return node["column_names"] if node.get("type") == "COLUMN_REF" else None


def _text(node: Node, params: Params) -> frozenset[str] | None:
    node = _uncast(node)
    if node.get("type") == "VALUE_PARAMETER":
        value = bound_to(node, params)
        return frozenset({value}) if isinstance(value, str) else None
    literal = node.get("literal") or {}
    if literal.get("kind") == "NULL_LITERAL":
        return frozenset()
    return frozenset({str(literal.get("text", ""))}) if literal.get("kind") == "STRING" else None


def _list_texts(node: Node, params: Params) -> frozenset[str] | None:
    if node.get("type") == "VALUE_PARAMETER":
        value = bound_to(node, params)
        is_texts = isinstance(value, list) and all(item is None or isinstance(item, str) for item in value)
        return frozenset(item for item in value if item is not None) if is_texts else None
    if node.get("function_name") != "list_value":
        return None
    parts = [_text(argument["expression"], params) for argument in node["arguments"]]
    return None if None in parts else frozenset(text for part in parts for text in part or ())


def _unnested(query: Node) -> Node | None:
    """The list that ``= any(list)`` unnests."""
    columns: list[Any] = query.get("select_list") or []
    is_plain = len(columns) == 1 and columns[0].get("function_name") == "unnest"
    if not is_plain or query["from_table"]["type"] != "EMPTY" or len(columns[0]["arguments"]) != 1:
        return None
    return columns[0]["arguments"][0]["expression"]  # type: ignore[no-any-return]


def _uncast(node: Any) -> Node:
    while node.get("type") == "OPERATOR_CAST" and type_name(node) in _TEXT_TYPES:
        node = node["child"]
    return node  # type: ignore[no-any-return]


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)
