"""Rows as text: instants as ISO 8601, decimals as plain digits."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def texts(rows: pa.Table, *, lists: bool) -> pa.Table:
    """The rows with instants as ISO text and decimals as plain digits; lists as text too where asked."""
    columns = []
    for column in rows.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)  # noqa: PLW2901 - each step takes the last one's result
        if pa.types.is_timestamp(column.type):
            zoned = pc.replace_substring(column.cast(pa.string()), " ", "T")
            short = pc.replace_substring_regex(zoned, r"(\.\d*?)0+(Z?)$", r"\1\2")
            column = pc.replace_substring_regex(short, r"\.(Z?)$", r"\1")  # noqa: PLW2901
        elif pa.types.is_decimal(column.type):
            column = _digits(column)  # noqa: PLW2901
        elif pa.types.is_list(column.type) and lists:
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "|")  # noqa: PLW2901
        columns.append(column)
    return pa.Table.from_arrays(columns, names=rows.column_names)


def aligned(rows: pa.Table) -> str:
    """The rows as lines under their names: numbers to the right, without the zeros that end them."""
    lines = [*zip(*cells(rows), strict=True)] if rows.num_columns else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [_is_number(field.type) for field in rows.schema]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def cells(rows: pa.Table) -> list[list[str]]:
    """Each column's name and values as short text."""
    shown = texts(rows, lists=True)
    return [
        [field.name, *(_cell(value, is_number=_is_number(field.type)) for value in column.to_pylist())]
        for field, column in zip(rows.schema, shown.columns, strict=True)
    ]


def _digits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    plain = column.cast(pa.string())
    if pc.any(pc.match_substring(plain, "E")).as_py():
        # Arrow writes values below 1e-6 as 1E-8
        values = [None if value is None else format(value, "f") for value in column.to_pylist()]
        plain = pa.chunked_array([pa.array(values, pa.string())])
    return plain


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _cell(value: object, *, is_number: bool) -> str:
    text = "" if value is None else str(value)
    return text.rstrip("0").rstrip(".") if is_number and "." in text and "e" not in text else text
