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
        files, index = self.files, self.index
        if commit.removed:
            gone = pa.array(commit.removed, pa.string())
            files = files.filter(pc.invert(pc.is_in(files["file_id"], gone)))
            index = index.filter(pc.invert(pc.is_in(index["file_id"], gone)))
        tables = dict(self.tables)
        for name, rows in commit.rows.items():
            tables[name] = _upsert(tables[name], rows, SMALL_TABLES[name][1])
        return replace(
            self,
            lsn=lsn,
            time_ns=time_ns,
            files=pa.concat_tables([files, commit.added]),
            index=pa.concat_tables([index, commit.index]),
            tables=tables,
        )

    @cached_property
    def file_by_id(self) -> dict[str, File]:
        """All files, by id."""
        columns = [self.files[name].to_pylist() for name in FILES.names]
        return {row[0]: File(*row) for row in zip(*columns, strict=True)}

    @cached_property
    def _lookup(self) -> dict[tuple[str, str | None, str | None], npt.NDArray[np.int64]]:
        """Index rows by (symbol, timeframe, basis), each in order of time."""
        order = np.asarray(pc.sort_indices(self.index["min_ns"]))
        keys = zip(*(self.index[name].to_pylist() for name in ("symbol", "timeframe", "price_basis")), strict=True)
        by_key: dict[tuple[str, str | None, str | None], list[int]] = {}
        names = list(keys)
        for row in order.tolist():
            by_key.setdefault(names[row], []).append(row)
        return {key: np.array(rows) for key, rows in by_key.items()}

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[np.int64]]:
        return {name: self.index[name].to_numpy() for name in _SPAN_COLUMNS}

    @cached_property
    def _file_ids(self) -> list[str]:
        return self.index["file_id"].to_pylist()  # type: ignore[no-any-return]

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
        rows = self._lookup.get((symbol, timeframe, basis))
        if rows is None:
            return []
        column = self._columns
        if start is not None:
            rows = rows[column["max_ns"][rows] >= start]
        if end is not None:
            rows = rows[column["min_ns"][rows] < end]
        return [
            Span(
                self.file_by_id[self._file_ids[row]],
                *(int(column[name][row]) for name in _SPAN_COLUMNS),
            )
            for row in rows.tolist()
        ]

    def of(self, table: str) -> list[File]:
        """The files of a table."""
        return [file for file in self.file_by_id.values() if file.table == table]

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


def _upsert(old: pa.Table, new: pa.Table, key: Iterable[str]) -> pa.Table:
    """Both tables' rows, the last of each key."""
    both = pa.concat_tables([old, new.select(old.column_names).cast(old.schema)])
    columns = [both[name].to_pylist() for name in key]
    last = {values: row for row, values in enumerate(zip(*columns, strict=True))}
    return both.take(sorted(last.values()))


__all__ = ["BARS", "TICKS", "File", "Span", "Version"]
