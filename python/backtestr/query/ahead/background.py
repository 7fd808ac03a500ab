"""Threads that read ahead, which the end of the process stops."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any


class Background(threading.Thread):
    """A daemon thread that is stopped before the interpreter ends, which must not happen beneath a decoder.

    Args:
        name: what the thread is called.
        run: what it does.
        stop: has ``run`` return soon.
        *args: what ``run`` is called with.
    """

    def __init__(self, name: str, run: Callable[..., None], stop: Callable[[], None], *args: Any) -> None:
        super().__init__(target=run, args=args, name=name, daemon=True)
        self._pid = os.getpid()
        self._have_it_stop = stop
        _running.add(self)
        self.start()

    def close(self) -> None:
        """Stop, and wait for it; a forked child has no such thread, and the thread itself does not wait."""
        if os.getpid() == self._pid:
            self._have_it_stop()
            if threading.current_thread() is not self:
                self.join()


_running: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for background in list(_running):
        background.close()
