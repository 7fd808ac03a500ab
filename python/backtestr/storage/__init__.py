"""The store on disk: files, log, versions, and the DuckDB session over them."""

from __future__ import annotations

from dataclasses import dataclass

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
