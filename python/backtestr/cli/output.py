"""Rows and values as text: tables for people, CSV, JSON and Parquet for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import typer

from backtestr.errors import ArgumentError

FORMATS = ("table", "csv", "json", "parquet")
_TABLE_ROWS = 50
_SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}


def choose_format(given: str | None, *, as_json: bool, output: Path | None) -> str:
    """The format asked for, else the output's suffix, else a table.

    Raises:
        ArgumentError: the format is unknown, or Parquet would go to a terminal.
    """
    if as_json and given not in (None, "json"):
        raise ArgumentError(f"--json and --format {given} contradict each other; give one")
    chosen = "json" if as_json else given
    if chosen is None and output is not None:
        chosen = _SUFFIXES.get(output.suffix.lower())
        if chosen is None:
            raise ArgumentError(f"--output {output} has no suffix of csv, json or parquet; give --format")
    chosen = chosen or "table"
    if chosen not in FORMATS:
        raise ArgumentError(f"--format {chosen} is none of {', '.join(FORMATS)}")
    if chosen == "parquet" and output is None:
        raise ArgumentError("--format parquet needs a file: give --output FILE")
    return chosen


def write_rows(frame: Any, *, style: str, output: Path | None, limit: int | None) -> None:
    """Print rows, or write them to a file.

    Args:
        frame: has ``to_arrow()``.
        style: one of `FORMATS`.
        output: the file; None for stdout.
        limit: most rows, 0 for all; None for 50 in a table and all elsewhere.
    """
    rows = frame.to_arrow()
    most = limit if limit is not None else _TABLE_ROWS if style == "table" and output is None else 0
    shown = rows.slice(0, most) if most else rows
    if style == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(shown, output, compression="zstd")
        return
    written = {"csv": _csv, "json": _json, "table": _table}[style](shown)
    if output is None:
        typer.echo(written, nl=False)
    else:
        output.write_text(written, encoding="utf-8")
    if shown.num_rows < rows.num_rows:
        typer.echo(f"{rows.num_rows - shown.num_rows:,} more rows; --limit 0 prints all", err=True)


def write_value(value: Any, *, as_json: bool) -> None:
    """Print a report or mapping: as JSON, or as its text or aligned lines."""
    if as_json:
        typer.echo(json.dumps(_plain(value), ensure_ascii=False, default=_plain))
    elif isinstance(value, Mapping) or "__str__" not in vars(type(value)):
        plain = _plain(value)
        width = max((len(name) for name in plain), default=0)
        for name, item in plain.items():
            text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=_plain)
            typer.echo(f"{name:<{width}}  {text}")
    else:
        typer.echo(str(value))


def is_terminal() -> bool:
    """Whether a person watches stderr."""
    return sys.stderr.isatty()


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _texts(rows: Any, *, lists: bool) -> Any:
    """The rows with instants as ISO text, decimals as plain digits, and lists as text where asked."""
    import pyarrow as pa
    import pyarrow.compute as pc

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
    return pa.table(columns, names=rows.column_names)


def _digits(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        # Arrow writes values below 1e-6 as 1E-8
        texts = pa.array([None if value is None else format(value, "f") for value in column.to_pylist()], pa.string())
    return texts


def _csv(rows: Any) -> str:
    import pyarrow as pa
    from pyarrow import csv

    sink = pa.BufferOutputStream()
    csv.write_csv(_texts(rows, lists=True), sink, csv.WriteOptions(quoting_style="needed"))
    return str(sink.getvalue().to_pybytes().decode())


def _json(rows: Any) -> str:
    lines = [json.dumps(row, ensure_ascii=False, default=_plain) for row in _texts(rows, lists=False).to_pylist()]
    return "[" + ",\n ".join(lines) + "]\n"


def _table(rows: Any) -> str:
    texts = _texts(rows, lists=True)
    numeric = [_is_number(field.type) for field in rows.schema]
    cells: list[Sequence[str]] = [list(rows.column_names)]
    cells += [
        [_cell(value, is_number) for value, is_number in zip(row.values(), numeric, strict=True)]
        for row in texts.to_pylist()
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(numeric))]
    lines = []
    for row in cells:
        placed = [
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines) + "\n"


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _cell(value: object, is_number: bool) -> str:
    text = "" if value is None else str(value)
    return text.rstrip("0").rstrip(".") if is_number and "." in text and "e" not in text else text
