"""The files of a version and the index over their rows. Immutable; looked up by symbol, time, timeframe and basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.schema import END_NS, MIN_NS
from backtestr.storage.commit import FILES, INDEX
from backtestr.storage.layout import BARS, TICKS


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
_MIN_NS, _MAX_NS = _SPAN_COLUMNS.index("min_ns"), _SPAN_COLUMNS.index("max_ns")


@dataclass(frozen=True)
class Listing:
    """Data files and where the rows of each symbol are in them."""

    files: pa.Table = field(default_factory=FILES.empty_table)
    index: pa.Table = field(default_factory=INDEX.empty_table)

    @cached_property
    def file_by_id(self) -> dict[str, File]:
        """All files, by id."""
        return {file.file_id: file for file in listed_files(self.files)}

    @cached_property
    def _places(self) -> _Places:
        return _Places.of(self.index)

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """What a span has of each index row, behind its file."""
        columns = [self.index[name].to_numpy() for name in _SPAN_COLUMNS]
        return np.stack(columns, axis=1, dtype=np.int64, casting="safe")

    @cached_property
    def _file_rows(self) -> dict[str, int]:
        return {file_id: row for row, file_id in enumerate(self.files["file_id"].to_pylist())}

    @cached_property
    def _files_seen(self) -> dict[str, File]:
        return {}

    def _file_of(self, index_row: int) -> File:
        file_id = self.index["file_id"][index_row].as_py()
        seen = self._files_seen
        if file_id not in seen:
            row = self._file_rows[file_id]
            seen[file_id] = File(*(self.files[name][row].as_py() for name in FILES.names))
        return seen[file_id]

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
        return self.spans_of([symbol], start, end, timeframe=timeframe, basis=basis)[0]

    def spans_of(
        self,
        symbols: Sequence[str],
        start: int | None = None,
        end: int | None = None,
        *,
        timeframe: str | None = None,
        basis: str | None = None,
    ) -> list[list[Span]]:
        """The `spans` of each symbol."""
        owners, rows = self._places.rows(symbols, timeframe, basis)
        numbers = self._numbers[rows]
        low, high = MIN_NS if start is None else start, END_NS if end is None else end
        keep = (numbers[:, _MAX_NS] >= low) & (numbers[:, _MIN_NS] < high)
        found: list[list[Span]] = [[] for _ in symbols]
        for owner, row, places in zip(owners[keep].tolist(), rows[keep].tolist(), numbers[keep].tolist(), strict=True):
            found[owner].append(Span(self._file_of(row), *places))
        return found

    def files_of(self, table: str, start: int | None = None, end: int | None = None) -> list[File]:
        """The files of a table that may hold instants of [start, end) ns; those of tables without instants are all."""
        if table not in {TICKS, BARS} or (start is None and end is None):
            return [file for file in self.file_by_id.values() if file.table == table]
        low, high = MIN_NS if start is None else start, END_NS if end is None else end
        return [
            file
            for file in self.file_by_id.values()
            if file.table == table
            and (file.min_ns is None or file.max_ns is None or (file.max_ns >= low and file.min_ns < high))
        ]

    def groups_of(self, symbols: Sequence[str]) -> list[tuple[str, int, int]]:
        """Every place with rows of some symbols, bars of all timeframes too: file id, first group, number of groups."""
        rows = self.index.filter(pc.is_in(self.index["symbol"], pa.array(symbols, pa.string())))
        columns = (rows[name].to_pylist() for name in ("file_id", "first_group", "groups"))
        return list(zip(*columns, strict=True))

    def last_rows(self, symbols: Sequence[str]) -> tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The newest tick of each symbol that has one in a file, as the index keeps it.

        Returns:
            Rows of `LAST_ROW`; the position in ``symbols`` of each; and whether files share its instant, so that the
            row may be another file's.
        """
        owners, rows = self._places.rows(symbols, None, None)
        times = self._numbers[rows, _MAX_NS]
        order = np.lexsort((times, owners))
        owners, rows, times = owners[order], rows[order], times[order]
        is_last = np.append(owners[1:] != owners[:-1], True)[: len(owners)]
        is_shared = np.append(False, (owners[1:] == owners[:-1]) & (times[1:] == times[:-1]))[: len(owners)]
        kept = self.index["last"].take(pa.array(rows[is_last]))
        return pa.Table.from_struct_array(kept), owners[is_last], is_shared[is_last]

    @cached_property
    def symbols(self) -> dict[str, dict[str, int]]:
        """Ticks per symbol: rows, first and last instant (ns), and rows of each tick type; by name."""
        sums = ["rows", "trades", "bids", "asks", "composites"]
        wanted = [*((name, "sum") for name in sums), ("min_ns", "min"), ("max_ns", "max")]
        # the last ticks are most of an index, and of no use here
        slim = self.index.select(["symbol", *(name for name, _ in wanted)])
        grouped = slim.filter(pc.is_null(self.index["timeframe"])).group_by("symbol").aggregate(wanted)
        rows = grouped.rename_columns({f"{name}_{how}": name for name, how in wanted}).to_pylist()
        return {row.pop("symbol"): row for row in sorted(rows, key=lambda row: row["symbol"])}

    @cached_property
    def bases(self) -> dict[str, tuple[str, ...]]:
        """The price bases that bars are stored of, by symbol."""
        slim = self.index.select(["symbol", "price_basis"])
        bars = slim.filter(pc.is_valid(self.index["timeframe"]))
        pairs = bars.group_by(["symbol", "price_basis"]).aggregate([]).to_pylist()
        found: dict[str, tuple[str, ...]] = {}
        for pair in sorted(pairs, key=lambda pair: (pair["symbol"], pair["price_basis"])):
            found[pair["symbol"]] = (*found.get(pair["symbol"], ()), pair["price_basis"])
        return found


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

    def rows(
        self, symbols: Sequence[str], timeframe: str | None, basis: str | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The rows of some symbols, one symbol behind the other, and the position of the symbol of each."""
        of_symbol, of_timeframe, of_basis = self.codes
        if timeframe not in of_timeframe or basis not in of_basis:
            return self.order[:0], self.order[:0]
        behind = len(of_timeframe) * len(of_basis)
        rest = of_timeframe[timeframe] * len(of_basis) + of_basis[basis]
        keys = np.array([of_symbol[name] * behind + rest if name in of_symbol else -1 for name in symbols], np.int64)
        firsts, stops = self.keys.searchsorted(keys), self.keys.searchsorted(keys, "right")
        if len(keys) == 1:
            rows = self.order[firsts[0] : stops[0]]
            return np.zeros(len(rows), np.int64), rows
        counts = stops - firsts
        shifts = np.repeat(firsts - np.cumsum(counts) + counts, counts)
        return np.repeat(np.arange(len(keys)), counts), self.order[np.arange(len(shifts)) + shifts]
