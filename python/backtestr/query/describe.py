"""What a version holds and what its store takes on disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from backtestr.models import StoreInfo
from backtestr.storage import Storage
from backtestr.storage.layout import BARS, QUARANTINE
from backtestr.storage.snapshot import Version


def describe(storage: Storage, version: Version, *, read_only: bool) -> StoreInfo:
    """Counts of a version, its bytes, and the bytes of everything in the store's folder."""
    root = storage.layout.root
    live = {file.path: file.size for file in version.file_by_id.values()}
    on_disk = _sizes(root)
    other = (
        size
        for path, size in on_disk.items()
        if path.startswith("data/") and not path.startswith("data/empty/") and path not in live
    )
    return StoreInfo(
        path=str(root),
        lsn=version.lsn,
        read_only=read_only,
        ticks=sum(int(row["rows"]) for row in version.symbols.values()),
        bars=sum(file.rows for file in version.of(BARS)),
        quarantined=sum(file.rows for file in version.of(QUARANTINE)) + version.live.rejected,
        symbols=len(version.symbols),
        files=version.files.num_rows,
        live_bytes=sum(live.values()),
        retained_bytes=sum(other),
        bytes_on_disk=sum(on_disk.values()),
        first=min((row["min_ns"] for row in version.symbols.values()), default=None),
        last=max((row["max_ns"] for row in version.symbols.values()), default=None),
    )


def _sizes(root: Path) -> dict[str, int]:
    """Bytes of each file in a folder, by its path in it; others may come and go meanwhile."""
    sizes = {}
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes[(inside / name).as_posix()] = (root / inside / name).lstat().st_size
    return sizes
