"""A full disk: the space kept to stop cleanly, and the turn of the one who changes a store."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from backtestr.errors import StoreFullError
from backtestr.storage.layout import Layout
from backtestr.storage.refusals import typed_refusals

BYTES = 4 * 1024**2
_ROOM = 8
"""Times the reserve that must be free for it to be made: what is left of a full disk is for making room."""


def make_reserve(layout: Layout) -> None:
    """Set space aside, unless it is there already or the disk has little."""
    with contextlib.suppress(OSError):
        if layout.reserve.exists() or shutil.disk_usage(layout.root).free < _ROOM * BYTES:
            return
        try:
            with layout.reserve.open("xb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, BYTES)
                else:
                    file.write(bytes(BYTES))
        except OSError:
            release_reserve(layout)


def release_reserve(layout: Layout) -> None:
    """Give the space back, for a clean close and for making room afterwards."""
    with contextlib.suppress(OSError):
        layout.reserve.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is that of a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        cause = cause.__cause__
    return False


class Turn:
    """The turn to change a store: one thread's at a time. What the system refuses leaves it as an error of the store.

    Args:
        root: the store's folder.
        when_full: told what happened; gives the error to raise.
        locks: held while the turn lasts, taken in this order.
    """

    def __init__(
        self, root: Path, when_full: Callable[[BaseException], StoreFullError], *locks: threading.RLock
    ) -> None:
        self._root = root
        self._locks = locks
        self._when_full = when_full

    def __enter__(self) -> None:
        with contextlib.ExitStack() as taken:
            for lock in self._locks:
                taken.enter_context(lock)
            taken.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and not isinstance(error, StoreFullError) and is_disk_full(error):
                raise self._when_full(error) from error
            if isinstance(error, OSError):
                with typed_refusals(f"writing to store {self._root}"):
                    raise error
        finally:
            for lock in reversed(self._locks):
                lock.release()
