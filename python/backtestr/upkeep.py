"""The verbs of a store that keep it sound and small: checkpoint, verify, repair, gc."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

from backtestr.config import duration_s
from backtestr.errors import ArgumentError
from backtestr.ingest.flush import flush
from backtestr.ingest.progress import Progress, shown
from backtestr.ingest.rebuild import rebuild_bars
from backtestr.memory import Memory
from backtestr.models import GcReport, RepairReport, VerifyReport
from backtestr.persist.gc import collect_garbage
from backtestr.persist.repair import repair_store
from backtestr.persist.verify import verify_store
from backtestr.storage import Storage
from backtestr.storage.catalog import publish_catalog


class Upkeep(Memory):
    """What `backtestr.Store` offers beside reading and writing rows."""

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Storage]:
        """The turn to change the store, all its rows in files."""
        storage = self._writable()
        with storage.journal.writing:
            flush(storage)
            yield storage

    def checkpoint(self) -> int:
        """Write a snapshot, so that the store opens without replaying its log up to here; returns its LSN.

        Appended rows that only the log holds are written to files first.
        Closing the store does so after many commits.
        Also publishes ``catalog.duckdb``, which any DuckDB from 1.4 on can open; where that fails, a warning is logged.
        """
        with self._changing() as storage:
            version = storage.journal.checkpoint()
            publish_catalog(storage.layout, version)
            return version.lsn

    def verify(self, *, deep: bool = False, progress: bool | Progress | None = None) -> VerifyReport:
        """Prove that log, snapshots and every file are what was committed; changes nothing, needs no lock.

        Each file's size, SHA-256, footer, pages, order of rows, and its entry in the index. Files that no version lists
        are named and no problem: a writer may be at work on them.

        Args:
            deep: also make all stored bars anew from the ticks and compare them to the last digit.
            progress: True for a bar, or a function that is called with (done, total, what).

        Example:
            >>> import backtestr as bt, tempfile
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.verify(deep=True).ok
            True
        """
        with self._reading() as (storage, version), storage.lease.holding(0), shown(progress) as tell:
            return verify_store(storage, version.filed, deep=deep, tell=tell)

    def repair(
        self,
        *,
        deep: bool = False,
        grace_s: float = 3_600.0,
        dry_run: bool = False,
        progress: bool | Progress | None = None,
    ) -> RepairReport:
        """Put right what can be without a loss, and report the rest, such as ticks that only a backup brings back.

        Drops damaged snapshots, removes old files that no version lists, and makes damaged or missing files of bars
        anew from the ticks, as one commit.

        Args:
            deep: compare bars with the ticks, too, and make anew those that differ.
            grace_s: seconds since its last change from which a file that no version lists is removed.
            dry_run: say what would be done, change nothing.
            progress: True for a bar, or a function that is called with (done, total, what).

        Raises:
            StoreLockedError: another process writes.

        Example:
            >>> import backtestr as bt, tempfile
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.repair().removed
            ()
        """
        if not grace_s >= 0:
            raise ArgumentError(f"grace_s={grace_s!r}: give seconds, 0 or more")
        storage = self._readable() if dry_run else self._writable()
        with storage.journal.writing, shown(progress) as tell:
            return repair_store(storage, rebuild_bars, deep=deep, grace_s=grace_s, dry_run=dry_run, tell=tell)

    def gc(
        self,
        *,
        retention: float | str | dt.timedelta | None = None,
        grace_s: float = 3_600.0,
        dry_run: bool = False,
    ) -> GcReport:
        """Remove what no version within retention, no tagged version and no open store needs.

        Data files that only older versions list, the log's and the snapshots' share of those versions, and files that
        no version lists. `at` of what goes is a VersionNotFoundError from then on.

        Args:
            retention: how long a version is kept after the next one was committed: seconds, text such as ``"7d"`` or a
                timedelta; by default the setting ``retention``.
            grace_s: seconds since its last change from which a file that no version lists is removed.
            dry_run: say what would go, remove nothing.

        Raises:
            StoreLockedError: another process writes.
            LogCorruptError: the log is damaged; see `verify`.

        Example:
            >>> import backtestr as bt, tempfile
            >>> ticks = {"timestamp_utc": ["2024-01-02T14:30:00"], "price": ["1.5"], "volume": ["2"]}
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     report = store.ingest(ticks, symbol="A", feed="example")
            ...     deleted = store.delete("A")
            ...     store.gc().files, store.gc(retention=0).files
            (0, 2)
        """
        try:
            keep_s = self._settings.retention if retention is None else duration_s(retention)
        except ValueError as error:
            raise ArgumentError(f"retention={retention!r}: {error}") from None
        if not grace_s >= 0:
            raise ArgumentError(f"grace_s={grace_s!r}: give seconds, 0 or more")
        storage = self._readable() if dry_run else self._writable()
        with storage.journal.writing:
            return collect_garbage(storage, retention_s=keep_s, grace_s=grace_s, dry_run=dry_run)
