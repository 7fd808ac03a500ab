"""What no version needs any more, removed: dead files, the log's oldest records, snapshots, leases of the dead."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backtestr._native import remove_segments
from backtestr.errors import StoreIOError
from backtestr.models import GcReport
from backtestr.persist.repair import aged_orphans
from backtestr.persist.verify import known_files, same_version
from backtestr.storage import Storage
from backtestr.storage.catalog import publish_catalog
from backtestr.storage.checkpoint import (
    listed_snapshots,
    read_snapshot,
    snapshot_path,
    unneeded_snapshots,
    write_snapshot,
)
from backtestr.storage.layout import Layout
from backtestr.storage.lease import Leases, read_leases
from backtestr.storage.listing import File, listed_files
from backtestr.storage.retained import Retained, read_retained, write_retained
from backtestr.storage.snapshot import Version


@dataclass(slots=True)
class _Removed:
    """What was removed, or would be."""

    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    def take(self, kind: str, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                size = path.stat().st_size
                if not self.dry_run:
                    path.unlink()
            except FileNotFoundError:
                continue
            self.note(kind, size)

    def note(self, kind: str, size: int) -> None:
        self.counts[kind] += 1
        self.bytes += size


@dataclass(slots=True)
class _Log:
    """What the log says that a clean-up has to know.

    Attributes:
        version: the newest version.
        oldest: LSN and commit time (ns) of the version that was the newest at an instant, if the log has it.
        added: the files that records add, by path.
        removals: LSN of the last record that removes a file, by file id.
    """

    version: Version
    oldest: tuple[int, int] | None = None
    added: dict[str, File] = field(default_factory=dict)
    removals: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, storage: Storage, version: Version, oldest_ns: int) -> _Log:
        """Read all of it."""
        log = cls(version)
        for records in storage.journal.records():
            log.version = log.version.apply_all([record for record in records if record[0] > log.version.lsn])
            for lsn, time_ns, commit in records:
                log.added |= {file.path: file for file in listed_files(commit.added)}
                log.removals |= dict.fromkeys(commit.removed, lsn)
                if time_ns <= oldest_ns:
                    log.oldest = lsn, time_ns
        return log


def collect_garbage(storage: Storage, *, retention_s: float, grace_s: float, dry_run: bool) -> GcReport:
    """Remove what no retained, tagged or leased version needs; the caller keeps other writers out.

    A reader says in its lease what it will read before it looks for it. Here, what new readers shall find is settled
    first (`Retained`, then the snapshots they begin at), then leases are read, then what goes is removed: a reader
    whose lease is not among them comes after, and finds nothing that goes.

    Args:
        storage: the open store.
        retention_s: how long a version is kept after the next one, in seconds.
        grace_s: age from which a file that no version lists is removed, in seconds.
        dry_run: change nothing.

    Raises:
        LogCorruptError: the log is damaged.
        StoreIOError: a snapshot does not read back.
    """
    layout, journal = storage.layout, storage.journal
    log = _Log.read(storage, journal.version if dry_run else journal.begin(), time.time_ns() - int(retention_s * 1e9))
    version, before = log.version, read_retained(layout)
    retained = _retained(log, before)
    tagged = {path for lsn in retained.tagged for path in _paths(journal.past(lsn=lsn))}
    if not dry_run and retained != before:
        write_retained(layout, retained)
    removed = _Removed(dry_run)
    leases, floor = _floor(storage, retained, remove=not dry_run)
    removed.counts["leases"] = len(leases.dead)

    snapshots = {path: read_snapshot(layout, path) for path in listed_snapshots(layout)}
    good = {path: held for path, held in snapshots.items() if held is not None}
    known = known_files(version.files, *(held.files for held in good.values())) | log.added
    first, current = layout.segments()[0], {*version.file_by_id}
    held_by: Counter[str] = Counter()
    dead = []
    for path, file in known.items():
        if file.file_id in current:
            continue
        gone_at = log.removals.get(file.file_id, first - 1)
        if not (layout.root / path).exists():
            continue
        if 0 < gone_at <= floor and path not in tagged:
            dead.append(layout.root / path)
        else:
            held_by["retention" if gone_at > retained.lsn else "tags" if path in tagged else "leases"] += 1
    if dead and not dry_run and layout.catalog.exists():
        publish_catalog(layout, version)
    removed.take("files", dead)
    # a snapshot that cannot be read may be all that lists some files, once the log's oldest records are gone
    is_history_whole = first == 1 or len(good) == len(snapshots)
    if is_history_whole:
        removed.take("orphans", aged_orphans(storage, {*known, *tagged}, grace_s)[1])
    _trim_log(storage, retained, floor, removed)
    return GcReport(
        path=str(layout.root),
        lsn=version.lsn,
        oldest_lsn=retained.lsn,
        **{kind: removed.counts[kind] for kind in ("files", "orphans", "segments", "snapshots", "leases")},
        bytes=removed.bytes,
        held_by_retention=held_by["retention"],
        held_by_tags=held_by["tags"],
        held_by_leases=held_by["leases"],
        readers=len(leases.live),
        dry_run=dry_run,
    )


def _retained(log: _Log, before: Retained) -> Retained:
    """What to keep: the version that was the newest at an instant and all after it, and those that have a tag."""
    version, (lsn, time_ns) = log.version, log.oldest or (before.lsn, before.time_ns)
    if lsn < before.lsn:
        lsn, time_ns = before.lsn, before.time_ns
    tags = {int(str(row["lsn"])) for row in version.rows_of("tags")}
    return Retained(lsn, time_ns, tuple(sorted(tag for tag in tags if tag < lsn and before.has(tag))))


def _floor(storage: Storage, retained: Retained, *, remove: bool) -> tuple[Leases, int]:
    """The leases, and the oldest LSN from which on everything stays."""
    storage.lease.narrow()
    leases = read_leases(storage.layout, own=storage.lease.path, remove=remove)
    return leases, min(retained.lsn, storage.lease.lowest, *leases.live)


def _trim_log(storage: Storage, retained: Retained, floor: int, removed: _Removed) -> None:
    """Let the log's oldest segments go, and the snapshots that nothing needs then."""
    layout = storage.layout
    segments, there = layout.segments(), set(listed_snapshots(layout))
    made, gone = set[int](), list[int]()
    if _segments_before(segments, retained.lsn):
        made = {*retained.tagged, retained.lsn}
        if not removed.dry_run:
            for lsn in sorted(made):
                _keep_snapshot(storage, lsn)
            # since the first look a store may have opened from a snapshot before these
            _, floor = _floor(storage, retained, remove=False)
        older = [path for path in reversed(_snapshots(layout, made)) if int(path.stem) <= floor]
        base = _first_good(layout, made, older)
        # a reader at the base is still in the segment that holds it
        sizes = {lsn: layout.segment(lsn).stat().st_size for lsn in _segments_before(segments, base)}
        gone = list(sizes) if removed.dry_run else remove_segments(layout.log, max(base - 1, 0))
        for lsn in gone:
            removed.note("segments", sizes[lsn])
    first, paths, base = segments[len(gone)], _snapshots(layout, made), 0
    if first > 1:
        base = _first_good(layout, made, [path for path in paths if int(path.stem) >= first - 1])
        if not base:
            return
    unneeded = unneeded_snapshots(paths, base, retained.tagged)
    removed.take("snapshots", [path for path in unneeded if path in there])
    for path in unneeded:
        # made a moment ago, for a log that did not let go of what it holds
        if path not in there:
            path.unlink(missing_ok=True)


