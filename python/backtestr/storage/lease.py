"""Leases: what tells a clean-up, in whatever process, which versions the open stores still read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backtestr._native import crc32c
from backtestr.errors import StoreIOError
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout
from backtestr.storage.lock import forget_in_children
from backtestr.storage.snapshot import Version

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{32}")
_BYTES = 96
_ALL = 0
"""The LSN that holds every version."""


class Lease:
    """The oldest version that an open store may still read: a file, locked while the store is open, that says its LSN.

    It begins by holding everything, until `settle`. Then it holds the journal's version and those of calls and stores
    of the past that are in use, and moves forward as soon as none of them needs the older ones. Where no file can be
    made, as on a read-only mount, a warning is logged and retention alone protects. Safe to share between threads.
    """

    def __init__(self, layout: Layout, journal: Journal) -> None:
        self._journal = journal
        self._pid = os.getpid()
        # A finalizer may release while its own thread is in here.
        self._mutex = threading.RLock()
        self._in_use = Counter({_ALL: 1})
        self._is_left = False
        self._said = _ALL
        self._file: int | None = None
        self.path: Path | None = None
        try:
            layout.readers.mkdir(exist_ok=True)
            self._file, self.path = _make(layout.readers)
        except OSError as error:
            _LOG.warning("no lease in %s (%s): only retention keeps what this store reads", layout.readers, error)
        else:
            self._drop = weakref.finalize(self, _remove, self._file, self.path, self._pid)
            forget_in_children(self)

    @property
    def lowest(self) -> int:
        """LSN of the oldest version in use, 0 where it may be any; the newest where there is none."""
        with self._mutex:
            # a copy: garbage collection may run a finalizer while this iterates
            newest = [] if self._is_left and self._in_use else [self._journal.version.lsn]
            return min([*list(self._in_use), *newest])

    def settle(self) -> None:
        """The journal has a version: hold no more than that."""
        self.release(_ALL)

    @contextlib.contextmanager
    def newest(self) -> Iterator[Version]:
        """The journal's version, held while a call reads it."""
        with self._mutex:
            # taken and held at once, or the lease could move past it between
            version = self._journal.version
            self._in_use[version.lsn] += 1
        try:
            yield version
        finally:
            self.release(version.lsn)

    @contextlib.contextmanager
    def holding(self, lsn: int) -> Iterator[None]:
        """Hold a version and all after it while a call reads them; 0 holds everything."""
        self.hold(lsn)
        try:
            yield
        finally:
            self.release(lsn)

    def hold(self, lsn: int) -> None:
        """Hold a version and all after it until `release`.

        Raises:
            StoreIOError: the lease cannot be written.
        """
        with self._mutex:
            self._in_use[lsn] += 1
            try:
                self.narrow()
            except StoreIOError:
                self._let_go(lsn)
                raise

    def release(self, lsn: int) -> None:
        """Hold a version no longer on behalf of one that did."""
        if os.getpid() != self._pid:
            return
        with self._mutex:
            self._let_go(lsn)
            self.narrow()

    def leave(self) -> None:
        """The store was closed; the lease ends with the last of its versions that is in use."""
        with self._mutex:
            self._is_left = True
            self.narrow()

    def narrow(self) -> None:
        """Say the oldest version in use."""
        with self._mutex:
            if self._file is None:
                return
            if self._is_left and not self._in_use:
                self._file = None
                self._drop()
                return
            lowest = self.lowest
            if lowest == self._said:
                return
            try:
                os.pwrite(self._file, _line(lowest), 0)
            except OSError as error:
                # what it says already holds more than a move forward would
                if lowest < self._said:
                    raise StoreIOError(f"writing lease {self.path}: {error}") from error
            else:
                self._said = lowest

    def forget(self) -> None:
        """Close the file that a forked child has in common with its parent, whose lease it stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _let_go(self, lsn: int) -> None:
        self._in_use[lsn] -= 1
        if not self._in_use[lsn]:
            del self._in_use[lsn]


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of a store.

    Attributes:
        live: what each lease that is held says, 0 for one that cannot be read.
        dead: the files of those whose process is gone.
    """

    live: tuple[int, ...]
    dead: tuple[Path, ...]


def read_leases(layout: Layout, *, own: Path | None, remove: bool) -> Leases:
    """All leases but one's own; locks are only tried, so this waits for nobody.

    Args:
        layout: the store's paths.
        own: the caller's lease.
        remove: whether to remove the dead ones.
    """
    live, dead = [], []
    try:
        found = [path for path in layout.readers.iterdir() if _NAME.fullmatch(path.name) and path != own]
    except FileNotFoundError:
        found = []
    for path in found:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            live.append(_ALL)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            live.append(_said_in(os.pread(file, _BYTES, 0)))
        else:
            dead.append(path)
            if remove:
                path.unlink(missing_ok=True)
        finally:
            os.close(file)
    return Leases(tuple(live), tuple(dead))


def _make(folder: Path) -> tuple[int, Path]:
    """A new lease that holds everything, locked."""
    while True:
        path = folder / uuid.uuid4().hex
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(file, _line(_ALL), 0)
            # before it was locked it looked dead, and may have been removed
            if os.fstat(file).st_nlink:
                return file, path
        except BlockingIOError:
            pass
        except BaseException:
            _remove(file, path, os.getpid())
            raise
        _remove(file, path, os.getpid())


def _remove(file: int, path: Path, owner: int) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(file)


def _line(lsn: int) -> bytes:
    return json.dumps({"lsn": lsn, "pid": os.getpid(), "crc32c": crc32c(str(lsn).encode())}).encode().ljust(_BYTES)


def _said_in(line: bytes) -> int:
    """The LSN of a lease; one that is half written holds everything."""
    try:
        said = json.loads(line)
        lsn = int(said["lsn"])
        return lsn if said["crc32c"] == crc32c(str(lsn).encode()) else _ALL
    except (ValueError, KeyError, TypeError):
        return _ALL
