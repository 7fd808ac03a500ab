"""catalog.duckdb: a version for other tools, in a database that DuckDB opens from 1.4 on. Never read back."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

import duckdb

from backtestr._native import sync_file, sync_folder
from backtestr.storage.layout import Layout
from backtestr.storage.session import (
    SCHEMA,
    VWAP,
    empty_file,
    file_tables,
    name_lists,
    small_sql,
    text_sql,
    view_sql,
)
from backtestr.storage.snapshot import SMALL_TABLES, Version

STORE_PATH = "store_path"
"""The variable by which a client says where the store's folder is, if it is not where it was published."""
_LOG = logging.getLogger(__name__)
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": "1",
}


def publish_catalog(layout: Layout, version: Version) -> bool:
    """Write the catalog of a version in place of the one before; whether it succeeded.

    A failure is logged as a warning: nothing of the store depends on the catalog.
    """
    draft = layout.tmp / f"catalog-{uuid.uuid4().hex}.duckdb"
    try:
        _write(layout, version, draft)
        sync_file(draft)
        # what a client left behind unmerged is of the catalog that goes
        _wal(layout.catalog).unlink(missing_ok=True)
        draft.replace(layout.catalog)
        sync_folder(layout.root)
    except Exception as error:
        _LOG.warning("publishing %s: %s; the store itself is in order", layout.catalog, error)
        return False
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
            _wal(draft).unlink(missing_ok=True)
    return True


def _write(layout: Layout, version: Version, path: Path) -> None:
    columns = version.tables["data_columns"]
    names = name_lists(version)
    with contextlib.closing(duckdb.connect(config=_CONFIG)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"attach {text_sql(str(path))} as catalog (storage_version 'v1.0.0')")
        connection.execute("use catalog")
        connection.execute(f"create schema {SCHEMA}")
        connection.execute(VWAP)
        for table in SMALL_TABLES:
            connection.register("incoming_rows", version.tables[table])
            shown = small_sql(table, columns, "incoming_rows r")
            connection.execute(f"create table {SCHEMA}.{table} as {shown}")
            connection.unregister("incoming_rows")
        for table in file_tables(version):
            paths = [file.path for file in version.of(table)]
            listed = _files_sql(layout, paths or [str(empty_file(layout, table).relative_to(layout.root))])
            connection.execute(view_sql(table, columns, files=listed, names=names))
        committed = dt.datetime.fromtimestamp(version.time_ns // 1_000_000_000, dt.UTC).replace(tzinfo=None)
        connection.execute(
            f"create table {SCHEMA}.published as select ?::bigint as lsn, ?::timestamp as committed_utc, "
            "?::varchar as store_id, ?::varchar as store_path",
            [version.lsn, committed, layout.check(), str(layout.root)],
        )
        connection.execute("use memory")
        connection.execute("detach catalog")


def _files_sql(layout: Layout, paths: Iterable[str]) -> str:
    """The list of files, below the client's variable or else the folder they are in now."""
    root = f"coalesce(getvariable('{STORE_PATH}'), {text_sql(str(layout.root))})"
    return "[" + ", ".join(f"{root} || {text_sql('/' + path)}" for path in paths) + "]"


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
