"""Versions of a store: which there are, what one holds that another does not, and the way back to one."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import ArgumentError, VersionNotFoundError
from backtestr.instants import Instant, to_iso, to_ns
from backtestr.models import VersionDiff
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.listing import Listing
from backtestr.storage.retained import read_retained
from backtestr.storage.snapshot import SMALL_TABLES, Version

HISTORY = pa.schema(
    [
        pa.field("lsn", pa.int64(), nullable=False),
        pa.field("committed_utc", pa.timestamp("ns", "UTC"), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("files_added", pa.int64(), nullable=False),
        pa.field("files_removed", pa.int64(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("note", pa.string(), nullable=False),
    ]
)
"""A row per commit; ``note`` is JSON."""
_OWN = {"tags"}
"""Small tables that are about versions, so no version's return takes them back."""


@contextlib.contextmanager
def held_version(storage: Storage, current: Version, when: int | Instant) -> Iterator[Version]:
    """The version of an LSN, at an instant, or of a tag, among those up to ``current``; its files stay meanwhile.

    Raises:
        VersionNotFoundError: there is none.
        ArgumentError: ``when`` is none of the three.
    """
    lowest = when if isinstance(when, int) and 0 < when <= current.lsn else 0
    with contextlib.ExitStack() as held:
        # A clean-up says what is left before it looks at leases: this one is seen, or what goes is refused here.
        with storage.lease.holding(lowest):
            version = _version_at(storage, current, when)
            held.enter_context(storage.lease.holding(version.lsn))
        yield version


def _version_at(storage: Storage, current: Version, when: int | Instant) -> Version:
    if isinstance(when, bool):
        raise ArgumentError(f"{when!r}: give an LSN, an instant or a tag")
    tags = {str(row["name"]): int(str(row["lsn"])) for row in current.rows_of("tags")}
    if isinstance(when, str) and when in tags:
        when = tags[when]
    left = read_retained(storage.layout)
    is_older = f"is older than what the retention keeps; the oldest is {left.lsn}, of {to_iso(left.time_ns)}"
    if isinstance(when, int):
        if not 1 <= when <= current.lsn:
            raise VersionNotFoundError(
                f"no version {when}; the store has {left.lsn} to {current.lsn}, see store.history()"
            )
        if when == current.lsn:
            return current
        if not left.has(when):
            raise VersionNotFoundError(f"version {when} {is_older}")
        return storage.journal.past(lsn=when)
    try:
        instant = to_ns(when, argument="at")
    except ArgumentError:
        if isinstance(when, str):
            known = ", ".join(sorted(tags)) or "none"
            raise VersionNotFoundError(f"{when!r} is no tag ({known}) and no instant") from None
        raise
    if instant >= current.time_ns:
        return current
    if instant < left.time_ns:
        raise VersionNotFoundError(f"the version at {to_iso(instant)} {is_older}")
    version = storage.journal.past(time_ns=instant)
    if version.lsn == 0:
        raise VersionNotFoundError(f"the store has no version at {to_iso(instant)}; its first is younger")
    return version


def read_history(storage: Storage, current: Version) -> pa.Table:
    """A row of `HISTORY` for each commit up to a version, oldest first."""
    tags: dict[int, list[str]] = {}
    for row in current.rows_of("tags"):
        tags.setdefault(int(str(row["lsn"])), []).append(str(row["name"]))
    rows = [
        {
            "lsn": lsn,
            "committed_utc": time_ns,
            "kind": commit.kind,
            "files_added": commit.added.num_rows,
            "files_removed": len(commit.removed),
            "tags": sorted(tags.get(lsn, [])),
            "note": json.dumps(dict(commit.note)),
        }
        for lsn, time_ns, commit in itertools.chain.from_iterable(storage.journal.records())
        if lsn <= current.lsn
    ]
    return pa.Table.from_pylist(rows, HISTORY)


def tag_version(storage: Storage, name: str, version: Version) -> int:
    """Name a version, as one commit; returns its LSN.

    Raises:
        ArgumentError: the name is empty, looks like an instant, or names another version.
    """
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(f"{name!r}: a tag is a name")
    if _is_instant(name):
        raise ArgumentError(f"{name!r} reads as an instant; choose another name")
    for row in storage.journal.version.rows_of("tags"):
        if row["name"] == name and row["lsn"] != version.lsn:
            raise ArgumentError(f"tag {name!r} names version {row['lsn']}; choose another name")
    rows = pa.table({"name": [name], "lsn": [version.lsn]}, schema=SMALL_TABLES["tags"][0])
    storage.journal.commit(Commit("tag", rows={"tags": rows}, note={"tag": name, "lsn": version.lsn}))
    return version.lsn