def _snapshots(layout: Layout, made: Collection[int]) -> list[Path]:
    """The snapshots that are there, and those that are made or would be; oldest first."""
    return sorted({*listed_snapshots(layout), *(snapshot_path(layout, lsn) for lsn in made)})


def _first_good(layout: Layout, made: Collection[int], snapshots: Iterable[Path]) -> int:
    """The LSN of the first snapshot that can be read, or was made to be read; 0 without one."""
    good = (path for path in snapshots if int(path.stem) in made or read_snapshot(layout, path) is not None)
    return next((int(path.stem) for path in good), 0)


def _segments_before(segments: Sequence[int], lsn: int) -> list[int]:
    """The segments whose records are all older than a version."""
    return [first for first, following in itertools.pairwise(segments) if following <= lsn]


def _keep_snapshot(storage: Storage, lsn: int) -> None:
    """Have a snapshot of exactly one version, read back and compared.

    Raises:
        StoreIOError: it does not read back as it was written.
    """
    layout = storage.layout
    path = next((path for path in listed_snapshots(layout) if int(path.stem) == lsn), None)
    if path is not None and read_snapshot(layout, path) is not None:
        return
    version = storage.journal.past(lsn=lsn)
    path = write_snapshot(layout, version)
    held = read_snapshot(layout, path)
    if held is None or not same_version(version, held):
        raise StoreIOError(f"snapshot {path} does not read back as it was written; nothing of the log was removed")


def _paths(version: Version) -> Collection[str]:
    return [file.path for file in version.file_by_id.values()]
