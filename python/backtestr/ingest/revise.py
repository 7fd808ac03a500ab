"""Taking back what was stored: delete by range, correct and cancel by key, each one commit with its bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from backtestr._native import TickValidator, sort_ticks
from backtestr.errors import ArgumentError, InvalidTickError, SymbolNotFoundError
from backtestr.ingest.change import Change, Touched, commit_change, complete, touch
from backtestr.ingest.dedup import KEY, VALUES, Removed, column, pair
from backtestr.models import ReviseReport, ValidationRules
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage import Storage
from backtestr.storage.layout import intervals
from backtestr.storage.read import Located
from backtestr.storage.snapshot import Version


def delete_rows(
    storage: Storage, symbols: str | Iterable[str], start: int | None, end: int | None, *, dry_run: bool
) -> ReviseReport:
    """Remove the ticks of symbols in [start, end) ns.

    Raises:
        SymbolNotFoundError: no such symbol.
    """
    base = storage.journal.begin()
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    for name in names:
        if name not in base.symbols:
            raise SymbolNotFoundError(f"no symbol {name!r} in the store; store.symbols() lists them")
    located = Located.join([storage.reader.located(base, name, start, end) for name in names])
    return _revise(storage, base, "delete", located, TICK_SCHEMA.empty_table(), dry_run=dry_run)


def correct_rows(storage: Storage, rows: object, replacing: object | None) -> ReviseReport:
    """Replace stored rows; see `backtestr.Store.correct`."""
    base = storage.journal.begin()
    new = _canonical(base, rows)
    old = new if replacing is None else _canonical(base, replacing)
    if old.num_rows != new.num_rows:
        raise ArgumentError(f"correct: {new.num_rows} rows for replacing= of {old.num_rows}; give one for each")
    located = _find(storage, base, old, by_value=replacing is not None)
    return _revise(storage, base, "correct", located, new)


def cancel_rows(storage: Storage, rows: object) -> ReviseReport:
    """Remove stored rows; see `backtestr.Store.cancel`."""
    base = storage.journal.begin()
    old = _canonical(base, rows)
    numbered = _numbers_rows(base, old)
    located = _find(storage, base, old, by_value=not numbered)
    return _revise(storage, base, "cancel", located, TICK_SCHEMA.empty_table())


def _revise(
    storage: Storage, base: Version, kind: str, located: Located, new: pa.Table, *, dry_run: bool = False
) -> ReviseReport:
    removed, touched = Removed(), dict[str, Touched]()
    removed.add(located, np.arange(located.rows.num_rows))
    touch(touched, located.rows, -1)
    touch(touched, new)
    version = base
    if not dry_run and (located.rows.num_rows or new.num_rows):
        change = Change(kind, touched, removed, note={"rows": located.rows.num_rows})
        version, _ = commit_change(storage, base, change, _by_interval(new))
    return ReviseReport(
        kind=kind,
        removed=located.rows.num_rows,
        added=new.num_rows,
        symbols=tuple(sorted(touched)),
        first=min((t.low for t in touched.values()), default=None),
        last=max((t.high for t in touched.values()), default=None),
        lsn=version.lsn,
        dry_run=dry_run,
    )


def _by_interval(rows: pa.Table) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    if rows.num_rows == 0:
        return
    rows = sort_ticks(rows)
    days = rows["timestamp_utc"].to_numpy().astype("datetime64[D]").astype(np.int64)
    unique, inverse, counts = np.unique(days, return_inverse=True, return_counts=True)
    labels = intervals(unique, counts, 0.0, 1)
    for label in sorted(set(labels.values())):
        mine = np.array([labels[day] == label for day in unique.tolist()])[inverse]
        yield label, iter([rows.filter(pa.array(mine))])


def _canonical(base: Version, data: object) -> pa.Table:
    """Rows as stored ones.

    Raises:
        InvalidTickError: a row would be rejected.
        SymbolNotFoundError: a symbol is not stored.
    """
    table = pa.table(data)
    accepted, rejected, counts = TickValidator(rules=ValidationRules(reject=frozenset())).validate(table)
    if rejected.num_rows:
        raise InvalidTickError(f"row {rejected['row'][0].as_py()} of the rows given cannot be stored: {dict(counts)}")
    owners = {str(row["symbol"]): int(str(row["feed_id"])) for row in base.rows_of("symbol_feeds")}
    for name in accepted["symbol"].unique().to_pylist():
        if name not in owners:
            raise SymbolNotFoundError(f"no symbol {name!r} in the store; store.symbols() lists them")
    if "sequence" not in accepted.column_names:
        raise ArgumentError("the rows need their sequence column, as store.ticks() returns it")
    if "feed_id" not in accepted.column_names:
        feeds = pa.array([owners[name] for name in accepted["symbol"].to_pylist()], pa.uint16())
        accepted = accepted.append_column("feed_id", feeds)
    return complete(accepted)


def _numbers_rows(base: Version, rows: pa.Table) -> bool:
    unique = {int(str(row["id"])): bool(row["row_unique_sequence"]) for row in base.rows_of("feeds")}
    return all(unique[feed] for feed in rows["feed_id"].unique().to_pylist())


def _find(storage: Storage, base: Version, rows: pa.Table, *, by_value: bool) -> Located:
    """The stored row of each given row.

    Raises:
        InvalidTickError: one is not stored.
        ArgumentError: the feed does not number its rows, and no values were given to go by.
    """
    if not by_value and not _numbers_rows(base, rows):
        raise ArgumentError("this feed does not number its rows: pass the stored rows as replacing=")
    located = Located.join([storage.reader.located(base, name) for name in rows["symbol"].unique().to_pylist()])
    if by_value:
        copies = f"row_number() over (partition by {', '.join(VALUES)}, origin order by sequence, row) as copy"
        pairs = pair(rows, located.rows, copies, [*VALUES, "copy"])
    else:
        pairs = pair(rows, located.rows, "tick_type = 0 as class", KEY)
    wanted = pairs.filter("new_row is not null")
    missing = column(wanted.filter("old_row is null"), "new_row")
    if len(missing):
        row = rows.slice(int(missing.min()), 1).to_pylist()[0]
        raise InvalidTickError(
            f"{len(missing)} rows are not stored, such as {row['symbol']!r} at {row['timestamp_utc']}"
        )
    which = np.sort(column(wanted, "old_row"))
    return Located(located.rows.take(pa.array(which)), located.file_ids, located.file[which], located.row[which])
