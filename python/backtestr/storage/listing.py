"""The files of a version and the index over their rows. Immutable; looked up by symbol, time, timeframe and basis."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.schema import END_NS, MIN_NS
from backtestr.storage.commit import FILES, INDEX, LAST_ROW, NO_FILES, NO_INDEX, Commit
from backtestr.storage.index import Index, cut
from backtestr.storage.layout import BARS, TICKS
from backtestr.storage.live import joined_counts
from backtestr.storage.narrow import Rows

_UNPACKED: Final = 4_096
"""Entries of the newest commits that are kept as they came at least; of a large index, a sixteenth."""
_FEW: Final = 64
"""Files that are faster read one by one."""
_REMEMBERED: Final = 16_384
"""Files of which what was read is kept, for the next request."""


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


_SPAN_COLUMNS: Final = Span._fields[1:]


class Files:
    """The files of a version by id, each made when it is asked for: all of them would be most of the memory."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._columns = [rows[name] for name in FILES.names]
        self._seen: dict[int, File] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows["file_id"].to_pylist())

    def __getitem__(self, file_id: str) -> File:
        place: int = pc.index(self._rows["file_id"], file_id).as_py()
        if place < 0:
            raise KeyError(file_id)
        return self.at([place])[0]

    def values(self) -> list[File]:
        """All files."""
        return listed_files(self._rows)

    def at(self, places: Sequence[int]) -> list[File]:
        """Files by their position."""
        seen = self._seen
        lacking = sorted({place for place in places if place not in seen})
        if not lacking:
            return [seen[place] for place in places]
        made = dict(zip(lacking, self._read(lacking), strict=True))
        found = [made[place] if place in made else seen[place] for place in places]
        if len(made) <= _REMEMBERED:
            # whoever looks into the old one has it still
            self._seen = made if len(seen) + len(made) > _REMEMBERED else seen | made
        return found

    def _read(self, ascending: Sequence[int]) -> list[File]:
        if len(ascending) <= _FEW:
            return [File(*(column[place].as_py() for column in self._columns)) for place in ascending]
        wanted = np.zeros(self._rows.num_rows, bool)
        wanted[ascending] = True
        return listed_files(self._rows.filter(pa.array(wanted)))