def untag_version(storage: Storage, name: str) -> None:
    """Take a name from its version, as one commit.

    Raises:
        VersionNotFoundError: there is no such tag.
    """
    tags = storage.journal.begin().tables["tags"]
    if name not in tags["name"].to_pylist():
        known = ", ".join(sorted(tags["name"].to_pylist())) or "none"
        raise VersionNotFoundError(f"{name!r} is no tag ({known})")
    left = tags.filter(pc.not_equal(tags["name"], name))
    storage.journal.commit(Commit("untag", whole={"tags": left}, note={"tag": name}))


def _is_instant(text: str) -> bool:
    try:
        to_ns(text)
    except ArgumentError:
        return False
    return True


def revert_to(storage: Storage, version: Version) -> Version:
    """Make everything as it was at a version, as one commit on top; nothing between is lost.

    The caller flushed the newest version, and lets no rows in.
    """
    current = storage.journal.settle()
    back = {*version.file_by_id} - {*current.file_by_id}
    gone = {*current.file_by_id} - {*version.file_by_id}
    whole = {
        name: rows
        for name, rows in version.tables.items()
        if name not in _OWN and not rows.equals(current.tables[name])
    }
    if not back and not gone and not whole and not version.live:
        return current
    commit = Commit(
        "revert",
        added=_listed(version, back),
        index=version.listing.of_files(back),
        removed=tuple(sorted(gone)),
        whole=whole,
        live=version.live.tables(),
        settles=current.lsn,
        note={"to": version.lsn},
    )
    return storage.journal.commit(commit)


def compare(storage: Storage, old: Version, new: Version, in_files: Callable[[Version], Version]) -> VersionDiff:
    """What changed from one version to another, row by row; only files that one of them lacks are read.

    Args:
        storage: the open store.
        old: the one.
        new: the other.
        in_files: gives a version whose live rows are in files.
    """
    before, after = in_files(old), in_files(new)
    lost = _only(before, {*before.file_by_id} - {*after.file_by_id})
    came = _only(after, {*after.file_by_id} - {*before.file_by_id})
    gained: dict[str, int] = {}
    removed: dict[str, int] = {}
    bars: dict[str, int] = {}
    with contextlib.closing(duckdb.connect()) as connection:
        for symbol in sorted({*_names(lost), *_names(came)}):
            less, more = (storage.reader.ticks(version, [symbol]) for version in (lost, came))
            gained[symbol] = _count(connection, _ROWS, more, less)
            removed[symbol] = _count(connection, _ROWS, less, more)
            less, more = (_bars(storage, version, symbol) for version in (lost, came))
            bars[symbol] = _count(connection, _KEYS, less, more)
    return VersionDiff(
        old_lsn=old.lsn,
        new_lsn=new.lsn,
        files_added=len({*new.file_by_id} - {*old.file_by_id}),
        files_removed=len({*old.file_by_id} - {*new.file_by_id}),
        ticks_added={symbol: count for symbol, count in gained.items() if count},
        ticks_removed={symbol: count for symbol, count in removed.items() if count},
        bars_changed={symbol: count for symbol, count in bars.items() if count},
        symbols_added=tuple(sorted({*new.symbols} - {*old.symbols})),
        symbols_removed=tuple(sorted({*old.symbols} - {*new.symbols})),
    )


_ROWS = "select count(*) from (from a except all from b)"
_KEYS = """
select count(distinct (timeframe, price_basis, timestamp_utc))
from ((from a except from b) union all (from b except from a))
"""


def _only(version: Version, file_ids: set[str]) -> Version:
    return replace(version, listing=Listing.of(_listed(version, file_ids), version.listing.of_files(file_ids)))


def _listed(version: Version, file_ids: set[str]) -> pa.Table:
    return version.files.filter(pc.is_in(version.files["file_id"], pa.array(list(file_ids), pa.string())))


def _names(version: Version) -> list[str]:
    return version.listing.rows(["symbol"])["symbol"].unique().to_pylist()  # type: ignore[no-any-return]


def _bars(storage: Storage, version: Version, symbol: str) -> pa.Table:
    keys = version.listing.of_symbols([symbol], ["timeframe", "price_basis"])
    pairs = keys.drop_null().group_by(keys.column_names).aggregate([]).to_pylist()
    parts = [storage.reader.bars(version, [symbol], pair["timeframe"], pair["price_basis"]) for pair in pairs]
    return pa.concat_tables(parts or [storage.reader.bars(version, [], "1m", "trade")])


def _count(connection: duckdb.DuckDBPyConnection, sql: str, a: pa.Table, b: pa.Table) -> int:
    for name, rows in (("a", a), ("b", b)):
        # as integers: the engine rounds instants with a zone to µs
        instants = rows["timestamp_utc"].cast(pa.int64())
        position = rows.schema.get_field_index("timestamp_utc")
        connection.register(name, rows.set_column(position, "timestamp_utc", instants))
    return int(connection.execute(sql).fetchall()[0][0])
