"""What can be put right without a loss, put right; the rest reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from backtestr.models import RepairReport
from backtestr.persist.verify import Tell, look, orphans_of
from backtestr.storage import Storage
from backtestr.storage.layout import BARS
from backtestr.storage.session import write_empty_files
from backtestr.storage.snapshot import Version

Rebuild = Callable[[Storage, Version, Collection[str], Collection[str]], Version]
"""Makes bars of damaged files (by id), and all bars of some symbols, anew from the ticks, as one commit."""

_LOST = {"missing", "damaged", "content"}


def repair_store(
    storage: Storage,
    rebuild: Rebuild,
    *,
    deep: bool = False,
    grace_s: float = 3_600.0,
    dry_run: bool = False,
    tell: Tell | None = None,
) -> RepairReport:
    """Repair the newest version; the caller keeps other writers out.

    Args:
        storage: the open store.
        rebuild: makes bars anew.
        deep: compare bars with ticks, and make anew those that differ.
        grace_s: age from which a file that no version lists is removed.
        dry_run: change nothing.
        tell: is told how far it is.
    """
    version = (storage.journal.version if dry_run else storage.journal.settle()).filed
    found = look(storage, version, deep=deep, tell=tell)
    root = storage.layout.root
    # of a log that let its oldest records go, a snapshot may be all there is of a version
    damaged = [problem.path for problem in found.problems if problem.kind == "snapshot"]
    removed = damaged if found.is_history_whole else []
    empty = [problem.path for problem in found.problems if problem.path.startswith("data/empty/")]
    young, old = aged_orphans(storage, found.known, grace_s if found.is_history_whole else math.inf)
    by_path = {file.path: file for file in version.file_by_id.values()}
    broken = {problem.path: problem for problem in found.problems if problem.kind in _LOST and problem.path in by_path}
    held = {path: _symbols(version, by_path[path].file_id) for path in broken}
    # the whole file is doubted: a group that decodes may still be another than the one written
    lost = set().union(*(held[path] for path in broken if by_path[path].table != BARS))
    bars = {path for path in broken if by_path[path].table == BARS and not lost & held[path]}
    kept_broken = set().union(*(held[path] for path in broken if by_path[path].table == BARS and path not in bars))
    stale = {name for one in found.problems if one.kind == "bars" for name in one.symbols} - lost - kept_broken
    symbols = stale.union(*(held[path] for path in bars))
    done = {*removed, *empty, *bars}
    lsn = version.lsn
    if not dry_run:
        for path in (*removed, *empty):
            (root / path).unlink(missing_ok=True)
        for orphan in old:
            orphan.unlink(missing_ok=True)
        if empty:
            write_empty_files(storage.layout, version.tables["data_columns"])
        if bars or stale:
            lsn = rebuild(storage, version, [by_path[path].file_id for path in sorted(bars)], sorted(stale)).lsn
    left = [
        one for one in found.problems if one.path not in done and not (one.kind == "bars" and set(one.symbols) <= stale)
    ]
    return RepairReport(
        path=str(root),
        lsn=lsn,
        removed=(*removed, *empty, *(str(path.relative_to(root)) for path in old)),
        rebuilt=tuple(sorted(bars)),
        symbols=tuple(sorted(symbols)),
        problems=tuple(left),
        orphans_kept=tuple(str(path.relative_to(root)) for path in young),
        dry_run=dry_run,
    )


def aged_orphans(storage: Storage, known: Iterable[str], grace_s: float) -> tuple[list[Path], list[Path]]:
    """Files that no version lists: those that stay, and those old enough to go.

    Without all of the history, a file of an earlier version looks like one of none: then let none be old enough.
    """
    orphans = orphans_of(storage, known)
    latest = time.time() - grace_s
    old = [path for path in orphans if path.stat().st_mtime <= latest]
    return [path for path in orphans if path not in set(old)], old


def _symbols(version: Version, file_id: str) -> set[str]:
    return set(version.listing.of_files([file_id])["symbol"].to_pylist())
