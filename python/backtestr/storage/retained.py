"""Which versions the last clean-up left: what it removes, nobody may look for from then on."""

from __future__ import annotations

import json
from dataclasses import dataclass

from backtestr._native import sync_file, sync_folder
from backtestr.instants import MIN_NS
from backtestr.storage.layout import Layout


@dataclass(frozen=True, slots=True)
class Retained:
    """The versions that can be read.

    Attributes:
        lsn: the oldest version from which on all are there.
        time_ns: when it was committed.
        tagged: older ones that are kept for their tags.
    """

    lsn: int = 1
    time_ns: int = MIN_NS
    tagged: tuple[int, ...] = ()

    def has(self, lsn: int) -> bool:
        """Whether a version can be read."""
        return lsn >= self.lsn or lsn in self.tagged


def read_retained(layout: Layout) -> Retained:
    """What the last clean-up left; everything where there was none, or its file is damaged."""
    try:
        held = json.loads(layout.retained.read_text(encoding="utf-8"))
        return Retained(int(held["lsn"]), int(held["time_ns"]), tuple(int(lsn) for lsn in held["tagged"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Retained()


def write_retained(layout: Layout, retained: Retained) -> None:
    """Say what is left; durable and visible when this returns."""
    held = {"lsn": retained.lsn, "time_ns": retained.time_ns, "tagged": list(retained.tagged)}
    draft = layout.retained.with_suffix(".new")
    try:
        draft.write_text(json.dumps(held) + "\n", encoding="utf-8")
        sync_file(draft)
        draft.replace(layout.retained)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(layout.root)
