"""DuckDB over a version: views that widen the files, and a session that can touch nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import sync_file, sync_folder
from backtestr.config import Settings
from backtestr.errors import DataCorruptError, StoreClosedError
from backtestr.schema import FIELD_IDS
from backtestr.storage import tables
from backtestr.storage.layout import BARS, TICKS, Layout, make_folders
from backtestr.storage.listing import File
from backtestr.storage.snapshot import SMALL_TABLES, Version

SCHEMA = "financial_data"
COMPUTED = "computed"
"""Schema of the view ``bars`` that also shows the bars computed for a statement."""
TRADES_OF_BARS, TRADES_OF_TICKS = "trades_of_bars", "trades_of_ticks"
"""Table functions of the trades in a list of files; see `trades_sql`."""
_PAUSE_S = 0.005
_LISTED = {"exchange_codes": ("exchanges", "code"), "feed_names": ("feeds", "name")}
_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.uint16(): "USMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.timestamp("us"): "TIMESTAMP",
}

# `/` on decimals is DOUBLE in DuckDB, so prices are averaged on unscaled integers; their text is the exact way there.
VWAP = f"""
create macro {SCHEMA}.unscaled(x) as replace(x::varchar, '.', '')::hugeint;
create macro {SCHEMA}.half_even(n, d) as
    n // d + case
        when 2 * abs(n % d) > abs(d) or (2 * abs(n % d) = abs(d) and (n // d) % 2 <> 0)
        then case when (n < 0) = (d < 0) then 1 else -1 end else 0 end;
create macro {SCHEMA}.vwap_of_units(turnover, volume) as
    case when volume = 0 then null
    else ({SCHEMA}.half_even(turnover, volume)::decimal(38, 0) * 0.00000001::decimal(9, 8))::decimal(18, 8) end;
create macro {SCHEMA}.vwap_of(turnover, volume) as
    {SCHEMA}.vwap_of_units({SCHEMA}.unscaled(turnover), {SCHEMA}.unscaled(volume));
create macro {SCHEMA}.units(x) as (x::decimal(27, 8) * 100000000)::hugeint;
create macro {SCHEMA}.vwap(price, volume) as {SCHEMA}.vwap_of_units(
    sum({SCHEMA}.units(price) * {SCHEMA}.units(volume)), sum({SCHEMA}.units(volume)));
"""


class Session:
    """One in-memory DuckDB for a store; each query gets a cursor of its own. Safe to share between threads."""

    def __init__(self, layout: Layout, settings: Settings) -> None:
        self._layout = layout
        self._verify = settings.verify == "always"
        self.is_closed = False
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        self._verified: set[tuple[str, int, int, int]] = set()
        self._whole: set[str] = set()
        self._lock = threading.Lock()
        self._catalogs: list[tuple[pa.Table, str]] = []
        self._scratch = _scratch_home(layout, settings) / f"backtestr-{uuid.uuid4().hex}"
        weakref.finalize(self, remove_folder, self._scratch, os.getpid())
        spill = settings.temp_dir or layout.tmp
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{settings.memory_limit}B",
                "threads": str(settings.threads),
                "temp_directory": str(spill),
                "max_temp_directory_size": f"{_free_bytes(spill) // 2}B",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
            }
        )
        self._connection.execute("set TimeZone = 'UTC'")
        folders = ", ".join(text_sql(f"{folder}/") for folder in (layout.data, self._scratch))
        self._connection.execute(f"set allowed_directories = [{folders}]")
        self._connection.execute("set enable_external_access = false")
        self._connection.execute("set lock_configuration = true")

    def cursor(
        self, version: Version, files: Mapping[str, Iterable[File]], computed: Path | None = None
    ) -> duckdb.DuckDBPyConnection:
        """A cursor on one version whose views read the given files of each table named; others are empty.

        ``computed`` is a file of bars that only the view of the schema `COMPUTED` shows, beside the stored ones.

        Raises:
            DataCorruptError: a file is not what the log says.
        """
        with self._lock:
            if self.is_closed:
                raise StoreClosedError(f"store {self._layout.root} is closed; open it again")
            catalog = self._catalog(version)
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
        cursor.execute(f"set search_path = '{catalog}.{SCHEMA}'")
        self._set_files(cursor, files, computed)
        if TICKS in files:
            for variable, listed in name_lists(version).items():
                cursor.execute(f"set variable {variable} = {listed}")
        for table in SMALL_TABLES.keys() & files.keys():
            cursor.register("incoming_rows", version.tables[table])
            cursor.execute(f"set variable {table}_rows = (select list(r) from incoming_rows r)")
            cursor.unregister("incoming_rows")
        return cursor

    @contextlib.contextmanager
    def scratch_file(self) -> Iterator[Path]:
        """A path for a file that cursors can read, removed in the end."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._scratch / f"{uuid.uuid4().hex}.parquet"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def scratch_folder(self) -> Path:
        """A new folder whose files cursors can read; it goes with the session at the latest."""
        folder = self._scratch / uuid.uuid4().hex
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def close(self) -> None:
        """Release DuckDB; statements that run are interrupted."""
        with self._lock:
            self.is_closed = True
        while True:
            try:
                self._connection.close()
                break
            except duckdb.ResourceInUseException:
                # A connection does not close while a cursor of it is at work.
                for cursor in list(self._cursors):
                    with contextlib.suppress(duckdb.Error):
                        cursor.interrupt()
                time.sleep(_PAUSE_S)
        remove_folder(self._scratch, os.getpid())

    def _catalog(self, version: Version) -> str:
        """The database whose views have a version's columns.

        Views are never replaced: a statement binds after its cursor was made, when another version may be in use.
        """
        columns = version.tables["data_columns"]
        for known, catalog in self._catalogs:
            if known is columns or known.equals(columns):
                return catalog
        catalog = f"store_{uuid.uuid4().hex}"
        with self._connection.cursor() as maker:
            maker.execute(f"attach ':memory:' as {catalog}")
            maker.execute(f"use {catalog}")
            maker.execute(f"create schema {SCHEMA}; create schema {COMPUTED}; {VWAP}")
            self._set_files(maker, dict.fromkeys(file_tables(version), ()))
            for table in {*file_tables(version), *SMALL_TABLES}:
                maker.execute(view_sql(table, columns))
            maker.execute(view_sql(BARS, columns, schema=COMPUTED))
            maker.execute(trades_sql(columns))
        self._catalogs.append((columns, catalog))
        return catalog

    def _set_files(
        self,
        cursor: duckdb.DuckDBPyConnection,
        files: Mapping[str, Iterable[File]],
        computed: Path | None = None,
    ) -> None:
        for table in files.keys() - SMALL_TABLES.keys():
            listed = self.listed(table, files[table])
            cursor.execute(f"set variable {table}_files = {listed}")
            if table == BARS:
                also = f" || [{text_sql(str(computed))}]" if computed else ""
                cursor.execute(f"set variable {COMPUTED}_files = {listed}{also}")

    def listed(self, table: str, files: Iterable[File]) -> str:
        """SQL of the list of some files of a table, verified; of the empty file if there are none.

        Raises:
            DataCorruptError: a file is not what the log says.
        """
        known = list(files)
        self._verify_files(known)
        paths = [str(self._layout.root / file.path) for file in known] or [str(self._empty_file(table))]
        return f"[{', '.join(map(text_sql, paths))}]"

    def _empty_file(self, table: str) -> Path:
        path = empty_file(self._layout, table)
        if self._verify and table not in self._whole:
            try:
                pq.read_table(path)
            except (OSError, pa.ArrowException) as error:
                raise DataCorruptError(f"{path} cannot be read: {error}; store.repair() makes it anew") from error
            self._whole.add(table)
        return path

    def _verify_files(self, files: Iterable[File]) -> None:
        if not self._verify:
            return
        for file in files:
            path = self._layout.root / file.path
            try:
                status = path.stat()
                key = (file.file_id, status.st_ino, status.st_size, status.st_mtime_ns)
                if key in self._verified:
                    continue
                with path.open("rb") as raw:
                    digest = hashlib.file_digest(raw, "sha256").digest()
            except OSError as error:
                raise DataCorruptError(f"{path} cannot be read: {error}; restore the file") from error
            if digest != file.sha256:
                raise DataCorruptError(f"{path} is not the file that was committed; restore it")
            self._verified.add(key)


def empty_file(layout: Layout, table: str) -> Path:
    """The file without rows that stands for an empty list."""
    return layout.data / "empty" / f"{table}.parquet"


def write_empty_files(layout: Layout, columns: pa.Table) -> None:
    """One durable file without rows for each table, holding its first column."""
    folder = layout.data / "empty"
    make_folders(folder)
    for row in columns.to_pylist():
        path = folder / f"{row['table_name']}.parquet"
        if not path.exists():
            field = pa.field(row["name"], pa.string(), metadata={"PARQUET:field_id": str(row["field_id"])})
            draft = path.with_suffix(".new")
            pq.write_table(pa.schema([field]).empty_table(), draft, store_schema=False)
            sync_file(draft)
            draft.replace(path)
    sync_folder(folder)


def small_sql(table: str, columns: pa.Table, source: str) -> str:
    """What SQL shows of a small table whose rows are those of ``source``."""
    shown = [f'r."{row["name"]}"::{row["type"]} as "{row["name"]}"' for row in tables.live_columns(table, columns)]
    return f"select {', '.join(shown) or 'r.*'} from {source}"


def view_sql(
    table: str,
    columns: pa.Table,
    *,
    schema: str = SCHEMA,
    files: str | None = None,
    names: Mapping[str, str] | None = None,
) -> str:
    """The view of a table, made from its rows in ``data_columns``; the store's own tables have none.

    Args:
        table: its name.
        columns: the rows of ``data_columns``.
        schema: where the view is made.
        files: SQL of the list of files; None for the cursor's variable.
        names: SQL of the lists of names of exchanges and feeds, by variable; None for the cursor's variables.
    """
    if table in SMALL_TABLES:
        held = ", ".join(f'"{field.name}" {_SQL_TYPES[field.type]}' for field in SMALL_TABLES[table][0])
        rows = f"(select unnest(getvariable('{table}_rows')::struct({held})[]) as r)"
        return f"create or replace view {SCHEMA}.{table} as {small_sql(table, columns, rows)}"
    listed = files or f"getvariable('{COMPUTED if schema == COMPUTED else table}_files')"
    return f"create or replace view {schema}.{table} as {rows_sql(table, columns, listed, names)}"


def trades_sql(columns: pa.Table) -> str:
    """Functions that give the trades in a list of files: as they are, and as bars of them, in the same columns."""
    bars, ticks = (rows_sql(table, columns, "files") for table in (BARS, TICKS))
    return f"""
create macro {SCHEMA}.{TRADES_OF_BARS}(files) as table
    select symbol, timestamp_utc, timestamp_ns, 0::bigint as sequence, 0::tinyint as tick_type, open, high, low, close,
        volume, {SCHEMA}.unscaled(turnover) as turnover, {SCHEMA}.unscaled(volume) as units, trade_count, timeframe
    from ({bars}) where price_basis = 'trade';
create macro {SCHEMA}.{TRADES_OF_TICKS}(files) as table
    select symbol, timestamp_utc, timestamp_ns, sequence, tick_type, price as open, price as high, price as low,
        price as close, volume::decimal(38, 8) as volume,
        {SCHEMA}.units(price) * {SCHEMA}.units(volume) as turnover, {SCHEMA}.units(volume) as units,
        1::bigint as trade_count
    from ({ticks}) where tick_type = 0;
"""


def rows_sql(table: str, columns: pa.Table, files: str, names: Mapping[str, str] | None = None) -> str:
    """What SQL shows of a table whose rows are in a list of files; see `view_sql`."""
    fields, shown = [], []
    for row in tables.live_columns(table, columns):
        name, kind = row["name"], row["type"]
        if name == "timestamp_utc" and table in {TICKS, BARS}:
            kind = "TIMESTAMP_NS"
            ns = "epoch_ns(timestamp_utc)"
            # Floored also before 1970; the engine's own functions round to µs.
            shown.append(
                f"make_timestamp({ns} // 1000 - ({ns} % 1000 < 0)::bigint) as timestamp_utc, {ns} as timestamp_ns"
            )
        elif name == "vwap" and table == BARS:
            shown.append(f"{SCHEMA}.vwap_of(turnover, volume) as vwap")
            continue
        elif name in {"exchange_id", "feed_id"} and table == TICKS:
            codes = "exchange_codes" if name == "exchange_id" else "feed_names"
            known = names[codes] if names else f"getvariable('{codes}')"
            shown.append(f"{known}[{name}] as {name.removesuffix('_id')}")
        else:
            shown.append(f'"{name}"')
        default = "null" if row["default"] is None else text_sql(row["default"])
        fields.append(
            f"{row['field_id']}: {{name: {text_sql(name)}, type: {text_sql(kind)}, default_value: {default}}}"
        )
    newest = ""
    if table in tables.KEYS:
        fields.append(f"{tables.LSN_FIELD}: {{name: '{tables.LSN}', type: 'BIGINT', default_value: '0'}}")
        newest = (
            f" qualify row_number() over (partition by {', '.join(tables.KEYS[table])} order by {tables.LSN} desc) = 1"
        )
    return f"select {', '.join(shown)} from read_parquet({files}, schema => map {{{', '.join(fields)}}}){newest}"


def name_lists(version: Version) -> dict[str, str]:
    """SQL of the lists in which an id finds the name of an exchange or feed, by variable."""
    lists = {}
    for variable, (table, column) in _LISTED.items():
        values = {int(str(row["id"])): str(row[column]) for row in version.rows_of(table)}
        listed = [values.get(number) for number in range(1, max(values, default=0) + 1)]
        sql = ", ".join("null" if value is None else text_sql(value) for value in listed)
        lists[variable] = f"([{sql}]::varchar[])"
    return lists


def file_tables(version: Version) -> list[str]:
    """The tables whose rows are in files."""
    return [name for name in version.data_tables if name not in SMALL_TABLES]


def _scratch_home(layout: Layout, settings: Settings) -> Path:
    try:
        return (settings.temp_dir or Path(tempfile.gettempdir())).resolve()
    except FileNotFoundError:
        return layout.tmp


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def remove_folder(folder: Path, owner: int) -> None:
    """Remove a folder, if this is the process that made it."""
    # A forked child has a copy of this object, and must leave its parent's files alone.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def text_sql(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


assert set(FIELD_IDS) >= {TICKS, BARS}  # noqa: S101 - views and files must agree on field ids
