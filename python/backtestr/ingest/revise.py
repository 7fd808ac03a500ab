"""Taking back what was stored: delete by range, correct and cancel by key, each one commit with its bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtestr._native import TickValidator, complete_ticks, sort_ticks
from backtestr.errors import ArgumentError, InvalidTickError, SequenceConflictError
from backtestr.ingest.change import Addition, Change, Touched, commit_change, touch
from backtestr.ingest.dedup import Merge
from backtestr.ingest.feeds import Feeds
from backtestr.ingest.flush import flush
from backtestr.ingest.identity import Removed, pair_by_key, pair_by_value, scratch
from backtestr.ingest.spool import split_intervals
from backtestr.instants import to_iso
from backtestr.models import BarSpec, ReviseReport, ValidationRules
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage import Storage
from backtestr.storage.keys import symbol_names
from backtestr.storage.read import Located
from backtestr.storage.snapshot import BAR_SPEC, Version
from backtestr.storage.ties import sort_as_stored


def delete_rows(
    storage: Storage, symbols: str | Iterable[str], start: int | None, end: int | None, *, dry_run: bool
) -> ReviseReport:
    """Remove the ticks of symbols in [start, end) ns.

    Raises:
        SymbolNotFoundError: no such symbol.
    """
    base = flush(storage)
    if symbols is None:
        raise ArgumentError("delete: name the symbols; store.symbols() lists them")
    located = Located.join([storage.reader.located(base, name, start, end) for name in base.known(symbols)])
    return _revise(storage, base, "delete", located, TICK_SCHEMA.empty_table(), dry_run=dry_run)


def correct_rows(storage: Storage, rows: object, replacing: object | None, *, dry_run: bool) -> ReviseReport:
    """Replace stored rows; see `backtestr.Store.correct`."""
    base = flush(storage)
    new = _canonical(base, rows)
    old = new if replacing is None else _canonical(base, replacing)
    if old.num_rows != new.num_rows:
        raise ArgumentError(f"correct: {new.num_rows} rows for replacing= of {old.num_rows}; give one for each")
    if replacing is None and not _numbers_rows(base, old):
        raise ArgumentError("this feed does not number its rows: pass the stored rows as replacing=")
    located = _find(storage, base, old, by_value=replacing is not None)
    return _revise(storage, base, "correct", located, new, dry_run=dry_run)


def cancel_rows(storage: Storage, rows: object, *, dry_run: bool) -> ReviseReport:
    """Remove stored rows; see `backtestr.Store.cancel`."""
    base = flush(storage)
    old = _canonical(base, rows)
    located = _find(storage, base, old, by_value=not _numbers_rows(base, old))
    return _revise(storage, base, "cancel", located, TICK_SCHEMA.empty_table(), dry_run=dry_run)


def set_bar_spec(storage: Storage, spec: BarSpec) -> ReviseReport:
    """Put a bar specification in force and rebuild all bars by it; see `backtestr.Store.set_bar_spec`."""
    base = flush(storage)
    version, touched = base, dict[str, Touched]()
    if spec != base.bar_spec:
        touched = {name: Touched(row["min_ns"], row["max_ns"]) for name, row in base.symbols.items()}
        rows = {
            "bar_specs": pa.table({"spec_id": [spec.spec_id], "spec": [spec.to_json()]}),
            "store_settings": pa.table({"name": [BAR_SPEC], "value": [spec.spec_id]}),
        }
        change = Change("bar_spec", touched, Removed(), rows, note={"spec_id": spec.spec_id}, spec=spec)
        version, _ = commit_change(storage, base, change, ())
    return _report("bar_spec", touched, 0, 0, version, dry_run=False)


def _revise(
    storage: Storage, base: Version, kind: str, located: Located, new: pa.Table, *, dry_run: bool
) -> ReviseReport:
    removed, touched = Removed(), dict[str, Touched]()
    removed.add(located, np.arange(located.rows.num_rows))
    touch(touched, located.rows, -1)
    touch(touched, new)
    _refuse_taken_keys(storage, base, removed, new)
    version = base
    if not dry_run and (located.rows.num_rows or new.num_rows):
        change = Change(kind, touched, removed, note={"rows": located.rows.num_rows})
        version, _ = commit_change(storage, base, change, _by_interval(sort_as_stored(new, base)))
    return _report(kind, touched, located.rows.num_rows, new.num_rows, version, dry_run=dry_run)


def _report(
    kind: str, touched: Mapping[str, Touched], removed: int, added: int, version: Version, *, dry_run: bool
) -> ReviseReport:
    return ReviseReport(
        kind=kind,
        removed=removed,
        added=added,
        symbols=tuple(sorted(touched)),
        first=min((t.low for t in touched.values()), default=None),
        last=max((t.high for t in touched.values()), default=None),
        lsn=version.lsn,
        dry_run=dry_run,
    )


def _refuse_taken_keys(storage: Storage, base: Version, removed: Removed, new: pa.Table) -> None:
    """Refuse corrected rows whose key another stored row has, or two of them share.

    Raises:
        SequenceConflictError: names the key.
    """
    unique = [feed for feed, is_numbered in Feeds.of(base).numbered.items() if is_numbered]
    mine = new.filter(pc.is_in(new["feed_id"], pa.array(unique, pa.uint16())))
    if mine.num_rows:
        merge = Merge(storage, base, row_unique=True, removed=removed)
        if merge.filter(sort_ticks(mine)).num_rows != mine.num_rows:
            raise SequenceConflictError("correct: two rows have one key; a feed that numbers its rows has each once")


def _by_interval(rows: pa.Table) -> Iterator[Addition]:
    if rows.num_rows:
        for label, mine in split_intervals(rows, 0.0, 1):
            yield Addition(label, iter([mine]))


def _canonical(base: Version, data: object) -> pa.Table:
    """Rows as stored ones.

    Raises:
        InvalidTickError: a row would be rejected.
        SymbolNotFoundError: a symbol is not stored.
    """
    table = pa.table(data)
    accepted, rejected, counts = TickValidator(rules=ValidationRules(reject=frozenset())).validate(table)
    if rejected is not None:
        raise InvalidTickError(f"row {rejected['row'][0].as_py()} of the rows given cannot be stored: {dict(counts)}")
    owners = Feeds.of(base).owners
    for name in base.known(symbol_names(accepted)):
        if "feed_id" not in accepted.column_names and len(owners[name]) > 1:
            raise ArgumentError(f"{name!r} has rows of several feeds: give the rows their feed_id column")
    if "sequence" not in accepted.column_names:
        raise ArgumentError("the rows need their sequence column, as store.ticks() returns it")
    if "feed_id" not in accepted.column_names:
        feeds = pa.array([min(owners[name]) for name in accepted["symbol"].to_pylist()], pa.uint16())
        accepted = accepted.append_column("feed_id", feeds)
    return complete_ticks(accepted)


def _numbers_rows(base: Version, rows: pa.Table) -> bool:
    """Whether the rows' feeds number them.

    Raises:
        ArgumentError: a feed is not known, or some number their rows and some do not.
    """
    numbered = Feeds.of(base).numbered
    feeds = rows["feed_id"].unique().to_pylist()
    for feed in feeds:
        if feed not in numbered:
            raise ArgumentError(f"feed_id {feed} is none of the store's; select them from the table feeds")
    kinds = {numbered[feed] for feed in feeds}
    if len(kinds) > 1:
        raise ArgumentError("some of the rows' feeds number their rows and some do not; give the rows of one at a time")
    return kinds != {False}


def _find(storage: Storage, base: Version, rows: pa.Table, *, by_value: bool) -> Located:
    """The stored row of each given row; by value, the copy with the same sequence goes first.

    Raises:
        InvalidTickError: one is not stored.
    """
    located = Located.join([storage.reader.located(base, name) for name in symbol_names(rows)])
    with scratch(storage) as connection:
        pairs = (pair_by_value if by_value else pair_by_key)(connection, rows, located.rows)
    wanted = pairs.filter(pc.is_valid(pairs["new_row"]))
    missing = wanted.filter(pc.is_null(wanted["old_row"]))["new_row"].to_numpy()
    if len(missing):
        at = int(missing.min())
        when = to_iso(int(rows["timestamp_utc"].cast(pa.int64())[at].as_py()))
        raise InvalidTickError(
            f"{len(missing)} rows are not stored, such as {rows['symbol'][at].as_py()!r} at {when}, "
            f"sequence {rows['sequence'][at].as_py()}"
        )
    if not by_value and wanted.num_rows != rows.num_rows:
        raise InvalidTickError("two of the rows given have one key; give each row once")
    which = np.sort(wanted["old_row"].to_numpy())
    return Located(located.rows.take(pa.array(which)), located.file_ids, located.file[which], located.row[which])
