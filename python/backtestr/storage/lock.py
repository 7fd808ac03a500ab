"""The writer's lock: one process at a time, released by the system when it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import weakref
from pathlib import Path
from typing import Protocol

from backtestr.errors import StoreLockedError


class Lock(Protocol):
    """A file held open for its lock."""

    def forget(self) -> None:
        """Close the file that a forked child has in common with its parent, whose lock it stays."""


class WriterLock:
    """An exclusive lock on a store, held until `release`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StoreLockedError(
                f"store {path.parent} is being written by {_holder(path)}; close it there, or open with read_only=True"
            ) from None
        except OSError:
            self._file.close()
            raise
        forget_in_children(self)
        # the note is for people: without it the lock is as good
        with contextlib.suppress(OSError):
            _note(path).write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Let the next writer in."""
        with contextlib.suppress(OSError):
            _note(self._path).unlink(missing_ok=True)
        self._file.close()
        _held.discard(self)

    def forget(self) -> None:
        """Close the file that a forked child has in common with its parent, whose lock it stays."""
        self._file.close()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def forget_in_children(lock: Lock) -> None:
    """Have forked children close a lock's file."""
    _held.add(lock)


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


# A lock lasts as long as any process has its file open: a child would go on holding it when its parent is done.
os.register_at_fork(after_in_child=_forget_all)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _holder(path: Path) -> str:
    try:
        return f"process {int(json.loads(_note(path).read_text(encoding='utf-8'))['pid'])}"
    except (OSError, ValueError, KeyError):
        return "another process"
