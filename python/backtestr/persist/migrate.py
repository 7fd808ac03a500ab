"""Migrations as they ship, up/down pairs over ``data_columns``, and the store that they make."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pyarrow as pa

from backtestr.errors import MigrationError
from backtestr.persist.rehearse import Step, rehearse
from backtestr.storage.commit import Commit
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout, refuse_strangers
from backtestr.storage.session import write_empty_files
from backtestr.storage.snapshot import MATERIALIZED, SMALL_TABLES

_NAME = re.compile(r"(\d{4})_(\w+)\.(up|down)\.sql")


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

    def step(self, direction: str) -> Step:
        """The migration in one direction, ``"up"`` or ``"down"``."""
        return Step(self.version, self.name, direction, self.up if direction == "up" else self.down)


def read_migrations(texts: Iterable[tuple[str, str]]) -> tuple[Migration, ...]:
    """Migrations from the names and texts of their files, in order.

    Raises:
        MigrationError: a file is misnamed, a pair is not whole, or a number is given twice.
    """
    pairs: dict[tuple[int, str], dict[str, str]] = {}
    for file, text in texts:
        match = _NAME.fullmatch(file)
        if match is None:
            raise MigrationError(f"migration {file!r}: name it NNNN_name.up.sql or NNNN_name.down.sql")
        pairs.setdefault((int(match[1]), match[2]), {})[match[3]] = text
    for (version, name), pair in pairs.items():
        if len(pair) != 2:
            raise MigrationError(f"migration {version:04}_{name} has no {'up' if 'down' in pair else 'down'} file")
    if len({version for version, _ in pairs}) < len(pairs):
        raise MigrationError(f"two of the migrations {sorted(pairs)} have one number; give each its own")
    return tuple(Migration(version, name, pair["up"], pair["down"]) for (version, name), pair in sorted(pairs.items()))


@cache
def shipped() -> tuple[Migration, ...]:
    """The migrations in the package, in order."""
    folder = resources.files("backtestr").joinpath("migrations")
    return read_migrations((entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir())


def known_schema() -> int:
    """Number of the newest migration that this release has."""
    return max((migration.version for migration in shipped()), default=0)


def create_store(layout: Layout, journal: Journal, timeframes: Iterable[str]) -> None:
    """Lay out an empty store under the writer's lock; STORE.json comes last, so a half-made one is made again.

    Raises:
        StoreFormatError: the folder holds something else.
        StoreLockedError: another process does the same.
    """
    refuse_strangers(layout.root)
    try:
        if journal.create().lsn == 0:
            commit = _initial_commit(timeframes)
            write_empty_files(layout, commit.rows["data_columns"])
            journal.commit(commit)
        layout.name()
    except BaseException:
        journal.close()
        raise


def applied_rows(migrations: Iterable[Migration]) -> pa.Table:
    """Rows of ``schema_migrations`` for migrations applied now."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    rows = [
        {"version": one.version, "name": one.name, "checksum": one.checksum, "applied_utc": now} for one in migrations
    ]
    return pa.Table.from_pylist(rows, SMALL_TABLES["schema_migrations"][0])


def _initial_commit(timeframes: Iterable[str]) -> Commit:
    """The first record of a store: all migrations, as the rows they result in, and the timeframes it stores."""
    migrations = shipped()
    none = SMALL_TABLES["data_columns"][0].empty_table()
    rehearsal = rehearse(none, [migration.step("up") for migration in migrations], lsn=1)
    settled = pa.table({"name": [MATERIALIZED], "value": [" ".join(timeframes)]})
    rows = {
        "data_columns": rehearsal.columns,
        "schema_migrations": applied_rows(migrations),
        "store_settings": settled,
    }
    return Commit("create", rows=rows, note={"steps": rehearsal.noted()})
