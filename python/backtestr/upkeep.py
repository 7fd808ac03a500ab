"""The verbs of a store that keep it sound: checkpoint, verify, repair."""

from __future__ import annotations

from backtestr.errors import ArgumentError
from backtestr.ingest.progress import Progress, shown
from backtestr.ingest.rebuild import rebuild_bars
from backtestr.models import RepairReport, VerifyReport
from backtestr.persist.repair import repair_store
from backtestr.persist.verify import verify_store
from backtestr.reader import StoreReader
from backtestr.storage.catalog import publish_catalog


class Upkeep(StoreReader):
    """What `backtestr.Store` offers beside reading and writing rows."""

    def checkpoint(self) -> int:
        """Write a snapshot, so that the store opens without replaying its log up to here; returns its LSN.

        Closing the store does so after many commits. Snapshots can be deleted: the log alone is the truth.
        Also publishes ``catalog.duckdb``, which any DuckDB from 1.4 on can open; where that fails, a warning is logged.
        """
        storage = self._writable()
        with storage.journal.writing:
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
        storage, version = self._readable(), self._version()
        with shown(progress) as tell:
            return verify_store(storage, version, deep=deep, tell=tell)

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
