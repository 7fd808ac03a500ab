"""What hands windows from the thread that reads a walk to the one that goes it."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final, NamedTuple

import pyarrow as pa

from backtestr.errors import StoreClosedError

_DEPTH: Final = 4
"""Windows that wait at most."""


class Read(NamedTuple):
    """A window that was read."""

    start: int
    end: int
    rows: pa.Table


class Belt:
    """Windows in their order, few enough of them to take little memory: at most four, and beyond one so many bytes.

    Args:
        max_bytes: of the windows that wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Read, int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._is_done = False
        self.is_stopped = False

    def put(self, window: Read) -> bool:
        """Add a window when there is room; whether more are wanted."""
        size = window.rows.nbytes
        with self._changed:
            while self._waiting and (len(self._waiting) >= _DEPTH or self._bytes + size > self._max_bytes):
                if self.is_stopped:
                    break
                self._changed.wait()
            if not self.is_stopped:
                self._waiting.append((window, size))
                self._bytes += size
                self._changed.notify_all()
            return not self.is_stopped

    def take(self) -> Read | None:
        """The next window, when it is there; None behind the last.

        Raises:
            StoreClosedError: this is a forked child, which nobody reads for.
            Exception: what the reading thread met.
        """
        if os.getpid() != self._pid:
            raise StoreClosedError("the walk began before a fork; begin one in this process, of a store opened here")
        with self._changed:
            while not (self._waiting or self._is_done or self.is_stopped):
                self._changed.wait()
            if self._waiting:
                window, size = self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return window
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def finish(self, error: BaseException | None = None) -> None:
        """No more windows come, but perhaps an error behind them."""
        with self._changed:
            self._is_done = True
            if not self.is_stopped:
                self._error = error
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Drop what waits and have no more read; who goes on taking gets the error once."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            if not self.is_stopped:
                self._waiting.clear()
                self._bytes = 0
                self.is_stopped, self._error = True, error
                self._changed.notify_all()
