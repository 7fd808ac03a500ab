"""What is wrong with a store, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from backtestr.models.report import size_text

_SHOWN = 20


class Problem(NamedTuple):
    """One thing that is wrong with a store.

    Attributes:
        kind: ``identity``, ``log``, ``snapshot``, ``missing`` (a listed file is not there), ``damaged`` (its bytes are
            not those committed), ``content`` (its rows are not what the log says) or ``bars`` (not those of the ticks).
        path: the file or folder, relative to the store.
        message: what is wrong.
        symbols: whose rows it concerns.
    """

    kind: str
    path: str
    message: str
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification looked at, and what it found.

    Args:
        path: the store's folder.
        lsn: the version whose files were checked.
        deep: whether stored bars were compared with the ticks.
        problems: what is wrong.
        orphans: files that no version lists, relative to the store; no problem, `repair` removes them.
        commits: records read from the log.
        snapshots: snapshots that are in order.
        files: data files of the version.
        rows: rows read from them.
        bytes: bytes read from them.
        past_files: files that only earlier versions list, whose bytes were checked.
        past_missing: files that only earlier versions list and that are gone; no problem, they were let go.
        bars_compared: stored bars that were compared with the ticks.
        seconds: wall time, in seconds.

    Example:
        >>> VerifyReport(path="market", lsn=7, files=3, rows=1000, problems=(Problem("log", "log", "cut"),)).ok
        False
    """

    path: str
    lsn: int
    deep: bool = False
    problems: tuple[Problem, ...] = ()
    orphans: tuple[str, ...] = ()
    commits: int = 0
    snapshots: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    past_files: int = 0
    past_missing: int = 0
    bars_compared: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong.

        Example:
            >>> VerifyReport(path="market", lsn=7).ok
            True
        """
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types, with ``ok``.

        Example:
            >>> VerifyReport(path="market", lsn=7).to_dict()["ok"]
            True
        """
        return {"ok": self.ok} | _plain(self)

    def __str__(self) -> str:
        found = "in order" if self.ok else f"{len(self.problems):,} problem{'' if len(self.problems) == 1 else 's'}"
        lines = [
            f"store {self.path}, commit {self.lsn}: {found}",
            f"  {self.rows:,} rows in {self.files:,} files, {self.commits:,} commits, {self.snapshots:,} snapshots, "
            f"{self.past_files:,} files of earlier versions, {self.seconds:.2f} s",
        ]
        if self.deep:
            lines.append(f"  {self.bars_compared:,} stored bars compared with their ticks")
        if self.orphans:
            lines.append(f"  {len(self.orphans):,} files that no version lists")
        return "\n".join([*lines, *_listed(self.problems)])


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did, and what it could not.

    Args:
        path: the store's folder.
        lsn: the store's last commit after it.
        removed: snapshots, empty files and orphans taken away, relative to the store.
        rebuilt: damaged files of bars whose bars were made anew from the ticks.
        symbols: symbols whose bars were made anew.
        problems: what is still wrong.
        orphans_kept: orphans that stay, too young to be told from a write that goes on.
        dry_run: whether it was only tried.

    Example:
        >>> RepairReport(path="market", lsn=7, removed=("snapshots/x.snapshot",)).ok
        True
    """

    path: str
    lsn: int
    removed: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    orphans_kept: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is left that is wrong.

        Example:
            >>> RepairReport(path="market", lsn=7).ok
            True
        """
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types, with ``ok``.

        Example:
            >>> RepairReport(path="market", lsn=7).to_dict()["removed"]
            []
        """
        return {"ok": self.ok} | _plain(self)

    def __str__(self) -> str:
        does = "would remove" if self.dry_run else "removed"
        makes = "would rebuild" if self.dry_run else "rebuilt"
        left = "nothing is left to repair" if self.ok else f"{len(self.problems):,} left that it cannot repair"
        lines = [f"store {self.path}, commit {self.lsn}: {left}"]
        lines += [f"  {does} {path}" for path in self.removed[:_SHOWN]]
        if len(self.removed) > _SHOWN:
            lines.append(f"  {does} {len(self.removed) - _SHOWN:,} more")
        if self.symbols:
            lines.append(f"  {makes} bars of {len(self.symbols):,} symbols, {len(self.rebuilt):,} files")
        if self.orphans_kept:
            lines.append(f"  {len(self.orphans_kept):,} files that no version lists stay: too young")
        return "\n".join([*lines, *_listed(self.problems)])


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What a clean-up removed, and what it kept.

    Args:
        path: the store's folder.
        lsn: the store's last commit.
        oldest_lsn: the oldest version from which on all can be read.
        files: data files removed that only versions before it list.
        orphans: files removed that no version lists.
        segments: segments of the log removed.
        snapshots: snapshots removed.
        leases: leases removed whose process is gone.
        bytes: bytes of all that was removed.
        held_by_retention: data files that the newest version does not list and a retained one does.
        held_by_tags: data files that only a tagged version lists.
        held_by_leases: data files that only an open store still reads.
        readers: open stores beside this one.
        dry_run: whether it was only tried.

    Example:
        >>> print(GcReport(path="market", lsn=9, oldest_lsn=7, files=2, bytes=2048, held_by_tags=1))
        store market, commit 9: removed 2.0 KiB; versions from 7 on can be read
          removed 2 data files, 0 files that no version lists, 0 log segments, 0 snapshots, 0 leases
          kept 0 data files for retention, 1 for tags, 0 for 0 open stores
    """

    path: str
    lsn: int
    oldest_lsn: int
    files: int = 0
    orphans: int = 0
    segments: int = 0
    snapshots: int = 0
    leases: int = 0
    bytes: int = 0
    held_by_retention: int = 0
    held_by_tags: int = 0
    held_by_leases: int = 0
    readers: int = 0
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types.

        Example:
            >>> GcReport(path="market", lsn=9, oldest_lsn=7).to_dict()["oldest_lsn"]
            7
        """
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __str__(self) -> str:
        does = "would remove" if self.dry_run else "removed"
        return (
            f"store {self.path}, commit {self.lsn}: {does} {size_text(self.bytes)}; "
            f"versions from {self.oldest_lsn} on can be read\n"
            f"  {does} {self.files:,} data files, {self.orphans:,} files that no version lists, "
            f"{self.segments:,} log segments, {self.snapshots:,} snapshots, {self.leases:,} leases\n"
            f"  kept {self.held_by_retention:,} data files for retention, {self.held_by_tags:,} for tags, "
            f"{self.held_by_leases:,} for {self.readers:,} open stores"
        )


def _plain(report: VerifyReport | RepairReport) -> dict[str, Any]:
    values = {item.name: getattr(report, item.name) for item in fields(report)}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return plain | {"problems": [one._asdict() | {"symbols": list(one.symbols)} for one in report.problems]}


def _listed(problems: tuple[Problem, ...]) -> list[str]:
    lines = [f"  {one.kind}: {one.path}: {one.message}" for one in problems[:_SHOWN]]
    return lines + ([f"  and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else [])
