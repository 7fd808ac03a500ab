"""A declared walk: a thread reads the next windows while the caller works on one."""

from __future__ import annotations

import datetime as dt
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa

from backtestr.errors import StoreClosedError
from backtestr.instants import to_datetime
from backtestr.query.ahead.background import Background
from backtestr.query.ahead.belt import Belt
from backtestr.query.ahead.passing import Passing, StoppedError
from backtestr.query.ahead.stretch import Bounds, stretches
from backtestr.query.frame import Frame
from backtestr.query.request import read_bars, read_ticks
from backtestr.storage import Storage
from backtestr.storage.read import Reader
from backtestr.storage.snapshot import Version
from backtestr.storage.waiting import waiting_bytes

ReadRows = Callable[[Storage, int, int], pa.Table]
"""Reads the rows of [start, end) ns, ``timestamp_utc`` among their columns."""
Framed = Callable[[Bounds, pa.Table], Frame]
"""Makes of a window's rows what the caller gets."""


def rows_of_windows(
    version: Version, symbols: Sequence[str], timeframe: str | None, columns: Sequence[str] | None, price: str | None
) -> ReadRows:
    """What reads the ticks of a walk's windows, or the bars of its timeframe."""
    if timeframe is not None:
        return lambda storage, start, end: read_bars(storage, version, symbols, timeframe, start, end, price)
    wide = None if columns is None else list(dict.fromkeys([*columns, "timestamp_utc"]))
    return lambda storage, start, end: read_ticks(storage, version, symbols, start, end, wide)


class Window(NamedTuple):
    """One step of a walk: the rows from ``start`` to before ``end``, both in UTC and floored to the microsecond."""

    start: dt.datetime
    end: dt.datetime
    rows: Frame


class Walk:
    """The windows of a walk, in order of time; a thread reads ahead of them until they end or `close`.

    Get one from `backtestr.Store.walk` and go it once, in a ``for`` loop. One that is left early stops when nothing
    refers to it any more, or at the end of a ``with`` block that holds it. Not to be shared between threads.

    Attributes:
        passed: windows so far.
        waits: how many of them were not there yet when they were asked for.
    """

    def __init__(
        self,
        storage: Storage,
        windows: Iterator[Bounds],
        read: ReadRows,
        framed: Framed,
        *,
        empty: bool,
        done: Callable[[], None],
    ) -> None:
        self.passed = 0
        self._framed = framed
        self._empty = empty
        self._here: Iterator[tuple[Bounds, pa.Table]] = iter(())
        self._belt = belt = Belt(waiting_bytes(storage.settings))
        # the thread must not refer to this object, whose end stops it
        weakref.finalize(self, belt.stop)
        self._thread = Background("backtestr-walk", _read_all, belt.stop, belt, storage, windows, read, done)

    @property
    def waits(self) -> int:
        """How many windows so far were not there yet when they were asked for."""
        return self._belt.waits

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Window:
        while True:
            for window, rows in self._here:
                if rows.num_rows or self._empty:
                    self.passed += 1
                    return Window(to_datetime(window[0]), to_datetime(window[1]), self._framed(window, rows))
            stretch = self._belt.take()
            if stretch is None:
                raise StopIteration
            self._here = iter(stretch)

    def close(self) -> None:
        """Read no further; the walk ends here."""
        self._thread.close()
        self._here = iter(())

    def abandon(self, path: object) -> None:
        """The store is closed: whoever goes on gets StoreClosedError."""
        self._belt.stop(StoreClosedError(f"store {path} was closed while a walk went on; open it again"))
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Watched(Passing):
    """Ends a long read when nobody wants it."""

    def __init__(self, storage: Storage, belt: Belt) -> None:
        super().__init__(storage.reader.groups.cache)
        self._belt = belt

    def get(self, file_id: str, first: int, stop: int) -> list[object]:
        if self._belt.is_stopped:
            raise StoppedError
        return super().get(file_id, first, stop)


def _read_all(
    belt: Belt, storage: Storage, windows: Iterator[Bounds], read: ReadRows, done: Callable[[], None]
) -> None:
    """Read until the belt wants no more."""
    met: BaseException | None = None
    passing = _Watched(storage, belt)
    seen = replace(storage, reader=Reader(storage.reader.groups.through(passing)))

    def read_next(start: int, end: int) -> pa.Table:
        passing.turn()
        return read(seen, start, end)

    try:
        for stretch in stretches(windows, read_next):
            if not belt.put(stretch):
                break
    except StoppedError:
        pass
    except BaseException as error:
        met = error
    finally:
        done()
        belt.finish(met)
