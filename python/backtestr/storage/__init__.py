"""The store on disk: files, log, versions, and the DuckDB session over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backtestr.config import Settings
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout
from backtestr.storage.lease import Lease
from backtestr.storage.read import Reader


@dataclass(frozen=True, slots=True)
class Storage:
    """What the rooms above need of an open store."""

    layout: Layout
    settings: Settings
    journal: Journal
    reader: Reader
    lease: Lease

    @property
    def state(self) -> Path | None:
        """The folder of what is remembered of requests to this store, there or not; None where nothing is to be."""
        folder = self.settings.state_dir
        return None if folder is None else folder / self.layout.check()
