"""Live rows to files: as a commit of their own, or beside the store for what reads files only."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from backtestr.errors import StoreClosedError
from backtestr.ingest.change import (
    Addition,
    Change,
    Touched,
    bytes_per_row,
    commit_change,
    touch,
    write_change,
)
from backtestr.ingest.identity import Removed
from backtestr.ingest.quarantine import write_quarantine
from backtestr.ingest.spool import split_intervals
from backtestr.ingest.tables import write_tables
from backtestr.storage import Storage
from backtestr.storage.layout import QUARANTINE, Layout
from backtestr.storage.live import Live
from backtestr.storage.snapshot import Version
from backtestr.storage.ties import sort_as_stored

_LOG = logging.getLogger(__name__)
_SAMPLE_ROWS = 1 << 18


def flush(storage: Storage) -> Version:
    """Write all live rows to files with their bars, as one commit; returns the version after it.

    Rows that are appended meanwhile stay live; whoever holds the turn of all changes lets none in.

    Raises:
        StoreLockedError: another process writes.
        StorePoisonedError: an earlier write failed.
    """
    journal = storage.journal
    with journal.flushing:
        version = journal.settle()
        if not version.live:
            return version
        change, additions = _change(storage, version)
        return commit_change(storage, version.filed, change, additions)[0]


def settled(storage: Storage, version: Version, folder: Path) -> Version:
    """A version whose live rows are in files of a folder outside of the store; nothing is committed."""
    scratch = replace(storage, layout=_Outside(folder))
    change, additions = _change(scratch, version)
    commit, _ = write_change(scratch, version.filed, change, additions)
    return version if commit is None else version.apply(version.lsn, version.time_ns, commit)


class _Outside(Layout):
    """A folder that is none of the store's: its files are listed by their whole paths."""

    def new_file(self, table: str, interval: str) -> tuple[str, str]:
        file_id, relative = super().new_file(table, interval)
        return file_id, str(self.root / relative)


def _change(storage: Storage, version: Version) -> tuple[Change, Iterator[Addition]]:
    live = version.live
    touched: dict[str, Touched] = {}
    ticks = live.sorted_ticks
    if ticks.num_rows:
        # columns without a value are most of the memory, and none of the file
        ticks = ticks.select([name for name in ticks.column_names if ticks[name].null_count < ticks.num_rows])
        ticks = sort_as_stored(ticks, version)
        touch(touched, ticks)
    change = Change(
        "flush",
        touched,
        Removed(),
        extra=[*write_quarantine(storage, live.table(QUARANTINE)), *write_tables(storage, live)],
        note={"rows": ticks.num_rows},
        settles=live.last_lsn,
    )
    return change, _additions(storage, ticks)


def _additions(storage: Storage, ticks: pa.Table) -> Iterator[Addition]:
    if ticks.num_rows:
        per_row = bytes_per_row(storage, ticks.num_rows, lambda: ticks.slice(0, _SAMPLE_ROWS))
        for label, mine in split_intervals(ticks, per_row, storage.settings.day_interval_bytes):
            yield Addition(label, iter([mine]))


class Flusher:
    """Flushes a store in the background, when its live rows are many or old."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._mutex = threading.Lock()
        self._timer: threading.Timer | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def make_room(self) -> None:
        """Wait for a flush where there are far more live rows than there should be."""
        most = 4 * self._storage.settings.flush_rows
        if self._storage.journal.ahead.live.rows > most:
            with self._storage.journal.flushing:
                if self._storage.journal.ahead.live.rows > most:
                    flush(self._storage)

    def appended(self, rows: int) -> None:
        """So many rows are live now: flush if they are many, else when they are old."""
        with self._mutex:
            if self._is_closed:
                return
            if rows >= self._storage.settings.flush_rows:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="backtestr-flush", daemon=True)
                    self._thread.start()
            elif self._timer is None:
                self._timer = threading.Timer(self._storage.settings.flush_seconds, self._run)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Begin no more flushes; closing the journal waits for one that runs."""
        with self._mutex:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _run(self) -> None:
        left = self._flush()
        with self._mutex:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._thread = None
        if left:
            self.appended(left.rows)

    def _flush(self) -> Live:
        """Flush; returns the rows that came meanwhile, none where it fails: the next append tries again."""
        try:
            return flush(self._storage).live
        except StoreClosedError:
            return Live()
        except Exception as error:
            _LOG.warning("flushing %s: %s; its rows are safe in the log", self._storage.layout.root, error)
            return Live()
