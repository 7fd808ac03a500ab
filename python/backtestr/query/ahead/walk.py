"""A declared walk: a thread reads the next windows while the caller works on one."""

from __future__ import annotations

import datetime as dt
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa

from backtestr.errors import StoreClosedError
from backtestr.instants import to_datetime
from backtestr.query.ahead.background import Background
from backtestr.query.ahead.belt import Belt, Read
from backtestr.query.ahead.passing import Passing
from backtestr.query.frame import Frame
from backtestr.storage import Storage
from backtestr.storage.read import Reader

_SHARE = 8
"""Windows that wait take an eighth of the memory for rows at most."""

ReadRows = Callable[[Storage, int, int], pa.Table]
"""Reads the rows of [start, end) ns."""


class Window(NamedTuple):
    """One step of a walk: the rows from ``start`` to before ``end``, both in UTC and floored to the microsecond."""

    start: dt.datetime
    end: dt.datetime
    rows: Frame


class Walk:
    """The windows of a walk, in order of time; a thread reads ahead of them until they end or `close`.

    Get one from `backtestr.Store.walk` and go it once, in a ``for`` loop; one that is left early stops when nothing
    refers to it, or at once where a ``with`` block holds it. Not to be shared between threads.
    """

    def __init__(
        self,
        storage: Storage,
        windows: Iterator[tuple[int, int]],
        read: ReadRows,
        *,
        empty: bool,
        done: Callable[[], None],
        framed: Callable[[Read], Frame],
    ) -> None:
        self._framed = framed
        self._belt = belt = Belt(storage.settings.hot_cache_bytes // _SHARE)
        # the thread must not refer to this object, whose end stops it
        weakref.finalize(self, belt.stop)
        self._thread = Background("backtestr-walk", _read_all, belt.stop, belt, storage, windows, read, empty, done)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Window:
        read = self._belt.take()
        if read is None:
            raise StopIteration
        return Window(to_datetime(read.start), to_datetime(read.end), self._framed(read))

    def close(self) -> None:
        """Read no further; the walk ends here."""
        self._thread.close()

    def abandon(self, path: object) -> None:
        """The store is closed: whoever goes on gets StoreClosedError."""
        self._belt.stop(StoreClosedError(f"store {path} was closed while a walk went on; open it again"))
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _StoppedError(Exception):
    """Nobody wants the window that is being read."""


class _Watched(Passing):
    """Ends the reading of a long window when nobody wants it."""

    def __init__(self, storage: Storage, belt: Belt) -> None:
        super().__init__(storage.reader.groups.cache)
        self._belt = belt

    def get(self, file_id: str, first: int, stop: int) -> list[object]:
        if self._belt.is_stopped:
            raise _StoppedError
        return super().get(file_id, first, stop)


def _read_all(
    belt: Belt,
    storage: Storage,
    windows: Iterator[tuple[int, int]],
    read: ReadRows,
    empty: bool,
    done: Callable[[], None],
) -> None:
    """Read window after window until the belt wants no more."""
    error: BaseException | None = None
    passing = _Watched(storage, belt)
    storage = replace(storage, reader=Reader(storage.reader.groups.through(passing)))
    try:
        for start, end in windows:
            rows = read(storage, start, end)
            passing.turn()
            if (rows.num_rows or empty) and not belt.put(Read(start, end, rows)):
                break
    except _StoppedError:
        pass
    except BaseException as met:
        error = met
    finally:
        del passing, storage
        done()
        belt.finish(error)
