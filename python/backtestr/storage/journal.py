"""The log as versions: replay it, append to it."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator

from backtestr._native import LogReader, LogWriter
from backtestr.errors import (
    LogCorruptError,
    MigrationNewerError,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreIOError,
    StorePoisonedError,
)
from backtestr.storage.checkpoint import load_snapshot, trim_snapshots, write_snapshot
from backtestr.storage.commit import Commit
from backtestr.storage.layout import Layout
from backtestr.storage.lock import WriterLock
from backtestr.storage.reserve import Turn, is_disk_full, make_reserve, release_reserve
from backtestr.storage.snapshot import Version

Record = tuple[int, int, Commit]
"""LSN, commit time in ns, and what was committed."""

_TRIES = 4
_PAUSE_S = 0.02
_SNAPSHOT_EVERY = 64
"""Commits after which closing a store writes a snapshot."""


class Journal:
    """A store's current version and, once it writes, the writer's lock and log.

    Whoever changes the store holds ``writing`` from `begin` to `commit`; readers do not wait for it. It is two turns:
    ``flushing``, to change files, and behind it ``admission``, to add rows that only the log holds. A flush holds the
    first alone, and an append the second, from what it is judged against to `submit`. Versions whose schema is newer
    than ``known_schema`` are refused, wherever they would be read or written.

    Attributes:
        version: the newest durable version.
        ahead: the version after all that was submitted; what is appended is judged against it.
    """

    def __init__(self, layout: Layout, known_schema: int) -> None:
        self._layout = layout
        self._known_schema = known_schema
        self._lock: WriterLock | None = None
        self._log: LogWriter | None = None
        self._tail: LogReader | None = None
        self._saved_lsn = 0
        self._poison: str | None = None
        self._is_closed = False
        self._mutex = threading.RLock()
        files, rows = threading.RLock(), threading.RLock()
        self.flushing = Turn(layout.root, self._fill, files)
        self.admission = Turn(layout.root, self._fill, rows)
        self.writing = Turn(layout.root, self._fill, files, rows)
        self._coming: deque[Version] = deque()
        self.version = self.ahead = Version()

    def refresh(self) -> Version:
        """Move forward to the last durable commit.

        Raises:
            MigrationNewerError: its schema is newer than this release knows; the version stays what it was.
        """
        with self._mutex:
            if self._log is None:
                is_behind = self._tail is not None
                try:
                    self.version = self._followed()
                except (LogCorruptError, StoreIOError):
                    if not is_behind:
                        raise
                    # a clean-up may have let go of what comes next, where no lease holds it: a snapshot has it
                    self.version = self._followed()
            return self.version

    def _followed(self) -> Version:
        """The version after all durable commits: from the version there is, or else from a snapshot on."""
        version, is_new = self.version, self._tail is None
        if self._tail is None:
            version = load_snapshot(self._layout)
            self._tail = LogReader(self._layout.log, version.lsn)
            self._saved_lsn = version.lsn
        try:
            for records in _segments(self._tail):
                version = version.apply_all(records)
            if is_new:
                # what was read is several times what is kept of it
                version.listing.packed.end_of_work()
            return self._known(version)
        except BaseException:
            # the records were taken from the reader, and must be met again
            self._tail = None
            raise

    def past(self, *, lsn: int | None = None, time_ns: int | None = None) -> Version:
        """The last version up to an LSN or commit time; an empty one where there is none."""
        base = load_snapshot(self._layout, lsn=lsn, time_ns=time_ns)
        if base.lsn == lsn:
            # the log behind the snapshot of a tagged version may be gone
            return self._known(base)
        log = LogReader(self._layout.log, base.lsn)
        while found := _read(log):
            wanted = [
                (at, committed_ns, payload)
                for at, committed_ns, payload in found
                if (lsn is None or at <= lsn) and (time_ns is None or committed_ns <= time_ns)
            ]
            base = base.apply_all(_decoded(wanted))
            if len(wanted) < len(found):
                break
        base.listing.packed.end_of_work()
        return self._known(base)

    def checkpoint(self) -> Version:
        """Write the current version to a snapshot, so that opening the store replays only what comes after it."""
        with self._mutex:
            self.begin()
            self._save()
            return self.version

    def records(self) -> Iterator[list[Record]]:
        """All durable commits that the log still has, oldest first, those of a segment at a time."""
        begun = False
        while True:
            first = self._layout.segments()[:1]
            try:
                for records in self.records_after(first[0] - 1 if first else 0):
                    begun = True
                    yield records
                return
            except (LogCorruptError, StoreIOError):
                # a clean-up may have let the oldest go meanwhile
                if begun or self._layout.segments()[:1] == first:
                    raise

    def records_after(self, lsn: int) -> Iterator[list[Record]]:
        """All durable commits behind an LSN, oldest first, those of a segment at a time.

        Raises:
            LogCorruptError: the log does not read to its end.
        """
        return _segments(LogReader(self._layout.log, lsn))

    def create(self) -> Version:
        """Start the log of a new store, or go on with one that was half made."""
        self._layout.root.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(self._layout.lock)
        self._layout.make()
        if not any(self._layout.log.iterdir()):
            LogWriter.create(self._layout.log, secrets.randbits(64))
        return self.begin()

    def begin(self) -> Version:
        """Take the writer's lock if it is not held, and move to the last commit.

        Raises:
            StoreLockedError: another process writes.
            StorePoisonedError: an earlier write failed.
            StoreClosedError: the store was closed.
            MigrationNewerError: the schema is newer than this release knows.
        """
        with self._mutex:
            self._check_sound()
            if self._log is None:
                self._lock = self._lock or WriterLock(self._layout.lock)
                log = LogWriter.open(self._layout.log, secrets.randbits(64))
                try:
                    self._sweep()
                    make_reserve(self._layout)
                    self.ahead = self.refresh()
                except BaseException:
                    # the next call begins anew: it may not go on from a version that is not the last
                    self._log = log
                    self._stop()
                    raise
                self._log = log
            return self.version

    def commit(self, commit: Commit) -> Version:
        """Append one record; it is durable and visible when this returns.

        Raises:
            StorePoisonedError: it failed; whether it is durable is known after reopening.
            StoreClosedError: the store was closed.
        """
        return self.wait(self.submit(commit))

    def submit(self, commit: Commit) -> int:
        """Give a record to the log; returns its LSN, for `wait`. It shows in ``ahead`` at once.

        Raises:
            StorePoisonedError: the append failed; whether it is durable is known after reopening.
            StoreClosedError: the store was closed.
        """
        payload = commit.encode()
        with self._mutex:
            self._check_sound()
            assert self._log is not None  # noqa: S101 - begin() came before
            try:
                lsn, time_ns = self._log.submit(payload, time.time_ns())
                self.ahead = self.ahead.apply(lsn, time_ns, commit)
            except BaseException as error:
                raise self._poisoned(error) from error
            self._coming.append(self.ahead)
            return lsn

    def wait(self, lsn: int) -> Version:
        """Return when the record of an LSN is durable, and visible to readers; several threads share one sync.

        Raises:
            StorePoisonedError: the append failed; whether it is durable is known after reopening.
        """
        if lsn <= self.version.lsn:
            return self.version
        if (log := self._log) is None:
            self._check_sound()
            return self.version
        try:
            log.wait(lsn)
        except (StoreError, OSError) as error:
            raise (self._fill(error) if is_disk_full(error) else self._poisoned(error)) from error
        with self._mutex:
            durable = log.durable_lsn
            while self._coming and self._coming[0].lsn <= durable:
                self.version = self._coming.popleft()
            return self.version

    def settle(self) -> Version:
        """Wait for all that was submitted, from `begin` on; returns the version after it."""
        self.begin()
        return self.wait(self.ahead.lsn)

    def close(self) -> None:
        """Release the writer's lock, once the change under way is committed."""
        with self.writing, self._mutex:
            self._is_closed = True
            if self._log is not None and not self._poison:
                # all that was acknowledged is durable; the next writer cuts and marks the log where this one cannot
                with contextlib.suppress(StoreIOError, StorePoisonedError, OSError):
                    self.wait(self.ahead.lsn)
                    if self.version.lsn - self._saved_lsn >= _SNAPSHOT_EVERY:
                        self._save()
            self._stop()

    def _stop(self) -> None:
        if self._log is not None:
            # a log that failed refuses this, too
            with contextlib.suppress(StoreIOError):
                self._log.close()
        self._log = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _fill(self, error: BaseException) -> StoreFullError:
        """Write nothing more on a full disk, and leave room for closing and for what makes room."""
        release_reserve(self._layout)
        self._poison = f"the disk is full: {error}"
        return StoreFullError(
            f"writing store {self._layout.root}: the disk is full ({error}); the change is not acknowledged. "
            "Close the store, open it again, and make room by delete() and gc()"
        )

    def _known(self, version: Version) -> Version:
        if version.schema_version > self._known_schema:
            raise MigrationNewerError(
                f"store {self._layout.root} has schema {version.schema_version} at version {version.lsn}, "
                f"this release knows up to {self._known_schema}; upgrade backtestr"
            )
        return version

    def _check_sound(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"store {self._layout.root} is closed; open it again")
        if self._poison:
            raise StorePoisonedError(f"an earlier write failed ({self._poison}); close the store and open it again")

    def _poisoned(self, error: BaseException) -> StorePoisonedError:
        """Write nothing more: what was submitted may be durable or not."""
        self._poison = self._poison or str(error)
        return StorePoisonedError(f"committing: {error}; close the store and open it again")

    def _save(self) -> None:
        if self.version.lsn > self._saved_lsn:
            write_snapshot(self._layout, self.version)
            trim_snapshots(self._layout)
            self._saved_lsn = self.version.lsn

    def _sweep(self) -> None:
        for stray in self._layout.tmp.iterdir():
            if stray.is_file():
                stray.unlink(missing_ok=True)


def _segments(log: LogReader) -> Iterator[list[Record]]:
    """New records, those of a segment at a time."""
    while found := _read(log):
        yield _decoded(found)


def _decoded(found: list[tuple[int, int, bytes]]) -> list[Record]:
    commits = Commit.decode_all([payload for *_, payload in found])
    return [(lsn, time_ns, commit) for (lsn, time_ns, _), commit in zip(found, commits, strict=True)]


def _read(log: LogReader) -> list[tuple[int, int, bytes]]:
    """New records. Beside a writer a frame may be seen half written, so damage must be seen more than once."""
    for _ in range(_TRIES - 1):
        try:
            return log.read_segment()
        except LogCorruptError:
            time.sleep(_PAUSE_S)
    return log.read_segment()
