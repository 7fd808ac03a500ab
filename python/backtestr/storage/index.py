"""Where each symbol's rows are in the files of a version, packed: any entry is had at once, all of them are small."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import LogCorruptError
from backtestr.machine import give_back_memory
from backtestr.storage.commit import INDEX, LAST_ROW
from backtestr.storage.narrow import Flags, Narrow, Numbers, Rows, from_arrow, to_arrow

_AT_ONCE: Final = 131_072
"""Entries that are packed, or given back, at once: as they come they take ten times the memory."""

_LARGE: Final = 100_000
"""Rows for which it is worth some milliseconds to hold no more memory than they need."""

_FILE, _LAST = "file_id", "last"
_LAST_OF: Final = {f"{_LAST}.{column.name}": column for column in LAST_ROW}
_LEAVES: Final[dict[str, pa.DataType]] = {
    **{column.name: column.type for column in INDEX if column.name not in {_FILE, _LAST}},
    **{name: column.type for name, column in _LAST_OF.items()},
}
_NEAR: Final = {
    "trades": "rows",
    f"{_LAST}.timestamp_utc": "max_ns",
    f"{_LAST}.sequence": "max_sequence",
}
"""Columns that are held as what they differ by from another, which is nothing as a rule."""
_KEYS: Final = ("symbol", "timeframe", "price_basis")
_SUMS: Final = ("rows", "trades", "bids", "asks", "composites")


@dataclass(frozen=True)
class Index:
    """Rows of `INDEX`. Immutable.

    Attributes:
        columns: all that rows have, by name; ``file_id`` as a position in a list of files, text as one in ``texts``.
        texts: the texts of a column.
        count: number of rows.
    """

    columns: Mapping[str, Narrow] = field(default_factory=dict)
    texts: Mapping[str, pa.Array] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def of(cls, rows: pa.Table, files: Mapping[str, int]) -> Index:
        """Pack rows of `INDEX`.

        Args:
            rows: the rows.
            files: by id, the positions of the files that they may be of.

        Raises:
            LogCorruptError: a row is of no such file, or has a number that no tick has.
        """
        parts = (rows.slice(at, _AT_ONCE) for at in range(0, rows.num_rows, _AT_ONCE))
        return cls.join([_packed(part.combine_chunks(), files) for part in parts])

    @classmethod
    def join(cls, parts: Sequence[Index]) -> Index:
        """The rows of all parts, one part behind the other; their files are positions in one list."""
        parts = [part for part in parts if part.count]
        if len(parts) < 2:
            return parts[0] if parts else cls()
        columns = {}
        texts = {}
        for name in parts[0].columns:
            narrow = [part.columns[name] for part in parts]
            if name in parts[0].texts:
                texts[name], narrow = _joined_texts([part.texts[name] for part in parts], narrow)
            columns[name] = Narrow.join(narrow)
        return cls(columns, texts, sum(part.count for part in parts))

    def without(self, is_gone: Flags) -> Index:
        """The rows of the files that stay; files are counted anew.

        Args:
            is_gone: of each file, whether it goes.
        """
        files = self.columns[_FILE].numbers()
        stays = ~is_gone[files]
        rows = np.flatnonzero(stays)
        columns = {name: column.only(rows) for name, column in self.columns.items() if name != _FILE}
        columns[_FILE] = Narrow.of((np.cumsum(~is_gone) - 1)[files[rows]])
        left = Index(columns, self.texts, len(rows))
        if "_places" in self.__dict__:
            # those that stay are in the same order
            left.__dict__["_places"] = self._places.only(stays, left._key())
        return left

    @cached_property
    def files(self) -> int:
        """One more than the highest position of a file with rows."""
        return int(self.columns[_FILE].numbers().max()) + 1 if self.count else 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory, with the order by symbol once it was needed."""
        held = [*self.columns.values(), *self.texts.values()]
        held += [self._places.order, self._places.starts] if "_places" in self.__dict__ else []
        return sum(one.nbytes for one in held)

    def numbers(self, name: str, rows: Rows | None = None) -> Numbers:
        """A column of some rows, or of all: integers, instants in ns, files as positions; 0 for null."""
        values = self.columns[name].numbers(rows)
        return values + self.numbers(_NEAR[name], rows) if name in _NEAR else values

    def rows(self, names: Iterable[str], file_ids: pa.ChunkedArray, rows: Rows | None = None) -> pa.Table:
        """Columns of some rows, or of all, as they were."""
        schema = pa.schema([INDEX.field(name) for name in names])
        if not self.count:
            return schema.empty_table()
        return pa.Table.from_arrays([self._column(name, file_ids, rows) for name in schema.names], schema=schema)

    def _column(self, name: str, file_ids: pa.ChunkedArray, rows: Rows | None) -> pa.Array | pa.ChunkedArray:
        if name == _FILE:
            return file_ids.take(pa.array(self.columns[name].numbers(rows)))
        if name == _LAST:
            leaves = [self._leaf(leaf, rows) for leaf in _LAST_OF]
            valid = self.columns[_LAST].valid(rows)
            mask = None if valid is None else pa.array(~valid)
            return pa.StructArray.from_arrays(leaves, fields=list(LAST_ROW), mask=mask)
        return self._leaf(name, rows)

    def _leaf(self, name: str, rows: Rows | None) -> pa.Array:
        if name in self.texts:
            return self.texts[name].take(pa.array(self.columns[name].numbers(rows)))
        return to_arrow(self.numbers(name, rows), self.columns[name].valid(rows), _LEAVES[name])

    @cached_property
    def _codes(self) -> tuple[dict[str | None, int], ...]:
        return tuple({text: code for code, text in enumerate(self.texts[name].to_pylist())} for name in _KEYS)

    def _key(self) -> Numbers:
        """The key of each row: its symbol, timeframe and basis as one number."""
        key = np.zeros(self.count, np.int64)
        for name in _KEYS:
            key = key * len(self.texts[name]) + self.columns[name].numbers()
        return key

    @cached_property
    def _places(self) -> _Places:
        keys = math.prod(len(self.texts[name]) for name in _KEYS)
        places = _Places.of(self._key(), self.columns["min_ns"].numbers(), keys)
        self.end_of_work()
        return places

    def end_of_work(self) -> None:
        """Give the memory of work on all rows back, where they are many."""
        if self.count > _LARGE:
            give_back_memory()

    def lookup(self, symbols: Sequence[str], timeframe: str | None, basis: str | None) -> tuple[Numbers, Rows]:
        """The rows of some symbols by time, one symbol behind the other, and the position of the symbol of each."""
        if not self.count:
            return _NONE, _NONE
        of_symbol, of_timeframe, of_basis = self._codes
        if timeframe not in of_timeframe or basis not in of_basis:
            return _NONE, _NONE
        behind = len(of_timeframe) * len(of_basis)
        rest = of_timeframe[timeframe] * len(of_basis) + of_basis[basis]
        if len(symbols) == 1:
            code = of_symbol.get(symbols[0])
            rows = _NONE if code is None else self._places.rows(code * behind + rest, code * behind + rest + 1)
            return np.zeros(len(rows), np.int64), rows
        owners = [place for place, name in enumerate(symbols) if name in of_symbol]
        keys = np.array([of_symbol[symbols[place]] * behind + rest for place in owners], np.int64)
        places, rows = self._places.all_rows(keys)
        return np.array(owners, np.int64)[places], rows

    @cached_property
    def _newest(self) -> tuple[Numbers, Rows, Numbers]:
        """The rows with the newest tick of each symbol: the symbol's code, ascending, the row, and the instant."""
        found = self._find_newest()
        self.end_of_work()
        return found

    def _find_newest(self) -> tuple[Numbers, Rows, Numbers]:
        codes, rows = self.lookup([str(name) for name in self._codes[0]], None, None)
        times = self.columns["max_ns"].numbers(rows)
        begins = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: len(codes)])
        highest = np.maximum.reduceat(times, begins) if len(rows) else _NONE
        keep = times == np.repeat(highest, np.diff(np.append(begins, len(rows))))
        return codes[keep], rows[keep], times[keep]

    def newest(self, symbols: Sequence[str]) -> tuple[Numbers, Rows, Numbers]:
        """The rows with the newest tick of each symbol: the position of the symbol, the row, and the instant."""
        codes, rows, times = self._newest
        wanted = np.array([self._codes[0].get(name, -1) for name in symbols], np.int64)
        owners, places = _ranges(codes.searchsorted(wanted), codes.searchsorted(wanted, "right"))
        return owners, rows[places], times[places]

    def of_symbols(self, symbols: Iterable[str]) -> Rows:
        """The rows of some symbols, bars of all timeframes too, ascending."""
        if not self.count:
            return _NONE
        of_symbol, of_timeframe, of_basis = self._codes
        behind = len(of_timeframe) * len(of_basis)
        codes = [of_symbol[name] for name in symbols if name in of_symbol]
        found = [self._places.rows(code * behind, (code + 1) * behind) for code in codes]
        return np.sort(np.concatenate([_NONE, *found]))

    @cached_property
    def symbols(self) -> dict[str, dict[str, int]]:
        """Ticks per symbol: rows, first and last instant (ns), and rows of each tick type; by name."""
        found = self._count_symbols()
        self.end_of_work()
        return found

    def _count_symbols(self) -> dict[str, dict[str, int]]:
        if not self.count or None not in self._codes[1]:
            return {}
        of_symbol, of_timeframe, of_basis = self._codes
        first = of_timeframe[None] * len(of_basis)
        starts = self._places.starts.astype(np.int64)
        begins = starts[first : -1 : len(of_timeframe) * len(of_basis)]
        stops = starts[first + len(of_basis) :: len(of_timeframe) * len(of_basis)]
        has_ticks = begins < stops
        names = [str(name) for name, has in zip(of_symbol, has_ticks.tolist(), strict=True) if has]
        begins, stops = begins[has_ticks], stops[has_ticks]
        edges = np.cumsum(stops - begins) - (stops - begins)
        rows = self._places.order[_ranges(begins, stops)[1]]
        found = {name: np.add.reduceat(self.numbers(name, rows), edges).tolist() for name in _SUMS}
        found["min_ns"] = np.minimum.reduceat(self.numbers("min_ns", rows), edges).tolist()
        found["max_ns"] = np.maximum.reduceat(self.numbers("max_ns", rows), edges).tolist()
        of_each = zip(names, zip(*found.values(), strict=True), strict=True)
        return {name: dict(zip(found, values, strict=True)) for name, values in sorted(of_each)}

    @cached_property
    def bases(self) -> dict[str, tuple[str, ...]]:
        """The price bases that bars are stored of, by symbol."""
        if not self.count:
            return {}
        of_symbol, of_timeframe, of_basis = self._codes
        counts = np.diff(self._places.starts).reshape(len(of_symbol), len(of_timeframe), len(of_basis))
        of_bars = [code for timeframe, code in of_timeframe.items() if timeframe is not None]
        has_bars = counts[:, of_bars].sum(axis=1) > 0
        names = [name for name in of_basis if name is not None]
        found = {}
        for symbol, has in zip(of_symbol, has_bars.tolist(), strict=True):
            if any(has):
                found[str(symbol)] = tuple(sorted(name for name in names if has[of_basis[name]]))
        return dict(sorted(found.items(), key=operator.itemgetter(0)))


