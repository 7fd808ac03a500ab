"""What a load or a revision did, and what a store holds."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from backtestr.instants import to_datetime, to_iso, to_ns

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendReport:
    """Counts of an append: rows in = accepted + rejected + duplicate. Its rows are durable.

    Args:
        feed: identity the rows are deduplicated under.
        rows_in: rows given.
        accepted: rows stored.
        rejected: rows in quarantine.
        duplicate: rows that were there already; all of them where the batch was.
        reasons: rows per rejecting reason; a row may have several.
        flags: rows per reason that only counts.
        lsn: the commit that has the rows.

    Example:
        >>> AppendReport(feed="live", rows_in=3, accepted=2, rejected=1, lsn=7).is_reconciled
        True
    """

    feed: str
    rows_in: int
    accepted: int
    rejected: int = 0
    duplicate: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict, hash=False)
    flags: Mapping[str, int] = field(default_factory=dict, hash=False)
    lsn: int

    @property
    def is_reconciled(self) -> bool:
        """Whether rows in = accepted + rejected + duplicate."""
        return self.rows_in == self.accepted + self.rejected + self.duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport:
    """What an append to a relational table did. Its rows are durable.

    Args:
        table: where they are.
        rows_in: rows given.
        rows: rows stored: of several with one key the last; none where the batch was there already.
        rounded: floats with more decimals than their column, rounded half-even, by column.
        lsn: the commit that has the rows.

    Example:
        >>> TableReport(table="orders", rows_in=3, rows=2, lsn=7).rows
        2
    """

    table: str
    rows_in: int
    rows: int
    rounded: Mapping[str, int] = field(default_factory=dict, hash=False)
    lsn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """Counts of a load: rows in = accepted + rejected + duplicate.

    Args:
        source: what was found, for people.
        feed: identity the rows are deduplicated under.
        rows_in: rows read.
        accepted: rows stored.
        rejected: rows in quarantine.
        duplicate: rows that were there already.
        replaced: earlier rows that ``mode="replace"`` took out.
        reasons: rows per rejecting reason; a row may have several.
        flags: rows per reason that only counts.
        skipped: what the source holds besides ticks, by kind; no rows of the count.
        symbols: symbols with accepted rows.
        first: first accepted instant, ns since 1970-01-01 UTC; None without accepted rows.
        last: last accepted instant, ns since 1970-01-01 UTC.
        bytes_on_disk: bytes of the files written.
        files: files written.
        seconds: wall time, in seconds.
        lsn: the store's last commit after it.
        dry_run: whether the load was only tried.

    Example:
        >>> report = IngestReport(source="csv", feed="csv", rows_in=3, accepted=2, rejected=1, seconds=0.5)
        >>> report.ticks_per_s
        6.0
        >>> report.is_reconciled
        True
    """

    source: str
    feed: str
    rows_in: int
    accepted: int
    rejected: int = 0
    duplicate: int = 0
    replaced: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict, hash=False)
    flags: Mapping[str, int] = field(default_factory=dict, hash=False)
    skipped: Mapping[str, int] = field(default_factory=dict, hash=False)
    symbols: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    bytes_on_disk: int = 0
    files: int = 0
    seconds: float = 0.0
    lsn: int | None = None
    dry_run: bool = False

    @property
    def ticks_per_s(self) -> float:
        """Rows read per second of wall time.

        Example:
            >>> IngestReport(source="", feed="", rows_in=10, accepted=10, seconds=2.0).ticks_per_s
            5.0
        """
        return self.rows_in / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_reconciled(self) -> bool:
        """Whether rows in = accepted + rejected + duplicate.

        Example:
            >>> IngestReport(source="", feed="", rows_in=2, accepted=1).is_reconciled
            False
        """
        return self.rows_in == self.accepted + self.rejected + self.duplicate

    @property
    def first_time(self) -> dt.datetime | None:
        """First accepted instant, floored to the microsecond, UTC.

        Example:
            >>> IngestReport(source="", feed="", rows_in=0, accepted=0).first_time is None
            True
        """
        return None if self.first is None else to_datetime(self.first)

    @property
    def last_time(self) -> dt.datetime | None:
        """Last accepted instant, floored to the microsecond, UTC.

        Example:
            >>> IngestReport(source="", feed="", rows_in=1, accepted=1, last=0).last_time.year
            1970
        """
        return None if self.last is None else to_datetime(self.last)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, with ``ticks_per_s``; instants as ISO text.

        Example:
            >>> IngestReport(source="", feed="", rows_in=0, accepted=0, first=0).to_dict()["first"]
            '1970-01-01T00:00:00Z'
        """
        return _plain(self) | {"ticks_per_s": round(self.ticks_per_s, 1)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IngestReport:
        """Build a report from what `to_dict` gave.

        Example:
            >>> report = IngestReport(source="", feed="", rows_in=0, accepted=0, first=0)
            >>> IngestReport.from_dict(report.to_dict()) == report
            True
        """
        taken = {name: value for name, value in values.items() if name != "ticks_per_s"}
        taken["symbols"] = tuple(taken.get("symbols", ()))
        for name in ("first", "last"):
            if taken.get(name) is not None:
                taken[name] = to_ns(taken[name], argument=name)
        return cls(**taken)

    def to_json(self) -> str:
        """The report as a JSON object; see `to_dict`.

        Example:
            >>> IngestReport(source="csv", feed="", rows_in=0, accepted=0).to_json()[:16]
            '{"source": "csv"'
        """
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __str__(self) -> str:
        done = "would store" if self.dry_run else "stored"
        lines = [
            f"{self.source} (feed {self.feed})",
            f"  {self.rows_in:,} rows in = {self.accepted:,} accepted + {self.rejected:,} rejected"
            f" + {self.duplicate:,} duplicate",
        ]
        if self.replaced:
            lines.append(f"  {self.replaced:,} earlier rows replaced")
        lines += [f"  {title}: {_counts(counts)}" for title, counts in self._counted() if counts]
        if self.first is not None and self.last is not None:
            lines.append(f"  {listed(self.symbols)}: {to_iso(self.first)} to {to_iso(self.last)}")
        size = f"{done} {size_text(self.bytes_on_disk)} in {self.files:,} file{'' if self.files == 1 else 's'}"
        commit = "" if self.lsn is None else f", commit {self.lsn}"
        lines.append(f"  {size}, {self.seconds:.2f} s, {self.ticks_per_s:,.0f} ticks/s{commit}")
        return "\n".join(lines)

    def _counted(self) -> list[tuple[str, Mapping[str, int]]]:
        return [("rejected for", self.reasons), ("flagged as", self.flags), ("left out", self.skipped)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviseReport:
    """What a delete, a correction, a cancellation or a new bar specification did.

    Args:
        kind: ``delete``, ``correct``, ``cancel`` or ``bar_spec``.
        removed: rows taken out.
        added: rows put in.
        symbols: symbols that changed.
        first: first instant that changed, ns since 1970-01-01 UTC; None where nothing did.
        last: last instant that changed, ns.
        lsn: the store's last commit after it.
        dry_run: whether it was only tried.

    Example:
        >>> print(ReviseReport(kind="delete", removed=3, symbols=("A",), lsn=7))
        delete: 3 rows removed, 0 added (A), commit 7
    """

    kind: str
    removed: int = 0
    added: int = 0
    symbols: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    lsn: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; instants as ISO text.

        Example:
            >>> ReviseReport(kind="cancel", lsn=1).to_dict()["kind"]
            'cancel'
        """
        return _plain(self)

    def __str__(self) -> str:
        trial = " (tried only)" if self.dry_run else f", commit {self.lsn}"
        return f"{self.kind}: {self.removed:,} rows removed, {self.added:,} added ({listed(self.symbols)}){trial}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a store holds.

    Args:
        path: its folder.
        lsn: its last commit.
        read_only: whether it was opened for reading only.
        symbols: number of symbols.
        ticks: rows of ticks.
        bars: rows of stored bars.
        quarantined: rejected rows kept aside.
        files: live data files.
        live_bytes: their bytes.
        retained_bytes: bytes of data files that the version does not list: those of other versions, until `Store.gc`
            removes them, and strays.
        bytes_on_disk: bytes of the whole folder, dead files and the log included.
        first: first tick, ns since 1970-01-01 UTC; None in an empty store.
        last: last tick, ns.

    Example:
        >>> import backtestr as bt, tempfile
        >>> with bt.open(tempfile.mkdtemp()) as store:
        ...     store.info().ticks
        0
    """

    path: str
    lsn: int
    read_only: bool
    symbols: int
    ticks: int
    bars: int
    quarantined: int
    files: int
    live_bytes: int
    retained_bytes: int
    bytes_on_disk: int
    first: int | None
    last: int | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; instants as ISO text.

        Example:
            >>> import backtestr as bt, tempfile
            >>> with bt.open(tempfile.mkdtemp()) as store:
            ...     store.info().to_dict()["symbols"]
            0
        """
        return _plain(self)

    def __str__(self) -> str:
        lines = [
            f"store {self.path}, commit {self.lsn}" + (", read-only" if self.read_only else ""),
            f"  {self.ticks:,} ticks of {self.symbols:,} symbols, {self.bars:,} stored bars, "
            f"{self.quarantined:,} in quarantine",
            f"  {size_text(self.live_bytes)} in {self.files:,} files; "
            f"{size_text(self.retained_bytes)} of other versions, {size_text(self.bytes_on_disk)} on disk in all",
        ]
        if self.first is not None and self.last is not None:
            lines.append(f"  from {to_iso(self.first)} to {to_iso(self.last)}")
        return "\n".join(lines)


def _plain(report: IngestReport | ReviseReport | StoreInfo) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in fields(report):
        value = getattr(report, item.name)
        if isinstance(value, tuple):
            value = list(value)
        values[item.name] = dict(value) if isinstance(value, Mapping) else value
    for name in ("first", "last"):
        if values[name] is not None:
            values[name] = to_iso(values[name])
    return values


def _counts(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ranked)


def listed(symbols: Sequence[str]) -> str:
    """The first symbols of several, for people."""
    shown = ", ".join(symbols[:5])
    return shown if len(symbols) <= 5 else f"{shown} and {len(symbols) - 5:,} more"


def size_text(count: int) -> str:
    """A count of bytes for people."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """What one version of a store holds that another does not.

    Args:
        old_lsn: the version compared with.
        new_lsn: the version compared.
        files_added: data files that only the new version has.
        files_removed: data files that only the old version has.
        ticks_added: rows that only the new version has, by symbol; a corrected row counts on both sides.
        ticks_removed: rows that only the old version has, by symbol.
        bars_changed: stored bars that came, went or differ, by symbol, of all timeframes.
        symbols_added: symbols with ticks in the new version alone.
        symbols_removed: symbols with ticks in the old version alone.
    """

    old_lsn: int
    new_lsn: int
    files_added: int
    files_removed: int
    ticks_added: Mapping[str, int] = field(default_factory=dict, hash=False)
    ticks_removed: Mapping[str, int] = field(default_factory=dict, hash=False)
    bars_changed: Mapping[str, int] = field(default_factory=dict, hash=False)
    symbols_added: tuple[str, ...] = ()
    symbols_removed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types.

        Example:
            >>> VersionDiff(old_lsn=1, new_lsn=2, files_added=0, files_removed=0).to_dict()["new_lsn"]
            2
        """
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
        }
