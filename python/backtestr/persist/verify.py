"""Proof that a store is what its log says: log, snapshots, every file, and bars against ticks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from backtestr.errors import LogCorruptError, StoreError
from backtestr.models import Problem, VerifyReport
from backtestr.persist.prove import prove_bytes, prove_file
from backtestr.persist.rebar import compare_bars
from backtestr.storage import Storage
from backtestr.storage.checkpoint import listed_snapshots, read_snapshot
from backtestr.storage.layout import Layout
from backtestr.storage.listing import File, listed_files
from backtestr.storage.read import Reader
from backtestr.storage.rowgroups import RowGroups
from backtestr.storage.snapshot import SMALL_TABLES, Version

Tell = Callable[[int, "int | None", str], object]
"""Called with what is done, of how much, and what is being done."""


@dataclass(slots=True)
class Findings:
    """What a verification has found so far.

    Attributes:
        known: every file that some version lists, by path.
        is_history_whole: all versions that the store can still show were read, so ``known`` lacks none.
    """

    problems: list[Problem] = field(default_factory=list)
    known: dict[str, File] = field(default_factory=dict)
    is_history_whole: bool = True
    counts: dict[str, int] = field(default_factory=dict)


def verify_store(storage: Storage, version: Version, *, deep: bool = False, tell: Tell | None = None) -> VerifyReport:
    """Check a version's files and everything they stand on; nothing is changed.

    Args:
        storage: the open store.
        version: whose files are read whole; those of other versions are only compared with their digests.
        deep: make all stored bars anew from the ticks, too.
        tell: is told how far it is.
    """
    started = time.monotonic()
    found = look(storage, version, deep=deep, tell=tell)
    orphans = tuple(str(path.relative_to(storage.layout.root)) for path in orphans_of(storage, found.known))
    return VerifyReport(
        path=str(storage.layout.root),
        lsn=version.lsn,
        deep=deep,
        problems=tuple(found.problems),
        orphans=orphans,
        seconds=time.monotonic() - started,
        **found.counts,
    )


def look(storage: Storage, version: Version, *, deep: bool, tell: Tell | None) -> Findings:
    """Check everything."""
    found = Findings()
    try:
        storage.layout.check()
    except StoreError as error:
        found.problems.append(Problem("identity", "STORE.json", str(error)))
    _check_history(storage, version, found)
    _check_files(storage, version, found, tell)
    _check_empty_files(storage, version, found)
    if deep:
        _check_bars(storage, version, found, tell)
    return found


def known_files(*listings: pa.Table) -> dict[str, File]:
    """Every file that some rows of `FILES` list, by path."""
    return {file.path: file for files in listings for file in listed_files(files)}


def orphans_of(storage: Storage, known: Iterable[str]) -> list[Path]:
    """Files in the folders of data and snapshots that no version lists; some may be of a write that goes on."""
    layout = storage.layout
    listed = {layout.root / path for path in known} | set(listed_snapshots(layout))
    empty = {layout.data / "empty" / f"{table}.parquet" for table in _tables(storage.journal.version)}
    found_files = (path for folder in (layout.data, layout.snapshots) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found_files if path not in listed and path not in empty)


def _check_history(storage: Storage, version: Version, found: Findings) -> None:
    """Read the log to its end, and every snapshot, which must hold what the log says."""
    layout = storage.layout
    snapshots, problems = _read_snapshots(layout)
    first = (layout.segments() or [1])[0]
    # the log of a store that let its oldest records go stands on a snapshot
    base = next((held for held in snapshots if held.lsn >= first - 1), Version()) if first > 1 else Version()
    found.known = known_files(version.files, *(held.files for held in snapshots))
    found.counts["commits"] = 0
    wrong: set[int] = set()
    try:
        if first > 1 and not base.lsn:
            raise LogCorruptError(f"the log begins at record {first} and no snapshot holds what was before")
        wrong = _compare(storage, base, [held for held in snapshots if held.lsn > base.lsn], version.lsn, found)
    except (StoreError, OSError) as error:
        if (layout.segments() or [1])[0] != first:
            # a clean-up let the log's oldest records go meanwhile
            _check_history(storage, version, found)
            return
        problems.append(Problem("log", "log", str(error)))
        found.is_history_whole = False
    if first > 1 and any(problem.kind == "snapshot" for problem in problems):
        found.is_history_whole = False
    wrong = wrong if found.is_history_whole else set()
    for lsn in sorted(wrong):
        problems.append(Problem("snapshot", f"snapshots/{lsn:020}.snapshot", "holds another version than the log"))
    found.problems += problems
    found.counts["snapshots"] = len(snapshots) - len(wrong)


def _read_snapshots(layout: Layout) -> tuple[list[Version], list[Problem]]:
    """The versions that snapshots hold, oldest first, and what is wrong with the others."""
    snapshots, problems = [], []
    for path in listed_snapshots(layout):
        held = read_snapshot(layout, path)
        if held is not None:
            snapshots.append(held)
        elif path.exists():
            # one that is gone was let go since it was listed
            problems.append(Problem("snapshot", f"snapshots/{path.name}", "is not what was written"))
    return snapshots, problems


def _compare(storage: Storage, base: Version, snapshots: Iterable[Version], last: int, found: Findings) -> set[int]:
    """Read the log from a version on; the LSNs of later snapshots that hold another version than the log.

    Raises:
        LogCorruptError: the log is damaged, or ends before an LSN.
    """
    wrong, waiting, then = set(), deque(snapshots), base
    for records in storage.journal.records_after(base.lsn):
        found.counts["commits"] += len(records)
        found.known |= known_files(*(commit.added for *_, commit in records))
        while waiting and waiting[0].lsn <= records[-1][0]:
            held = waiting.popleft()
            then = then.apply_all([record for record in records if then.lsn < record[0] <= held.lsn])
            if not same_version(then, held):
                wrong.add(held.lsn)
        then = then.apply_all([record for record in records if record[0] > then.lsn])
    if then.lsn < last:
        raise LogCorruptError(f"the log ends at record {then.lsn}, before version {last}")
    return wrong | {held.lsn for held in waiting}


def _check_files(storage: Storage, version: Version, found: Findings, tell: Tell | None) -> None:
    """Read every file of the version whole, and compare those of earlier versions with their digests."""
    layout, reader = storage.layout, Reader(RowGroups(storage.layout, verify=True))
    rows = size = past = gone = 0
    current = set(version.files["path"].to_pylist())
    past_paths = sorted(found.known.keys() - current)
    total = len(current) + len(past_paths)
    for done, (file, index) in enumerate(version.listing.by_file()):
        if tell is not None:
            tell(done, total, f"checking {file.path}")
        wrong = prove_file(layout, reader, file, index)
        if wrong is not None:
            found.problems.append(wrong)
        rows, size = rows + file.rows, size + file.size
    for path in past_paths:
        if tell is not None:
            tell(len(current) + past + gone, total, f"checking {path}")
        wrong = prove_bytes(layout, found.known[path])
        if wrong is not None and wrong.kind == "missing":
            gone += 1
            continue
        past += 1
        if wrong is not None:
            message = f"{wrong.message}; only earlier versions have it"
            found.problems.append(wrong._replace(message=message))
    counts = {"files": len(current), "rows": rows, "bytes": size, "past_files": past, "past_missing": gone}
    found.counts |= counts


def _check_empty_files(storage: Storage, version: Version, found: Findings) -> None:
    for table in _tables(version):
        path = storage.layout.data / "empty" / f"{table}.parquet"
        message = None
        try:
            with pq.ParquetFile(path) as parquet:
                if parquet.metadata.num_rows or parquet.schema_arrow.field(0).metadata is None:
                    message = "is not a table without rows"
        except (OSError, pa.ArrowException) as error:
            message = f"cannot be read: {error}"
        if message is not None:
            kind = "damaged" if path.exists() else "missing"
            found.problems.append(Problem(kind, str(path.relative_to(storage.layout.root)), message))


def _check_bars(storage: Storage, version: Version, found: Findings, tell: Tell | None) -> None:
    reader = Reader(RowGroups(storage.layout, verify=True))
    symbols = sorted({*version.symbols, *version.bases})
    compared = 0
    for done, symbol in enumerate(symbols):
        if tell is not None:
            tell(done, len(symbols), f"comparing bars of {symbol}")
        rows, problems = compare_bars(reader, version, symbol)
        compared += rows
        found.problems += problems
    found.counts["bars_compared"] = compared


def same_version(one: Version, other: Version) -> bool:
    """Whether two versions hold the same."""
    if (one.lsn, one.time_ns, one.listing.entries) != (other.lsn, other.time_ns, other.listing.entries):
        return False
    pairs = [(one.files, other.files), *zip(one.listing.pieces(), other.listing.pieces(), strict=True)]
    pairs += [(one.tables[name], other.tables[name]) for name in SMALL_TABLES]
    live, others = one.live.numbered(), other.live.numbered()
    pairs += [(_plain(live[name]), _plain(others[name])) for name in live.keys() & others.keys()]
    return live.keys() == others.keys() and all(a.equals(b) for a, b in pairs)


def _plain(rows: pa.Table) -> pa.Table:
    """The rows with columns by name and without dictionaries: those are in any order."""
    columns = {name: rows[name] for name in sorted(rows.column_names)}
    return pa.table({n: c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for n, c in columns.items()})


def _tables(version: Version) -> list[str]:
    return version.tables["data_columns"]["table_name"].unique().to_pylist()  # type: ignore[no-any-return]
