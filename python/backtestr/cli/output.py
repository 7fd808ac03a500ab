"""Rows and values as text: tables for people, CSV, JSON and Parquet for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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


def _csv(rows: Any) -> str:
    import pyarrow as pa
    from pyarrow import csv

    from backtestr.query.text import texts

    sink = pa.BufferOutputStream()
    csv.write_csv(texts(rows, lists=True), sink, csv.WriteOptions(quoting_style="needed"))
    return str(sink.getvalue().to_pybytes().decode())


def _json(rows: Any) -> str:
    from backtestr.query.text import texts

    lines = [json.dumps(row, ensure_ascii=False, default=_plain) for row in texts(rows, lists=False).to_pylist()]
    return "[" + ",\n ".join(lines) + "]\n"


def _table(rows: Any) -> str:
    from backtestr.query.text import aligned

    return aligned(rows) + "\n"
