"""Migrations in a scratch database: what rows of ``data_columns`` they result in, and whether a store may have them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa

from backtestr.errors import MigrationError, MigrationIrreversibleError
from backtestr.schema import FIELD_IDS
from backtestr.storage.snapshot import SMALL_TABLES
from backtestr.storage.tables import KEYS

_DATA_COLUMNS = """
create schema financial_data;
create table financial_data.data_columns (
    table_name varchar not null, field_id integer not null, name varchar not null, type varchar not null,
    "default" varchar, dropped_lsn bigint, primary key (table_name, field_id)
);
"""
_ALLOWED = (duckdb.StatementType.INSERT, duckdb.StatementType.UPDATE, duckdb.StatementType.DELETE)
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SHOWN: Final = {"ticks": {"timestamp_ns", "exchange", "feed"}, "bars": {"timestamp_ns"}}
"""Columns that the views add to those of the files."""
_FIXED: Final[dict[str, tuple[str, ...]]] = {"exchanges": ("id", "code"), "feeds": ("id", "name")}
"""Small tables that ``data_columns`` describes: they have these columns and no others."""

Rows = dict[tuple[str, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """A migration in one direction."""

    version: int
    name: str
    direction: str
    sql: str

    def __str__(self) -> str:
        return f"migration {self.version:04}_{self.name} {self.direction}"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What some steps result in."""

    columns: pa.Table
    """Rows of ``data_columns`` after the last step."""
    steps: tuple[Step, ...]
    seconds: tuple[float, ...]
    """How long each step took, with its share of what the scratch database took."""

    def noted(self) -> list[dict[str, Any]]:
        """The steps as a commit's note has them, by which later runs are estimated."""
        pairs = zip(self.steps, self.seconds, strict=True)
        return [
            {"version": step.version, "direction": step.direction, "seconds": round(taken, 6)} for step, taken in pairs
        ]


def rehearse(columns: pa.Table, steps: Sequence[Step], *, lsn: int) -> Rehearsal:
    """Run steps on a copy of ``data_columns``; nothing else is there, and nothing outside can be reached.

    Args:
        columns: the rows before.
        steps: what to run, in order; their SQL has ``getvariable('lsn')`` for columns that it drops.
        lsn: number of the commit that would hold the result.

    Raises:
        MigrationError: a statement fails, is none of INSERT, UPDATE and DELETE, or results in columns that files,
            views or this release cannot do with.
        MigrationIrreversibleError: a step has no statement.
    """
    started = time.perf_counter()
    with contextlib.closing(duckdb.connect()) as scratch:
        scratch.execute(_DATA_COLUMNS)
        scratch.register("before", columns)
        scratch.execute("insert into financial_data.data_columns by name from before")
        scratch.unregister("before")
        scratch.execute(f"set variable lsn = {lsn}::bigint")
        scratch.execute("set enable_external_access = false; set lock_configuration = true")
        seconds = []
        rows = first = _rows(scratch)
        for step in steps:
            began = time.perf_counter()
            _run(scratch, step)
            before, rows = rows, _rows(scratch)
            _check_step(step, before, rows, lsn)
            seconds.append(time.perf_counter() - began)
        what = str(steps[0]) if len(steps) == 1 else f"the migrations {steps[0].version:04} to {steps[-1].version:04}"
        _check_columns(what, scratch, first, rows)
        result = pa.Table.from_pylist(list(rows.values()), SMALL_TABLES["data_columns"][0])
        share = (time.perf_counter() - started - sum(seconds)) / len(steps)
        return Rehearsal(result, tuple(steps), tuple(taken + share for taken in seconds))


def _rows(scratch: duckdb.DuckDBPyConnection) -> Rows:
    rows = scratch.sql("from financial_data.data_columns order by table_name, field_id").to_arrow_table().to_pylist()
    return {(row["table_name"], row["field_id"]): row for row in rows}


def _run(scratch: duckdb.DuckDBPyConnection, step: Step) -> None:
    try:
        statements = scratch.extract_statements(step.sql)
    except duckdb.Error as error:
        raise MigrationError(f"{step} does not parse: {error}") from None
    if not statements:
        raise MigrationIrreversibleError(f"{step} has no statement: it cannot be undone; restore an earlier version")
    for number, statement in enumerate(statements, start=1):
        if statement.type not in _ALLOWED:
            kind = statement.type.name
            raise MigrationError(f"{step}, statement {number}: {kind} is none of INSERT, UPDATE and DELETE")
        try:
            scratch.execute(statement)
        except duckdb.Error as error:
            raise MigrationError(f"{step}, statement {number} of {len(statements)} failed: {error}") from None


def _check_step(step: Step, before: Rows, after: Rows, lsn: int) -> None:
    for key, row in before.items():
        if key not in after:
            if step.direction == "up":
                raise MigrationError(
                    f"{step} deletes {_named(row)}: drop a column by dropped_lsn = getvariable('lsn'), "
                    "its number is never given again"
                )
        elif after[key]["type"] != row["type"]:
            raise MigrationError(f"{step} changes the type of {_named(row)}: files keep it; add a new column instead")
    for key, row in after.items():
        kept = before.get(key, {}).get("dropped_lsn")
        if row["dropped_lsn"] not in {None, kept, lsn}:
            raise MigrationError(f"{step} drops {_named(row)}: set dropped_lsn = getvariable('lsn'), no other number")


def _check_columns(what: str, scratch: duckdb.DuckDBPyConnection, before: Rows, after: Rows) -> None:
    """Refuse columns that views cannot show, or that lack what this release reads and writes by name."""
    live: dict[str, dict[str, int]] = {}
    for (table, number), row in after.items():
        if not _NAME.fullmatch(table) or not _NAME.fullmatch(row["name"]) or number < 1:
            raise MigrationError(f"{what}: {_named(row)}: name columns by a-z, 0-9 and _, and number them from 1")
        if row["dropped_lsn"] is None:
            if row["name"] in live.setdefault(table, {}) or row["name"] in _SHOWN.get(table, ()):
                raise MigrationError(f"{what}: there would be two columns {_named(row)}; choose another name")
            live[table][row["name"]] = number
        if (table, number) not in before:
            _check_type(what, scratch, row)
    relied: Mapping[str, Mapping[str, int]] = {
        **FIELD_IDS,
        **KEYS,
        **{table: {name: number for number, name in enumerate(names, 1)} for table, names in _FIXED.items()},
    }
    for table, columns in relied.items():
        for name, number in columns.items():
            row = after.get((table, number), {})
            if live.get(table, {}).get(name) != number:
                raise MigrationError(f"{what} would drop or rename {table}.{name}, which this release relies on")
            if row["default"] != before.get((table, number), row)["default"]:
                raise MigrationError(f"{what} would change the default of {table}.{name}, which this release relies on")
    for table in live.keys() & SMALL_TABLES.keys():
        if live[table].keys() != set(_FIXED.get(table, ())):
            raise MigrationError(f"{what}: the table {table} is the store's own, and takes no further columns")


def _check_type(what: str, scratch: duckdb.DuckDBPyConnection, row: Mapping[str, Any]) -> None:
    try:
        duckdb.sqltype(row["type"], connection=scratch)
        if row["default"] is not None:
            scratch.execute(f"select cast(? as {row['type']})", [row["default"]]).fetchall()
    except duckdb.Error as error:
        raise MigrationError(f"{what}: {_named(row)} of type {row['type']}: {error}") from None


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['table_name']}.{row['name']}"