_NONE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Places:
    """Rows by key, those of a key by time.

    Attributes:
        order: the rows.
        starts: where in it those of each key begin, and those of the last one end.
    """

    order: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]

    @classmethod
    def of(cls, key: Numbers, times: Numbers, keys: int) -> _Places:
        return cls(np.lexsort((times, key)).astype(np.int32), _starts(key, keys))

    def only(self, stays: Flags, key: Numbers) -> _Places:
        """What is left of the order, and the keys of what is left."""
        order = self.order[stays[self.order]]
        return _Places((np.cumsum(stays, dtype=np.int32) - 1)[order], _starts(key, len(self.starts) - 1))

    def rows(self, first: int, stop: int) -> npt.NDArray[np.int32]:
        return self.order[self.starts[first] : self.starts[stop]]

    def all_rows(self, keys: Numbers) -> tuple[Numbers, npt.NDArray[np.int32]]:
        """The rows of some keys, and the position of the key of each."""
        firsts = self.starts[keys].astype(np.int64)
        owners, places = _ranges(firsts, self.starts[keys + 1].astype(np.int64))
        return owners, self.order[places]


def _ranges(firsts: Numbers, stops: Numbers) -> tuple[Numbers, Numbers]:
    """The numbers of some ranges, one behind the other, and the position of the range of each."""
    counts = stops - firsts
    shifts = np.repeat(firsts - np.cumsum(counts) + counts, counts)
    return np.repeat(np.arange(len(counts)), counts), np.arange(len(shifts)) + shifts


