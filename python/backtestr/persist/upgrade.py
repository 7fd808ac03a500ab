"""A store's schema: where it stands, and the way to another version of it, up or down, as one commit."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtestr.errors import ArgumentError, MigrationMissingError, MigrationModifiedError, MigrationOrderError
from backtestr.models import MigrationReport, MigrationStatus, MigrationStep
from backtestr.persist import migrate
from backtestr.persist.migrate import Migration, applied_rows
from backtestr.persist.rehearse import Rehearsal, Step, rehearse
from backtestr.storage import Storage
from backtestr.storage.commit import Commit
from backtestr.storage.session import write_empty_files
from backtestr.storage.snapshot import Version


class Migrations:
    """The migrations of an open store: ``store.migrations``.

    Example:
        >>> import backtestr as bt, tempfile
        >>> with bt.open(tempfile.mkdtemp()) as store:
        ...     [one.state for one in store.migrations.status()], store.migrations.plan().steps
        (['applied', 'applied'], ())
    """

    def __init__(
        self,
        readable: Callable[[], Storage],
        changing: Callable[[], contextlib.AbstractContextManager[Storage]],
        version: Callable[[], Version],
    ) -> None:
        self._readable = readable
        self._changing = changing
        self._version = version

    def status(self) -> list[MigrationStatus]:
        """Every migration that the store applied or this release has, by number."""
        return migration_status(self._version())

    def plan(self, to: int | None = None) -> MigrationReport:
        """What `up` or `down` to a version would run; it is tried on a copy of the schema, and nothing is written.

        Args:
            to: number of the last migration to be applied then; None for the newest, 0 for none.

        Raises:
            MigrationError: it cannot be run; says why.
        """
        storage, version = self._readable(), self._version()
        return _report(storage, version, _rehearsed(version, _chosen(version, to)), dry_run=True)

    def up(self, to: int | None = None, *, dry_run: bool = False) -> MigrationReport:
        """Apply the migrations that are pending, all of them or none, as one commit.

        Args:
            to: number of the last one to apply; None for the newest.
            dry_run: the same as `plan`.

        Raises:
            ArgumentError: no such version, or one that lies below.
            MigrationModifiedError: an applied migration was edited since.
            MigrationMissingError: an applied migration is not in this release.
            MigrationOrderError: a migration below the newest applied one was never applied.
            MigrationError: it fails, or the release could not work with the result.
            StoreLockedError: another process writes.
        """
        return self._move("up", to, dry_run=dry_run)

    def down(self, to: int | None = None, *, dry_run: bool = False) -> MigrationReport:
        """Undo the newest migrations, all of them or none, as one commit.

        Args:
            to: number of the last migration to keep; None undoes one.
            dry_run: the same as `plan`.

        Raises:
            ArgumentError: no such version, or one that lies above.
            MigrationIrreversibleError: a migration has no way down.
            MigrationError: as for `up`.
            StoreLockedError: another process writes.
        """
        return self._move("down", to, dry_run=dry_run)

    def _move(self, direction: str, to: int | None, *, dry_run: bool) -> MigrationReport:
        if dry_run:
            version = self._version()
            return _report(
                self._readable(), version, _rehearsed(version, _chosen(version, to, direction)), dry_run=True
            )
        with self._changing() as storage:
            version = storage.journal.begin()
            return _run(storage, version, _chosen(version, to, direction))


def migration_status(version: Version) -> list[MigrationStatus]:
    """What a version of a store has of each migration, by number."""
    known = {migration.version: migration for migration in migrate.shipped()}
    applied = {int(row["version"]): row for row in _applied(version)}
    found = []
    for number in sorted({*known, *applied}):
        row, migration = applied.get(number), known.get(number)
        if row is None:
            state = "pending" if number > version.schema_version else "out of order"
        elif migration is None:
            state = "missing"
        else:
            state = "applied" if row["checksum"] == migration.checksum else "modified"
        name = str(row["name"]) if row is not None else known[number].name
        when = None if row is None else row["applied_utc"].replace(tzinfo=dt.UTC)
        found.append(MigrationStatus(version=number, name=name, state=state, applied_utc=when))
    return found


def _applied(version: Version) -> list[dict[str, Any]]:
    return version.tables["schema_migrations"].to_pylist()  # type: ignore[no-any-return]


def _chosen(version: Version, to: int | None, direction: str | None = None) -> list[tuple[Migration, str]]:
    """The migrations between a version's schema and another, with the direction of each."""
    for one in migration_status(version):
        name = f"migration {one.version:04}_{one.name}"
        if one.state == "modified":
            raise MigrationModifiedError(f"{name} was edited since it was applied; restore its text, add a new one")
        if one.state == "missing":
            raise MigrationMissingError(f"{name} was applied but is not in this release; install one that has it")
        if one.state == "out of order":
            raise MigrationOrderError(
                f"{name} was never applied, but {version.schema_version:04} was; give it a higher number"
            )
    known, head = {one.version: one for one in migrate.shipped()}, version.schema_version
    if to is None:
        below = [number for number in known if number < head]
        to = max(below, default=0) if direction == "down" else max([head, *known])
    if isinstance(to, bool) or not isinstance(to, int) or (to and to not in known):
        raise ArgumentError(f"to={to!r}: no such migration; there are {', '.join(map(str, known))}")
    if direction is not None and (to - head) * (1 if direction == "up" else -1) < 0:
        other = "down" if direction == "up" else "up"
        raise ArgumentError(f"to={to}: the store's schema is {head}; use {other} to get there")
    if to >= head:
        return [(one, "up") for one in known.values() if head < one.version <= to]
    return [(one, "down") for one in reversed(known.values()) if to < one.version <= head]


