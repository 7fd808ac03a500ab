"""Row groups of data files in canonical columns: verified, decoded, and kept in memory while they are asked for."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import GroupCache, ParquetFooter, crc32c, widen
from backtestr.config import Settings
from backtestr.errors import DataCorruptError, SchemaError
from backtestr.models import CacheStats
from backtestr.storage.footer import Footer
from backtestr.storage.layout import Layout
from backtestr.storage.listing import File
from backtestr.storage.waiting import WaitingGroups
from backtestr.storage.write import read_footer

_FOOTERS = 4_096
_DECODING = 4
"""Threads that decode one request at most: more wait for memory."""
_TEXT = {"symbol", "conditions", "timeframe", "price_basis"}


class _Held(NamedTuple):
    """What the cache has of a row group: some of its columns, and the bytes that they take."""

    rows: pa.RecordBatch
    names: list[str]
    bytes: int


class Keeper(Protocol):
    """What keeps row groups: a `GroupCache`, or what takes its place."""

    def get(self, file_id: str, first: int, stop: int) -> list[Any]:
        """What was put for each row group of a file from ``first`` to before ``stop``, or None."""

    def put(self, file_id: str, group: int, rows: Any, bytes: int) -> None:  # noqa: A002 - as the cache has it
        """Put a row group's rows, which take so many bytes."""

    def trim(self) -> None:
        """Let go what there is no room for."""


class RowGroups:
    """The row groups of a store's data files; keeps their footers. Safe to share between threads.

    Args:
        layout: the store's paths.
        verify: whether footers and pages are checked.
        threads: threads that decode.
        cache: what keeps decoded groups; None keeps none.
    """

    def __init__(self, layout: Layout, *, verify: bool, threads: int = 1, cache: GroupCache | None = None) -> None:
        self.cache = cache
        self._keeper: Keeper | None = cache
        self.waiting: WaitingGroups | None = None
        """Groups that were read ahead, from where they get into the cache on their first use."""
        self.decoded_bytes = 0
        """What `read` decoded, as it is in memory."""
        self._layout = layout
        self._verify = verify
        self._threads = threads
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, layout: Layout, settings: Settings) -> RowGroups:
        """Those of a store, as its settings want them."""
        room = settings.hot_cache_bytes
        cache = GroupCache(room, ttl_s=settings.hot_cache_ttl) if room else None
        threads = min(settings.threads, _DECODING)
        return cls(layout, verify=settings.verify == "always", threads=threads, cache=cache)

    def through(self, keeper: Keeper) -> Self:
        """The same groups and footers, what is decoded kept elsewhere."""
        other = copy.copy(self)
        other._keeper, other.waiting = keeper, None
        return other

    def footer(self, file: File) -> Footer:
        """A file's footer, checked against the log.

        Raises:
            DataCorruptError: it cannot be read, or is not what was committed.
        """
        known = self._footers.get(file.file_id)
        if known is not None:
            return known
        path = self._layout.root / file.path
        with _refusing(file), path.open("rb") as raw:
            data = read_footer(raw)
            if self._verify and crc32c(data) != file.footer_crc32c:
                raise DataCorruptError("its footer does not match the log")
            footer = Footer(path, ParquetFooter(data))
        with self._lock:
            self._footers[file.file_id] = footer
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return footer

    def read(self, file: File, groups: range, schema: pa.Schema) -> list[pa.RecordBatch]:
        """Columns of some row groups, from memory where they are there, and kept there else.

        Raises:
            DataCorruptError: the file is damaged.
        """
        keeper = self._keeper
        if keeper is None or not groups:
            return self.decode(file, groups, schema)
        held: list[_Held | None] = keeper.get(file.file_id, groups.start, groups.stop)
        names = schema.names
        found: list[pa.RecordBatch | None] = [_columns(known, names) for known in held]
        missing = [group for group, rows in zip(groups, found, strict=True) if rows is None]
        if missing and self.waiting is not None:
            for group, rows in self._taken(self.waiting, file.file_id, missing, names):
                found[group - groups.start] = rows
                missing.remove(group)
        if not missing:
            return found
        with self._reading(file.file_id, missing):
            for some in ranges(missing):
                for group, (rows, size) in zip(some, self._decode(file, some, schema), strict=True):
                    found[group - groups.start] = rows
                    self.decoded_bytes += size
                    made = _Held(rows, names, size)
                    if (known := held[group - groups.start]) is not None:
                        made = _joined(known, made)
                    keeper.put(file.file_id, group, made, made.bytes)
                keeper.trim()
        return found

    @contextlib.contextmanager
    def _reading(self, file_id: str, groups: list[int]) -> Iterator[None]:
        """Nobody reads groups ahead while the block reads them."""
        if self.waiting is None:
            yield
            return
        places = {(file_id, group) for group in groups}
        self.waiting.being_read |= places
        try:
            yield
        finally:
            self.waiting.being_read -= places

    def _taken(
        self, waiting: WaitingGroups, file_id: str, groups: Iterable[int], names: list[str]
    ) -> list[tuple[int, pa.RecordBatch]]:
        """Columns of those groups that were read ahead, which go on to the cache."""
        taken = []
        for place in [(file_id, group) for group in groups]:
            held: _Held | None = waiting.arrived(place)
            rows = _columns(held, names)
            if held is not None and rows is not None and self.cache is not None:
                waiting.use(place)
                self.cache.put(*place, held, held.bytes)
                taken.append((place[1], rows))
        if taken and self.cache is not None:
            self.cache.trim()
        return taken

    def decode(self, file: File, groups: range, schema: pa.Schema) -> list[pa.RecordBatch]:
        """Columns of some row groups, from the file.

        Raises:
            DataCorruptError: the file is damaged.
        """
        return [rows for rows, _ in self._decode(file, groups, schema)] if groups else []

    def stats(self) -> CacheStats:
        """What the cache did."""
        values = (0,) * len(fields(CacheStats)) if self.cache is None else self.cache.stats()
        return CacheStats(**dict(zip((field.name for field in fields(CacheStats)), values, strict=True)))

    def forget(self, places: Iterable[tuple[str, int, int]] | None = None) -> None:
        """Drop groups from memory: all of them, or those at (file id, first group, number of groups)."""
        if self.cache is None:
            return
        if self.waiting is not None:
            self.waiting.drop()
        if places is None:
            self.cache.clear()
        for file_id, first, count in places or ():
            self.cache.forget(file_id, first, first + count)

    def _decode(self, file: File, groups: range, schema: pa.Schema) -> list[tuple[pa.RecordBatch, int]]:
        footer = self.footer(file)
        with _refusing(file):
            if not footer.is_own:
                return _decoded_by_arrow(footer, groups, schema, verify=self._verify)
            first, stop = footer.native.extent(groups.start, groups.stop, schema)
            opened = os.open(footer.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(opened, stop - first, first)
            finally:
                os.close(opened)
            return footer.native.decode(
                groups.start, groups.stop, schema, data, first, verify=self._verify, threads=self._threads
            )


@contextlib.contextmanager
def _refusing(file: File) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SchemaError, pa.ArrowException) as error:
        raise DataCorruptError(f"{file.path} does not decode: {error}; restore the file") from error


