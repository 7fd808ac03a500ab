"""Migrations: up/down pairs over ``data_columns``; the resulting rows, never the SQL, are what is committed."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import duckdb
import pyarrow as pa

from backtestr.errors import StoreError
from backtestr.storage.commit import Commit
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout, refuse_strangers
from backtestr.storage.session import write_empty_files
from backtestr.storage.snapshot import MATERIALIZED

_NAME = re.compile(r"(\d{4})_(\w+)\.(up|down)\.sql")
_DATA_COLUMNS = """
create schema financial_data;
create table financial_data.data_columns (
    table_name varchar not null, field_id integer not null, name varchar not null, type varchar not null,
    "default" varchar, dropped_lsn bigint, primary key (table_name, field_id)
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """SHA-256 of both texts; line endings do not count."""
        text = "\0".join(sql.replace("\r\n", "\n") for sql in (self.up, self.down))
        return hashlib.sha256(text.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations in the package, in order.

    Raises:
        StoreError: a file is misnamed, or a pair is not whole.
    """
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for entry in resources.files("backtestr").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is None:
            raise StoreError(f"migration {entry.name!r}: name it NNNN_name.up.sql or NNNN_name.down.sql")
        texts.setdefault((int(match[1]), match[2]), {})[match[3]] = entry.read_text(encoding="utf-8")
    for (version, name), pair in texts.items():
        if len(pair) != 2:
            raise StoreError(f"migration {version:04}_{name} has no {'up' if 'down' in pair else 'down'} file")
    return [Migration(version, name, pair["up"], pair["down"]) for (version, name), pair in sorted(texts.items())]


def create_store(layout: Layout, journal: Journal, timeframes: Iterable[str]) -> None:
    """Lay out an empty store under the writer's lock; STORE.json comes last, so a half-made one is made again.

    Raises:
        StoreFormatError: the folder holds something else.
        StoreLockedError: another process does the same.
    """
    refuse_strangers(layout.root)
    if journal.create().lsn == 0:
        commit = _initial_commit(timeframes)
        write_empty_files(layout, commit.rows["data_columns"])
        journal.commit(commit)
    layout.name()


def _initial_commit(timeframes: Iterable[str]) -> Commit:
    """The first record of a store: all migrations, as the rows they result in, and the timeframes it stores."""
    scratch = duckdb.connect()
    scratch.execute(_DATA_COLUMNS)
    migrations = shipped()
    for migration in migrations:
        scratch.execute(migration.up)
    columns = scratch.sql("from financial_data.data_columns order by table_name, field_id").to_arrow_table()
    now = dt.datetime.now(dt.UTC)
    applied = pa.table(
        {
            "version": pa.array([migration.version for migration in migrations], pa.int32()),
            "name": [migration.name for migration in migrations],
            "checksum": [migration.checksum for migration in migrations],
            "applied_utc": pa.array([now] * len(migrations), pa.timestamp("us")),
        }
    )
    settled = pa.table({"name": [MATERIALIZED], "value": [" ".join(timeframes)]})
    rows = {"data_columns": columns, "schema_migrations": applied, "store_settings": settled}
    return Commit("create", rows=rows)