def _starts(key: Numbers, keys: int) -> npt.NDArray[np.int32]:
    return np.append(0, np.cumsum(np.bincount(key, minlength=keys))).astype(np.int32)


def _packed(rows: pa.Table, files: Mapping[str, int]) -> Index:
    of_file = rows[_FILE].combine_chunks().dictionary_encode()
    try:
        places = np.array([files[file_id] for file_id in of_file.dictionary.to_pylist()], np.int64)
    except KeyError as error:
        raise LogCorruptError(
            f"reading the index: it has rows of {error}, a file that is not listed; run verify()"
        ) from None
    last = rows[_LAST].combine_chunks()
    is_tick = last.is_valid().to_numpy(zero_copy_only=False) if last.null_count else None
    columns = {
        _FILE: Narrow.of(places[of_file.indices.to_numpy()]),
        _LAST: Narrow.of(np.zeros(rows.num_rows, np.int64), is_tick),
    }
    arrays = {name: rows[name].combine_chunks() for name in _LEAVES if name not in _LAST_OF}
    arrays |= dict(zip(_LAST_OF, last.flatten(), strict=True))
    texts: dict[str, pa.Array] = {}
    made = Index(columns, texts, rows.num_rows)
    for name, array in arrays.items():
        if name == f"{_LAST}.symbol" and array.equals(arrays["symbol"]):
            texts[name], columns[name] = texts["symbol"], columns["symbol"]
            continue
        if pa.types.is_string(array.type):
            coded = array.dictionary_encode(null_encoding="encode")
            texts[name], columns[name] = coded.dictionary, Narrow.of(coded.indices.to_numpy().astype(np.int64))
            continue
        if array.null_count == len(array):
            columns[name] = Narrow.nulls(len(array))
            continue
        try:
            values, valid = from_arrow(array)
        except (ValueError, pa.ArrowException) as error:
            raise LogCorruptError(f"reading the index: {name} has {error}; run verify()") from None
        columns[name] = Narrow.of(values - made.numbers(_NEAR[name]) if name in _NEAR else values, valid)
    return made


def _joined_texts(texts: Sequence[pa.Array], codes: Sequence[Narrow]) -> tuple[pa.Array, list[Narrow]]:
    """The texts of all parts, each once, and the codes of each part's rows in them."""
    each = pc.unique(pa.concat_arrays(texts))
    places = (pc.index_in(some, value_set=each).to_numpy().astype(np.int64) for some in texts)
    return each, [Narrow.of(place[narrow.numbers()]) for place, narrow in zip(places, codes, strict=True)]


def cut(count: int) -> Iterator[tuple[int, int]]:
    """Where rows of a whole index are cut, to be given back some at a time: the first and the one behind the last."""
    return ((first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))