@dataclass(frozen=True)
class Listing:
    """Data files and where the rows of each symbol are in them.

    Attributes:
        files: rows of `FILES`.
        packed: the index over most of them.
        fresh: rows of `INDEX` behind those, of the newest commits.
    """

    files: pa.Table = field(default_factory=lambda: NO_FILES)
    packed: Index = field(default_factory=Index)
    fresh: pa.Table = field(default_factory=lambda: NO_INDEX)

    @classmethod
    def of(cls, files: pa.Table, index: pa.Table | Iterable[pa.Table]) -> Listing:
        """Some files, rows of `FILES`, and their rows of `INDEX`, in one table or several."""
        parts = [index] if isinstance(index, pa.Table) else index
        places = _by_id(files, 0)
        return cls(files, Index.join([Index.of(part, places) for part in parts]))

    def after(self, commits: Sequence[Commit]) -> Listing:
        """What is there after some commits, oldest first."""
        removals = {file_id: place for place, commit in enumerate(commits) for file_id in commit.removed}
        if not removals and not any(commit.added.num_rows for commit in commits):
            return self
        files = standing([self.files, *(commit.added for commit in commits)], removals)
        fresh = standing([self.fresh, *(commit.index for commit in commits)], removals)
        packed = self.packed
        if removals and packed.count:
            is_gone = pc.is_in(self.files["file_id"], pa.array(list(removals), pa.string())).to_numpy()
            if is_gone[: packed.files].any():
                packed = packed.without(is_gone)
        if fresh.num_rows > max(_UNPACKED, packed.count // 16):
            packed, fresh = Index.join([packed, Index.of(fresh, _by_id(files, packed.files))]), NO_INDEX
            packed.end_of_work()
        return Listing(files, packed, fresh)

    @cached_property
    def file_by_id(self) -> Files:
        """All files, by id."""
        return Files(self.files)

    @cached_property
    def _behind(self) -> Index:
        """What the newest commits brought."""
        return Index.of(self.fresh, _by_id(self.files, self.packed.files))

    @cached_property
    def _parts(self) -> tuple[Index, ...]:
        return tuple(part for part in (self.packed, self._behind) if part.count)

    @property
    def entries(self) -> int:
        """Number of rows of the index."""
        return self.packed.count + len(self.fresh)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, of what was asked for so far."""
        behind = self._behind.nbytes if "_behind" in self.__dict__ else 0
        return int(self.files.nbytes + self.packed.nbytes + self.fresh.nbytes + behind)

    def rows(self, names: Sequence[str] = INDEX.names) -> pa.Table:
        """Columns of all rows of the index; the whole of a large one takes ten times the memory it is kept in."""
        packed = self.packed.rows(names, self.files["file_id"])
        return pa.concat_tables([packed, self.fresh.select(names)])

    def pieces(self) -> Iterator[pa.Table]:
        """All rows of the index, some at a time, cut at the same rows however they are held."""
        for first, stop in cut(self.entries):
            yield self.at(np.arange(first, stop)).combine_chunks()

    def at(self, rows: Rows, names: Sequence[str] = INDEX.names) -> pa.Table:
        """Some rows of the index, by ascending position."""
        split = int(np.searchsorted(rows, self.packed.count))
        packed = self.packed.rows(names, self.files["file_id"], rows[:split])
        behind = self._behind.rows(names, self.files["file_id"], rows[split:] - self.packed.count)
        return pa.concat_tables([packed, behind])

    def of_files(self, file_ids: Iterable[str]) -> pa.Table:
        """The rows of the index of some files."""
        wanted = pc.is_in(self.files["file_id"], pa.array(list(file_ids), pa.string())).to_numpy()
        return self.at(np.flatnonzero(wanted[self._places()]))

    def by_file(self) -> Iterator[tuple[File, pa.Table]]:
        """Every file with its rows of the index, found by one sort."""
        places = self._places()
        order = np.argsort(places, kind="stable")
        bounds = np.searchsorted(places[order], np.arange(self.files.num_rows + 1)).tolist()
        for place, file in enumerate(listed_files(self.files)):
            yield file, self.at(order[bounds[place] : bounds[place + 1]])

    def _places(self) -> Rows:
        """The position of the file of each row."""
        return np.concatenate([np.empty(0, np.int64), *(part.numbers("file_id") for part in self._parts)])

    def of_symbols(self, symbols: Sequence[str], names: Sequence[str] = INDEX.names) -> pa.Table:
        """The rows of the index of some symbols, bars of all timeframes too."""
        found = [part.rows(names, self.files["file_id"], part.of_symbols(symbols)) for part in self._parts]
        return pa.concat_tables(found) if found else self.rows(names)

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
        low, high = MIN_NS if start is None else start, END_NS if end is None else end
        found: list[list[Span]] = [[] for _ in symbols]
        for part in self._parts:
            owners, rows = part.lookup(symbols, timeframe, basis)
            if not len(rows):
                continue
            keep = (part.columns["max_ns"].numbers(rows) >= low) & (part.columns["min_ns"].numbers(rows) < high)
            rows = rows[keep]
            files = self.file_by_id.at(part.columns["file_id"].listed(rows))
            columns = [part.columns[name].listed(rows) for name in _SPAN_COLUMNS]
            for owner, *span in zip(owners[keep].tolist(), files, *columns, strict=True):
                found[owner].append(Span(*span))
        if len(self._parts) > 1:
            for spans in found:
                spans.sort(key=_MIN_NS_OF)
        return found

    def files_of(self, table: str, start: int | None = None, end: int | None = None) -> list[File]:
        """The files of a table that may hold instants of [start, end) ns; those of tables without instants are all."""
        wanted = pc.equal(self.files["table"], table)
        if table in {TICKS, BARS} and not (start is None and end is None):
            low, high = MIN_NS if start is None else start, END_NS if end is None else end
            reach = pc.and_(pc.greater_equal(self.files["max_ns"], low), pc.less(self.files["min_ns"], high))
            wanted = pc.and_(wanted, pc.fill_null(reach, fill_value=True))
        return self.file_by_id.at(np.flatnonzero(wanted.to_numpy()).tolist())

    def groups_of(self, symbols: Sequence[str]) -> list[tuple[str, int, int]]:
        """Every place with rows of some symbols, bars of all timeframes too: file id, first group, number of groups."""
        names = ("file_id", "first_group", "groups")
        rows = self.of_symbols(symbols, names)
        return list(zip(*(rows[name].to_pylist() for name in names), strict=True))

    def last_rows(self, symbols: Sequence[str]) -> tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The newest tick of each symbol that has one in a file, as the index keeps it.

        Returns:
            Rows of `LAST_ROW`; the position in ``symbols`` of each; and whether files share its instant, so that the
            row may be another file's.
        """
        found = [part.newest(symbols) for part in self._parts]
        none = np.empty(0, np.int64)
        owners, rows, times = (np.concatenate([none, *(one[of] for one in found)]) for of in range(3))
        of_part = np.repeat(np.arange(len(found)), [len(one[0]) for one in found])
        order = np.lexsort((times, owners))
        owners, rows, times, of_part = owners[order], rows[order], times[order], of_part[order]
        is_last = np.append(owners[1:] != owners[:-1], True)[: len(owners)]
        is_shared = np.append(False, (owners[1:] == owners[:-1]) & (times[1:] == times[:-1]))[: len(owners)]
        places = [np.flatnonzero(is_last & (of_part == number)) for number in range(len(found))]
        last = [
            part.rows(["last"], self.files["file_id"], rows[mine])["last"]
            for part, mine in zip(self._parts, places, strict=True)
        ]
        kept = np.concatenate([none, *places])
        tables = [LAST_ROW.empty_table(), *map(pa.Table.from_struct_array, last)]
        return pa.concat_tables(tables), owners[kept], is_shared[kept]

    @cached_property
    def symbols(self) -> dict[str, dict[str, int]]:
        """Ticks per symbol: rows, first and last instant (ns), and rows of each tick type; by name."""
        both: dict[str, dict[str, int]] = {}
        for part in self._parts:
            for symbol, counts in part.symbols.items():
                both[symbol] = joined_counts(both[symbol], counts) if symbol in both else counts
        return both if len(self._parts) < 2 else dict(sorted(both.items()))

    @cached_property
    def bases(self) -> dict[str, tuple[str, ...]]:
        """The price bases that bars are stored of, by symbol."""
        both: dict[str, tuple[str, ...]] = {}
        for part in self._parts:
            for symbol, bases in part.bases.items():
                both[symbol] = tuple(sorted({*both.get(symbol, ()), *bases}))
        return dict(sorted(both.items()))


_MIN_NS_OF: Final = operator.attrgetter("min_ns")


def listed_files(rows: pa.Table) -> list[File]:
    """Rows of `FILES`, one by one."""
    return [File(*row) for row in zip(*(rows[name].to_pylist() for name in FILES.names), strict=True)]


def _by_id(files: pa.Table, first: int) -> dict[str, int]:
    """The position of each file behind the first ones."""
    return {file_id: place for place, file_id in enumerate(files["file_id"].slice(first).to_pylist(), first)}


def standing(parts: Sequence[pa.Table], removals: Mapping[str, int]) -> pa.Table:
    """Rows of files that no later record removed; parts are those held before and those of each record."""
    rows = pa.concat_tables(parts)
    if not removals:
        return _joined_ends(rows)
    is_removed = pc.is_in(rows["file_id"], pa.array(list(removals), pa.string()))
    keep = np.ones(rows.num_rows, dtype=bool)
    suspects = np.flatnonzero(is_removed.to_numpy())
    # A file that came again after its removal is there.
    place = np.searchsorted(np.cumsum([part.num_rows for part in parts]), suspects, "right") - 1
    last = [removals[file_id] for file_id in rows["file_id"].filter(is_removed).to_pylist()]
    keep[suspects] = place >= np.array(last, np.int64)
    return rows.filter(pa.array(keep))


def _joined_ends(rows: pa.Table) -> pa.Table:
    """The rows in few chunks, each more than twice the next: every row is copied but a few times as a table grows."""
    sizes = [len(chunk) for chunk in rows["file_id"].chunks]
    kept = len(sizes)
    count = 0
    while kept and sizes[kept - 1] <= 2 * count + sizes[-1]:
        kept -= 1
        count += sizes[kept]
    if len(sizes) - kept < 2:
        return rows
    first = rows.num_rows - count
    return pa.concat_tables([rows.slice(0, first), rows.slice(first).combine_chunks()])