def _decoded_by_arrow(
    footer: Footer, groups: range, schema: pa.Schema, *, verify: bool
) -> list[tuple[pa.RecordBatch, int]]:
    """Row groups that another writer than ours encoded."""
    metadata = footer.metadata
    parquet = pq.ParquetFile(
        footer.path,
        metadata=metadata,
        read_dictionary=_TEXT.intersection(metadata.schema.names),
        page_checksum_verification=verify,
        pre_buffer=False,
    )
    with parquet:
        present = [name for name in schema.names if name in footer.schema.names]
        made = []
        for group in groups:
            stored = parquet.read_row_group(group, columns=present, use_threads=False)
            for column in stored.columns:
                # no checksum covers a page's header: where it hides the dictionary, the codes point at nothing
                if pa.types.is_dictionary(column.type):
                    column.validate(full=True)
            if stored.num_rows != metadata.row_group(group).num_rows:
                raise DataCorruptError("it has fewer rows than its footer says")
            rows = widen(stored, schema).unify_dictionaries().combine_chunks().to_batches()[0]
            made.append((rows, rows.nbytes))
    return made


def _columns(held: _Held | None, names: list[str]) -> pa.RecordBatch | None:
    """Some columns; None if not all of them are there."""
    if held is not None and held.names == names:
        return held.rows
    return None if held is None or not set(names) <= set(held.names) else held.rows.select(names)


def ranges(numbers: Iterable[int]) -> Iterator[range]:
    """Ascending numbers, those one behind the other as one range."""
    first, stop = None, 0
    for number in numbers:
        if first is not None and stop == number:
            stop = number + 1
            continue
        if first is not None:
            yield range(first, stop)
        first, stop = number, number + 1
    if first is not None:
        yield range(first, stop)


def _joined(old: _Held, new: _Held) -> _Held:
    """The columns of both."""
    more = old.rows.select([name for name in old.names if name not in new.names])
    schema = pa.schema([*new.rows.schema, *more.schema])
    rows = pa.RecordBatch.from_arrays([*new.rows.columns, *more.columns], schema=schema)
    return _Held(rows, schema.names, new.bytes + more.nbytes)
