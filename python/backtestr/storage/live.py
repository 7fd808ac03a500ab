"""Rows that are durable in the log and in no data file yet."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from backtestr._native import index_runs, sort_ticks
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.commit import Packed
from backtestr.storage.keys import between
from backtestr.storage.layout import BARS, QUARANTINE, TICKS
from backtestr.storage.tables import LSN

REMEMBERED: Final = 65_536
"""Batches of each store whose ids are known, the newest ones."""

_NO_TICKS: Final = TICK_SCHEMA.empty_table()
_COUNTS = ("rows", "trades", "bids", "asks", "composites")


class Part(NamedTuple):
    """Rows of one record, by table."""

    lsn: int
    tables: Mapping[str, pa.Table | Packed]


class Live:
    """The live rows of a version: the first ``count`` parts of a list that only grows, and that versions share.

    Only the newest version of a store is grown, by one thread at a time; earlier ones keep what they have.
    """

    def __init__(
        self,
        parts: list[Part] | None = None,
        count: int = 0,
        ticks: int = 0,
        rows: int = 0,
        sorted_: _Sorted | None = None,
    ) -> None:
        self._parts = [] if parts is None else parts
        self._count = count
        self._sorted = _Sorted() if sorted_ is None else sorted_
        self.ticks = ticks
        """Number of ticks."""
        self.rows = rows
        """Number of rows of all tables."""

    def __bool__(self) -> bool:
        return self._count > 0

    def grown(self, lsn: int, tables: Mapping[str, pa.Table | Packed]) -> Live:
        """These rows and those of one more record."""
        if not tables:
            return self
        parts = self._parts if len(self._parts) == self._count else self._parts[: self._count]
        parts.append(Part(lsn, tables))
        more = tables[TICKS].num_rows if TICKS in tables else 0
        rows = sum(table.num_rows for table in tables.values())
        return Live(parts, self._count + 1, self.ticks + more, self.rows + rows, self._sorted)

    def after(self, lsn: int) -> Live:
        """The rows of records behind an LSN."""
        if not self or lsn < self._parts[0].lsn:
            return self
        return self._only([part for part in self._parts[: self._count] if part.lsn > lsn])

    def behind(self, tables: Collection[str]) -> Live:
        """The rows that some tables show: bars are made of ticks."""
        shown = {TICKS if name == BARS else name for name in tables}
        if self.names <= shown:
            return self
        parts = [
            Part(part.lsn, {name: rows for name, rows in part.tables.items() if name in shown})
            for part in self._parts[: self._count]
        ]
        return self._only([part for part in parts if part.tables])

    @cached_property
    def names(self) -> frozenset[str]:
        """The tables that have live rows."""
        return frozenset(name for part in self._parts[: self._count] for name in part.tables)

    @staticmethod
    def _only(parts: list[Part]) -> Live:
        rows = sum(rows.num_rows for part in parts for rows in part.tables.values())
        return Live(parts, len(parts), sum(rows.num_rows for rows in _of(parts, TICKS)), rows)

    @property
    def last_lsn(self) -> int:
        """LSN of the newest record with live rows; 0 without any."""
        return self._parts[self._count - 1].lsn if self else 0

    @property
    def rejected(self) -> int:
        """Number of rejected rows."""
        return sum(rows.num_rows for rows in _of(self._parts[: self._count], QUARANTINE))

    def table(self, name: str) -> pa.Table | None:
        """All rows of a table, in the order they came; None without any."""
        rows = _of(self._parts[: self._count], name)
        return joined(Packed.unpack(rows)) if rows else None

    def tables(self) -> dict[str, pa.Table]:
        """All rows, by table, in the order they came."""
        return {name: rows for name in self.names if (rows := self.table(name)) is not None}

    def numbered(self) -> dict[str, pa.Table]:
        """All rows, by table, with the LSN of each; see `from_numbered`."""
        numbered = {}
        for name, rows in self.tables().items():
            parts = [
                (part.lsn, part.tables[name].num_rows) for part in self._parts[: self._count] if name in part.tables
            ]
            lsns, counts = zip(*parts, strict=True)
            numbered[name] = rows.append_column(LSN, pa.array(np.repeat(np.array(lsns, np.int64), counts)))
        return numbered

    @classmethod
    def from_numbered(cls, tables: Mapping[str, pa.Table]) -> Live:
        """Read back what `numbered` gave."""
        parts: dict[int, dict[str, pa.Table]] = {}
        for name, rows in tables.items():
            lsns, plain = rows[LSN].to_numpy(), rows.drop_columns(LSN)
            edges = np.append(np.flatnonzero(np.diff(lsns, prepend=0)), len(lsns)).tolist()
            for first, stop in itertools.pairwise(edges):
                parts.setdefault(int(lsns[first]), {})[name] = plain.slice(first, stop - first)
        live = cls()
        for lsn in sorted(parts):
            live = live.grown(lsn, parts[lsn])
        return live

    @cached_property
    def sorted_ticks(self) -> pa.Table:
        """All ticks in canonical columns, sorted as ticks are; those that differ only by names of ids by the ids."""
        return self._sorted.up_to(self._parts, self._count)

    @cached_property
    def _runs(self) -> dict[str, dict[str, int]]:
        rows = self.sorted_ticks
        if rows.num_rows == 0:
            return {}
        runs = index_runs(rows, ["symbol"])
        names = rows["symbol"].take(runs["first_row"]).cast(pa.string()).to_pylist()
        return dict(zip(names, runs.to_pylist(), strict=True))

    @cached_property
    def symbols(self) -> dict[str, dict[str, int]]:
        """Live ticks per symbol, as `backtestr.storage.snapshot.Version.symbols` has them."""
        wanted = (*_COUNTS, "min_ns", "max_ns")
        return {symbol: {name: run[name] for name in wanted} for symbol, run in self._runs.items()}

    def last_rows(self, symbols: Iterable[str]) -> pa.Table:
        """The newest live tick of each symbol that has one."""
        rows = [run["first_row"] + run["rows"] - 1 for name in symbols if (run := self._runs.get(name)) is not None]
        return self.sorted_ticks.take(rows) if rows else _NO_TICKS

    def of_symbol(self, symbol: str, start: int | None = None, end: int | None = None) -> pa.Table:
        """Live ticks of a symbol in [start, end) ns, sorted."""
        run = self._runs.get(symbol) if self.ticks else None
        if run is None:
            return _NO_TICKS
        rows = self.sorted_ticks.slice(run["first_row"], run["rows"])
        if (start is None or start <= run["min_ns"]) and (end is None or run["max_ns"] < end):
            return rows
        first, stop = between(rows, start, end)
        return rows.slice(first, stop - first)


class _Sorted:
    """Sorted ticks of the parts so far: what came since is merged in when it is asked for."""

    def __init__(self) -> None:
        self._known = 0, TICK_SCHEMA.empty_table()

    def up_to(self, parts: list[Part], count: int) -> pa.Table:
        done, rows = self._known
        if done > count:
            done, rows = 0, TICK_SCHEMA.empty_table()
        if done < count:
            rows = joined([rows, *Packed.unpack(_of(parts[done:count], TICKS))])
            rows = sort_ticks(rows) if rows.num_rows else rows
            if count > self._known[0]:
                self._known = count, rows
        return rows


class Batches:
    """Ids of the batches that were appended, so that one that is sent again is known; shared by a store's versions."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}
        self._order: deque[tuple[int, str]] = deque()

    def add(self, batch: tuple[int, str], lsn: int) -> None:
        """Note the batch (feed id, its id) of a record."""
        if batch not in self._known:
            self._order.append(batch)
        self._known[batch] = lsn
        if len(self._order) > REMEMBERED:
            del self._known[self._order.popleft()]

    def lsn_of(self, batch: tuple[int, str]) -> int | None:
        """LSN of the record that brought a batch; None if it did not come, or too long ago."""
        return self._known.get(batch)

    def to_table(self, lsn: int) -> pa.Table:
        """Those of records up to an LSN, oldest first."""
        rows = [(*batch, self._known[batch]) for batch in self._order if self._known[batch] <= lsn]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        types = (pa.uint16(), pa.string(), pa.int64())
        names = ("feed_id", "batch_id", "lsn")
        return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})

    @classmethod
    def from_table(cls, rows: pa.Table) -> Batches:
        """Read back what `to_table` gave."""
        batches = cls()
        for row in rows.to_pylist():
            batches.add((row["feed_id"], row["batch_id"]), row["lsn"])
        return batches


def joined(parts: list[pa.Table]) -> pa.Table:
    """All rows; columns that a part lacks are null in its rows."""
    return pa.concat_tables(parts, promote_options="default").unify_dictionaries()


def joined_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The counts of a symbol's rows in two places."""
    both = {name: one[name] + other[name] for name in _COUNTS}
    return both | {"min_ns": min(one["min_ns"], other["min_ns"]), "max_ns": max(one["max_ns"], other["max_ns"])}


def _of(parts: list[Part], table: str) -> list[pa.Table | Packed]:
    return [part.tables[table] for part in parts if table in part.tables]
