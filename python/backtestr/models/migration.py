"""What migrations would do, did, and where a store stands."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """A migration, and what the store has of it.

    Args:
        version: its number.
        name: its name.
        state: ``"applied"``, ``"pending"``, ``"modified"`` (edited since it was applied), ``"missing"`` (applied, not
            in this release) or ``"out of order"`` (not applied, though a newer one is).
        applied_utc: when; None where it was not.
    """

    version: int
    name: str
    state: str
    applied_utc: dt.datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types.

        Example:
            >>> MigrationStatus(version=1, name="initial", state="pending").to_dict()["state"]
            'pending'
        """
        when = None if self.applied_utc is None else self.applied_utc.isoformat()
        return {"version": self.version, "name": self.name, "state": self.state, "applied_utc": when}

    def __str__(self) -> str:
        when = "" if self.applied_utc is None else f"  {self.applied_utc:%Y-%m-%d %H:%M:%S}Z"
        return f"{self.version:04}_{self.name}  {self.state}{when}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStep:
    """A migration to run.

    Args:
        version: its number.
        name: its name.
        direction: ``"up"`` or ``"down"``.
        estimated_s: seconds that it should take, by past runs in this store; None without any.
    """

    version: int
    name: str
    direction: str
    estimated_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types.

        Example:
            >>> MigrationStep(version=2, name="indicators", direction="up").to_dict()["direction"]
            'up'
        """
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """Migrations that a store ran as one commit, or would run.

    Args:
        schema_before: number of the newest migration applied before.
        schema_after: the same, after.
        steps: what runs, in order; empty where the store is there already.
        seconds: wall time; None for a plan.
        lsn: the commit's number; None where nothing was committed.
        dry_run: whether this is only a plan.
    """

    schema_before: int
    schema_after: int
    steps: tuple[MigrationStep, ...] = ()
    seconds: float | None = None
    lsn: int | None = None
    dry_run: bool = False

    @property
    def estimated_s(self) -> float | None:
        """Seconds that all steps should take; None without past runs.

        Example:
            >>> MigrationReport(schema_before=1, schema_after=1).estimated_s
            0.0
        """
        known = [step.estimated_s for step in self.steps if step.estimated_s is not None]
        return None if len(known) < len(self.steps) else float(sum(known))

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types.

        Example:
            >>> MigrationReport(schema_before=1, schema_after=2).to_dict()["schema_after"]
            2
        """
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "steps": [step.to_dict() for step in self.steps], "estimated_s": self.estimated_s}

    def __str__(self) -> str:
        if not self.steps:
            return f"schema {self.schema_before}: nothing to migrate"
        lines = [f"schema {self.schema_before} to {self.schema_after}"]
        lines += [f"  {step.direction:<4}  {step.version:04}_{step.name}" for step in self.steps]
        estimated = "" if self.estimated_s is None else f", about {self.estimated_s:.3f} s"
        done = f"done in {self.seconds:.3f} s, commit {self.lsn}" if self.lsn is not None else f"not run{estimated}"
        return "\n".join([*lines, f"  {done}"])
