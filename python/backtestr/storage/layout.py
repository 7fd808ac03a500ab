"""Where things are in a store, and which interval a row's file belongs to."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backtestr._native import sync_file, sync_folder
from backtestr.errors import StoreFormatError, StoreNotFoundError

FORMAT_VERSION = 1
DAY_NS = 86_400_000_000_000

TICKS = "ticks"
BARS = "bars"
QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one store."""

    root: Path

    @property
    def identity(self) -> Path:
        """STORE.json: format version and store id, never rewritten."""
        return self.root / "STORE.json"

    @property
    def log(self) -> Path:
        """Folder of the log."""
        return self.root / "log"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots."""
        return self.root / "snapshots"

    @property
    def data(self) -> Path:
        """Folder of the data files."""
        return self.root / "data"

    @property
    def tmp(self) -> Path:
        """Folder of sort runs."""
        return self.root / "tmp"

    @property
    def readers(self) -> Path:
        """Folder of the leases of open stores."""
        return self.root / "readers"

    @property
    def reserve(self) -> Path:
        """Space to stop cleanly on a full disk."""
        return self.root / "reserve"

    @property
    def retained(self) -> Path:
        """RETAINED.json: which versions the last clean-up left."""
        return self.root / "RETAINED.json"

    @property
    def lock(self) -> Path:
        """The writer's lock."""
        return self.root / "LOCK"

    @property
    def catalog(self) -> Path:
        """The database published for other tools."""
        return self.root / "catalog.duckdb"

    def segments(self) -> list[int]:
        """First LSN of each segment of the log, ascending; a log that let its oldest records go begins behind 1."""
        return sorted(int(path.stem) for path in self.log.glob("*.log") if path.stem.isdecimal())

    def segment(self, first_lsn: int) -> Path:
        """The file of a segment of the log."""
        return self.log / f"{first_lsn:020}.log"

    def new_file(self, table: str, interval: str) -> tuple[str, str]:
        """A fresh file id and its path relative to the store, its folder made and made durable."""
        file_id = uuid.uuid4().hex
        folder = self.data / table / interval
        make_folders(folder)
        return file_id, f"data/{table}/{interval}/{file_id}.parquet"

    def make(self) -> None:
        """Make the folders of an empty store."""
        for folder in (self.root, self.log, self.data, self.tmp):
            make_folders(folder)

    def name(self) -> None:
        """Write STORE.json, which makes the folder a store; everything else is durable before."""
        text = json.dumps({"format": FORMAT_VERSION, "store_id": uuid.uuid4().hex})
        draft = self.root / "STORE.json.new"
        draft.write_text(text + "\n", encoding="utf-8")
        sync_file(draft)
        draft.replace(self.identity)
        sync_folder(self.root)

    def check(self) -> str:
        """The store's id.

        Raises:
            StoreNotFoundError: nothing is there.
            StoreFormatError: it is not a store, or one of a newer format.
        """
        try:
            identity = json.loads(self.identity.read_text(encoding="utf-8"))
            version, store_id = int(identity["format"]), str(identity["store_id"])
        except (FileNotFoundError, NotADirectoryError):
            raise StoreNotFoundError(
                f"no store at {self.root}; ingest something, or open it without read_only=True, to create it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreFormatError(f"{self.identity} is not the identity of a store: {error}") from None
        if version > FORMAT_VERSION:
            raise StoreFormatError(
                f"store {self.root} has format {version}, this release reads up to {FORMAT_VERSION}; upgrade backtestr"
            )
        return store_id


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, each new entry durable in its parent."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def refuse_strangers(root: Path) -> None:
    """Refuse to lay out a store in a folder that holds something else; a store half made is no stranger.

    Raises:
        StoreFormatError: the folder holds something else.
    """
    ours = {"LOCK", "LOCK.json", "STORE.json.new", "log", "data", "tmp", "reserve"}
    if root.exists() and (not root.is_dir() or not {path.name for path in root.iterdir()} <= ours):
        raise StoreFormatError(f"{root} is not a store and not empty; name an empty or new folder")


def day_label(day: int) -> str:
    """``yyyy-mm-dd`` of a day number (days since 1970-01-01)."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=int(day))).isoformat()


def intervals(
    days: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], bytes_per_row: float, day_bytes: int
) -> dict[int, str]:
    """The interval of each day number: a day that brings enough bytes stands alone, the rest share their month."""
    labels = {}
    for day, count in zip(days.tolist(), counts.tolist(), strict=True):
        label = day_label(day)
        labels[day] = label if count * bytes_per_row >= day_bytes else label[:7]
    return labels
