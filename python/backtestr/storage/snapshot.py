"""A version: the files, index and small tables that hold at one LSN. Immutable; a commit makes the next one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import ArgumentError, SymbolNotFoundError
from backtestr.models import BarSpec, Timeframe
from backtestr.storage.commit import Commit
from backtestr.storage.listing import File, Files, Listing
from backtestr.storage.live import Batches, Live, joined_counts

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


@dataclass(frozen=True)
class Version:
    """The store at one LSN."""

    lsn: int = 0
    time_ns: int = 0
    listing: Listing = field(default_factory=Listing)
    tables: Mapping[str, pa.Table] = field(
        default_factory=lambda: {name: schema.empty_table() for name, (schema, _) in SMALL_TABLES.items()}
    )
    live: Live = field(default_factory=Live)
    batches: Batches = field(default_factory=Batches)

    def apply(self, lsn: int, time_ns: int, commit: Commit) -> Version:
        """The version after a commit."""
        return self.apply_all([(lsn, time_ns, commit)])

    def apply_all(self, records: Sequence[tuple[int, int, Commit]]) -> Version:
        """The version after some commits (LSN, commit time in ns, what it says), oldest first."""
        if not records:
            return self
        tables = dict(self.tables)
        for *_, commit in records:
            tables |= {name: rows.cast(SMALL_TABLES[name][0]) for name, rows in commit.whole.items()}
            for name, rows in commit.rows.items():
                tables[name] = _upsert(tables[name], rows, SMALL_TABLES[name][1])
        live = self.live
        for lsn, _, commit in records:
            live = live.after(commit.settles).grown(lsn, commit.live)
            if commit.batch is not None:
                self.batches.add(commit.batch, lsn)
        listing = self.listing.after([commit for *_, commit in records])
        lsn, time_ns, _ = records[-1]
        return replace(self, lsn=lsn, time_ns=time_ns, listing=listing, tables=tables, live=live)

    @property
    def filed(self) -> Version:
        """The version without the rows that only the log holds."""
        return replace(self, live=Live())

    @property
    def files(self) -> pa.Table:
        """Rows of `FILES`."""
        return self.listing.files

    @property
    def file_by_id(self) -> Files:
        """All files, by id."""
        return self.listing.file_by_id

    def of(self, table: str) -> list[File]:
        """The files of a table."""
        return self.listing.files_of(table)

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
        if not self.live.ticks:
            return self.listing.symbols
        both = dict(self.listing.symbols)
        for symbol, counts in self.live.symbols.items():
            both[symbol] = joined_counts(both[symbol], counts) if symbol in both else counts
        return dict(sorted(both.items()))

    def known(self, symbols: str | Iterable[str] | None) -> list[str]:
        """The symbols asked for, each once; all of them for None.

        Raises:
            SymbolNotFoundError: one is not in the store; the message has the nearest names.
            ArgumentError: one is not text.
        """
        if symbols is None:
            return list(self.symbols)
        try:
            names = [symbols] if isinstance(symbols, str) else list(dict.fromkeys(symbols))
        except TypeError:
            raise ArgumentError(f"symbols={symbols!r}: give one name, several, or None for all") from None
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
        """The price bases of the bars that the view ``bars`` shows, by symbol: stored ones, or those of live ticks."""
        shown = dict(self.listing.bases)
        for symbol in self.live.symbols:
            shown[symbol] = price_bases([self.symbols[symbol][kind] for kind in KINDS])
        return shown

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
    def steps(self) -> dict[int, str]:
        """The timeframes whose bars are stored, by their length in ns."""
        return {Timeframe.parse(text).ns: text for text in self.timeframes}

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
