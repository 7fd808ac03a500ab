"""A version: the files, index and small tables that hold at one LSN. Immutable; a commit makes the next one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import ArgumentError, SymbolNotFoundError
from backtestr.models import BarSpec
from backtestr.storage.commit import FILES, INDEX, Commit
from backtestr.storage.layout import BARS, TICKS

_ID, _TEXT = pa.uint16(), pa.string()
SMALL_TABLES: dict[str, tuple[pa.Schema, tuple[str, ...]]] = {
    "data_columns": (
        pa.schema(
            {
                "table_name": _TEXT,
                "field_id": pa.int32(),
                "name": _TEXT,
                "type": _TEXT,
                "default": _TEXT,
                "dropped_lsn": pa.int64(),
            }
        ),
        ("table_name", "field_id"),
    ),
    "schema_migrations": (
        pa.schema({"version": pa.int32(), "name": _TEXT, "checksum": _TEXT, "applied_utc": pa.timestamp("us")}),
        ("version",),
    ),
    "exchanges": (pa.schema({"id": _ID, "code": _TEXT}), ("id",)),
    "feeds": (pa.schema({"id": _ID, "name": _TEXT, "row_unique_sequence": pa.bool_()}), ("id",)),
    "symbol_feeds": (pa.schema({"symbol": _TEXT, "feed_id": _ID}), ("symbol", "feed_id")),
    "bar_specs": (pa.schema({"spec_id": _TEXT, "spec": _TEXT}), ("spec_id",)),
    "tags": (pa.schema({"name": _TEXT, "lsn": pa.int64()}), ("name",)),
    "store_settings": (pa.schema({"name": _TEXT, "value": _TEXT}), ("name",)),
}
"""Tables that are held in memory, with their key: the newest row of a key holds."""

MATERIALIZED = "materialized_timeframes"
BAR_SPEC = "bar_spec"
_DEFAULT_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")


class File(NamedTuple):
    """A data file of a version."""

    file_id: str
    table: str
    interval: str
    path: str
    size: int
    rows: int
    sha256: bytes
    footer_crc32c: int
    min_ns: int | None
    max_ns: int | None


class Span(NamedTuple):
    """Rows of one symbol (bars: of one timeframe and basis) in one file."""

    file: File
    first_group: int
    groups: int
    first_row: int
    rows: int
    min_ns: int
    max_ns: int
    min_sequence: int
    max_sequence: int


_SPAN_COLUMNS = Span._fields[1:]


@dataclass(frozen=True)
class Version:
    """The store at one LSN."""

    lsn: int = 0
    time_ns: int = 0
    files: pa.Table = field(default_factory=FILES.empty_table)
    index: pa.Table = field(default_factory=INDEX.empty_table)
    tables: Mapping[str, pa.Table] = field(
        default_factory=lambda: {name: schema.empty_table() for name, (schema, _) in SMALL_TABLES.items()}
    )

    def apply(self, lsn: int, time_ns: int, commit: Commit) -> Version:
        """The version after a commit."""
        return self.apply_all([(lsn, time_ns, commit)])

    def apply_all(self, records: Sequence[tuple[int, int, Commit]]) -> Version:
        """The version after some commits (LSN, commit time in ns, what it says), oldest first."""
        if not records:
            return self
        removals = {file_id: place for place, (*_, commit) in enumerate(records) for file_id in commit.removed}
        tables = dict(self.tables)
        for *_, commit in records:
            tables |= {name: rows.cast(SMALL_TABLES[name][0]) for name, rows in commit.whole.items()}
            for name, rows in commit.rows.items():
                tables[name] = _upsert(tables[name], rows, SMALL_TABLES[name][1])
        return replace(
            self,
            lsn=records[-1][0],
            time_ns=records[-1][1],
            files=_live([self.files, *(commit.added for *_, commit in records)], removals),
            index=_live([self.index, *(commit.index for *_, commit in records)], removals),
            tables=tables,
        )

    @cached_property
    def file_by_id(self) -> dict[str, File]:
        """All files, by id."""
        return {file.file_id: file for file in listed_files(self.files)}

    @cached_property
    def _places(self) -> _Places:
        return _Places.of(self.index)

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[np.int64]]:
        return {name: self.index[name].to_numpy() for name in _SPAN_COLUMNS}

    @cached_property
    def _file_rows(self) -> dict[str, int]:
        return {file_id: row for row, file_id in enumerate(self.files["file_id"].to_pylist())}

    def _file_of(self, index_row: int) -> File:
        row = self._file_rows[self.index["file_id"][index_row].as_py()]
        return File(*(self.files[name][row].as_py() for name in FILES.names))

    def spans(
        self,
        symbol: str,
        start: int | None = None,
        end: int | None = None,
        *,
        timeframe: str | None = None,
        basis: str | None = None,
    ) -> list[Span]:
        """Where the rows of a symbol in [start, end) ns are, by time; bars need their timeframe and basis."""
        rows = self._places.rows(symbol, timeframe, basis)
        if len(rows) == 0:
            return []
        column = self._columns
        if start is not None:
            rows = rows[column["max_ns"][rows] >= start]
        if end is not None:
            rows = rows[column["min_ns"][rows] < end]
        return [Span(self._file_of(row), *(int(column[name][row]) for name in _SPAN_COLUMNS)) for row in rows.tolist()]

    def of(self, table: str) -> list[File]:
        """The files of a table."""
        return [file for file in self.file_by_id.values() if file.table == table]

    @cached_property
    def data_tables(self) -> tuple[str, ...]:
        """Tables that have columns in ``data_columns``, those whose columns were all dropped aside."""
        columns = self.tables["data_columns"]
        return tuple(columns.filter(pc.is_null(columns["dropped_lsn"]))["table_name"].unique().to_pylist())

    @cached_property
    def schema_version(self) -> int:
        """Number of the newest migration that is applied; 0 without one."""
        return max((int(str(row["version"])) for row in self.rows_of("schema_migrations")), default=0)

    @cached_property
    def symbols(self) -> dict[str, dict[str, int]]:
        """Ticks per symbol: rows, first and last instant (ns), and rows of each tick type; by name."""
        ticks = self.index.filter(pc.is_null(self.index["timeframe"]))
        sums = ["rows", "trades", "bids", "asks", "composites"]
        wanted = [*((name, "sum") for name in sums), ("min_ns", "min"), ("max_ns", "max")]
        grouped = ticks.group_by("symbol").aggregate(wanted)
        rows = grouped.rename_columns({f"{name}_{how}": name for name, how in wanted}).to_pylist()
        return {row.pop("symbol"): row for row in sorted(rows, key=lambda row: row["symbol"])}

    def known(self, symbols: str | Iterable[str] | None) -> list[str]:
        """The symbols asked for, each once; all of them for None.

        Raises:
            SymbolNotFoundError: one is not in the store; the message has the nearest names.
            ArgumentError: one is not text.
        """
        if symbols is None:
            return list(self.symbols)
        names = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
        for name in names:
            if not isinstance(name, str):
                raise ArgumentError(f"symbols are text, got {name!r}")
            if name not in self.symbols:
                near = self._nearest(name)
                hint = f"nearest are {', '.join(map(repr, near))}" if near else "the store holds no ticks yet"
                raise SymbolNotFoundError(f"no symbol {name!r} in the store; {hint}")
        return names

    def _nearest(self, name: str) -> list[str]:
        """Up to three symbols that are spelled like a name, whatever its case, else the first ones."""
        folded = {symbol.casefold(): symbol for symbol in self.symbols}
        close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
        return [folded[match] for match in close] or list(self.symbols)[:3]

    @cached_property
    def bases(self) -> dict[str, tuple[str, ...]]:
        """The price bases whose bars are materialised, by symbol."""
        bars = self.index.filter(pc.is_valid(self.index["timeframe"]))
        pairs = bars.group_by(["symbol", "price_basis"]).aggregate([]).to_pylist()
        found: dict[str, tuple[str, ...]] = {}
        for pair in sorted(pairs, key=lambda pair: (pair["symbol"], pair["price_basis"])):
            found[pair["symbol"]] = (*found.get(pair["symbol"], ()), pair["price_basis"])
        return found

    @cached_property
    def bar_spec(self) -> BarSpec:
        """The bar specification in force."""
        specs = {row["spec_id"]: row["spec"] for row in self.rows_of("bar_specs")}
        spec_id = self.store_settings.get(BAR_SPEC)
        return BarSpec() if spec_id is None else BarSpec.from_json(specs[spec_id])

    @cached_property
    def timeframes(self) -> tuple[str, ...]:
        """The timeframes whose bars are stored, finest first: settled when the store was made."""
        text = self.store_settings.get(MATERIALIZED)
        return _DEFAULT_TIMEFRAMES if text is None else tuple(text.split())

    @cached_property
    def store_settings(self) -> dict[str, str]:
        """What belongs to the store, not to the process that opens it, by name."""
        return {row["name"]: row["value"] for row in self.rows_of("store_settings")}

    def rows_of(self, table: str) -> list[dict[str, Any]]:
        """Rows of a small table."""
        return self.tables[table].to_pylist()  # type: ignore[no-any-return]


def listed_files(rows: pa.Table) -> list[File]:
    """Rows of `FILES`, one by one."""
    return [File(*row) for row in zip(*(rows[name].to_pylist() for name in FILES.names), strict=True)]


@dataclass(frozen=True, slots=True)
class _Places:
    """Rows of an index by symbol, timeframe and basis, each in order of time: one sort instead of a dictionary."""

    order: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    """Keys of the rows in their order."""
    codes: tuple[dict[str | None, int], ...]

    @classmethod
    def of(cls, index: pa.Table) -> _Places:
        key = np.zeros(index.num_rows, np.int64)
        codes = []
        for name in ("symbol", "timeframe", "price_basis"):
            column = index[name].combine_chunks().dictionary_encode(null_encoding="encode")
            names = column.dictionary.to_pylist()
            codes.append({value: code for code, value in enumerate(names)})
            key = key * max(len(names), 1) + column.indices.to_numpy()
        order = np.lexsort((index["min_ns"].to_numpy(), key))
        return cls(order, key[order], tuple(codes))

    def rows(self, *values: str | None) -> npt.NDArray[np.int64]:
        key = 0
        for value, codes in zip(values, self.codes, strict=True):
            if value not in codes:
                return self.order[:0]
            key = key * len(codes) + codes[value]
        first, stop = np.searchsorted(self.keys, (key, key + 1))
        return self.order[first:stop]


KINDS = ("trades", "bids", "asks", "composites")
"""Counts of rows by tick type, in its order."""


def price_bases(counts: Sequence[int]) -> tuple[str, ...]:
    """The bases whose bars are materialised for a symbol with so many rows of each kind: trades go before quotes."""
    trades, bids, asks, composites = counts
    if trades:
        return ("trade",)
    if composites:
        return ("mid",)
    return tuple(name for name, count in (("bid", bids), ("ask", asks)) if count)


def _live(parts: Sequence[pa.Table], removals: Mapping[str, int]) -> pa.Table:
    """Rows of files that no later record removed; parts are those held before and those of each record."""
    rows = pa.concat_tables(parts)
    if not removals:
        return rows
    is_removed = pc.is_in(rows["file_id"], pa.array(list(removals), pa.string()))
    keep = np.ones(rows.num_rows, dtype=bool)
    suspects = np.flatnonzero(is_removed.to_numpy())
    # A file that came again after its removal is there.
    place = np.searchsorted(np.cumsum([part.num_rows for part in parts]), suspects, "right") - 1
    last = [removals[file_id] for file_id in rows["file_id"].filter(is_removed).to_pylist()]
    keep[suspects] = place >= np.array(last, np.int64)
    return rows.filter(pa.array(keep))


def _upsert(old: pa.Table, new: pa.Table, key: Iterable[str]) -> pa.Table:
    """Both tables' rows, the last of each key."""
    both = pa.concat_tables([old, new.select(old.column_names).cast(old.schema)])
    columns = [both[name].to_pylist() for name in key]
    last = {values: row for row, values in enumerate(zip(*columns, strict=True))}
    return both.take(sorted(last.values()))


__all__ = ["BARS", "TICKS", "File", "Span", "Version"]
