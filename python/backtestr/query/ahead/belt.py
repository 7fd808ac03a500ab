"""What hands rows from the thread that reads a walk to the one that goes it."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final

from backtestr.errors import StoreClosedError
from backtestr.query.ahead.stretch import Stretch

_DEPTH: Final = 2
"""Stretches that wait at most."""


class Belt:
    """Stretches of a walk in their order; one or two wait, two only where they do not take more than so many bytes.

    Args:
        max_bytes: of those that wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Stretch, int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._is_done = False
        self.is_stopped = False
        self.waits = 0
        """How often one was taken that was not there yet."""

    def put(self, stretch: Stretch) -> bool:
        """Add a stretch when there is room; whether more are wanted."""
        size = stretch.rows.nbytes
        with self._changed:
            while self._waiting and (len(self._waiting) >= _DEPTH or self._bytes + size > self._max_bytes):
                if self.is_stopped:
                    break
                self._changed.wait()
            if not self.is_stopped:
                self._waiting.append((stretch, size))
                self._bytes += size
                self._changed.notify_all()
            return not self.is_stopped

    def take(self) -> Stretch | None:
        """The next stretch, when it is there; None behind the last.

        Raises:
            StoreClosedError: this is a forked child, which nobody reads for.
            Exception: what the reading thread met.
        """
        if os.getpid() != self._pid:
            raise StoreClosedError("the walk began before a fork; begin one in this process, of a store opened here")
        with self._changed:
            is_late = not self._waiting
            while not (self._waiting or self._is_done or self.is_stopped):
                self._changed.wait()
            if self._waiting:
                self.waits += is_late
                stretch, size = self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return stretch
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def finish(self, error: BaseException | None = None) -> None:
        """No more of them come, but perhaps an error behind them."""
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