def _rehearsed(version: Version, chosen: Sequence[tuple[Migration, str]]) -> Rehearsal:
    columns = version.tables["data_columns"]
    steps = [one.step(direction) for one, direction in chosen]
    return rehearse(columns, steps, lsn=version.lsn + 1) if steps else Rehearsal(columns, (), ())


def _run(storage: Storage, version: Version, chosen: Sequence[tuple[Migration, str]]) -> MigrationReport:
    began = time.perf_counter()
    rehearsal = _rehearsed(version, chosen)
    report = _report(storage, version, rehearsal, dry_run=False)
    if not chosen:
        return report
    undone = pa.array([one.version for one, direction in chosen if direction == "down"], pa.int32())
    held = version.tables["schema_migrations"]
    kept = held.filter(pc.invert(pc.is_in(held["version"], undone)))
    applied = pa.concat_tables([kept, applied_rows(one for one, direction in chosen if direction == "up")])
    write_empty_files(storage.layout, rehearsal.columns)
    commit = Commit(
        "migrate",
        whole={"data_columns": rehearsal.columns, "schema_migrations": applied},
        note={"from": report.schema_before, "to": report.schema_after, "steps": rehearsal.noted()},
    )
    lsn = storage.journal.commit(commit).lsn
    return MigrationReport(
        schema_before=report.schema_before,
        schema_after=report.schema_after,
        steps=report.steps,
        seconds=time.perf_counter() - began,
        lsn=lsn,
    )


def _report(storage: Storage, version: Version, rehearsal: Rehearsal, *, dry_run: bool) -> MigrationReport:
    head = after = version.schema_version
    if rehearsal.steps:
        last = rehearsal.steps[-1]
        below = [int(row["version"]) for row in _applied(version) if row["version"] < last.version]
        after = last.version if last.direction == "up" else max(below, default=0)
    past = _past_runs(storage) if rehearsal.steps else {}
    steps = tuple(
        MigrationStep(
            version=step.version, name=step.name, direction=step.direction, estimated_s=_estimated(step, past)
        )
        for step in rehearsal.steps
    )
    return MigrationReport(schema_before=head, schema_after=after, steps=steps, dry_run=dry_run)


def _past_runs(storage: Storage) -> dict[tuple[int, str], list[float]]:
    """Seconds of each run in the store's history, by migration and direction."""
    found: dict[tuple[int, str], list[float]] = {}
    for _, _, commit in itertools.chain.from_iterable(storage.journal.records()):
        if commit.kind in {"create", "migrate"}:
            for step in commit.note.get("steps", ()):
                found.setdefault((step["version"], step["direction"]), []).append(float(step["seconds"]))
    return found


def _estimated(step: Step, past: dict[tuple[int, str], list[float]]) -> float | None:
    """The median of a step's own runs, or of all steps' where it never ran."""
    runs = past.get((step.version, step.direction)) or [taken for runs in past.values() for taken in runs]
    return statistics.median(runs) if runs else None
