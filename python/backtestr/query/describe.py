"""What a version holds and what its store takes on disk."""

from __future__ import annotations

from backtestr.models import StoreInfo
from backtestr.storage import Storage
from backtestr.storage.layout import BARS, QUARANTINE
from backtestr.storage.snapshot import Version


def describe(storage: Storage, version: Version, *, read_only: bool) -> StoreInfo:
    """Counts of a version, its bytes, and the bytes of everything in the store's folder."""
    root = storage.layout.root
    return StoreInfo(
        path=str(root),
        lsn=version.lsn,
        read_only=read_only,
        ticks=sum(int(row["rows"]) for row in version.symbols.values()),
        bars=sum(file.rows for file in version.of(BARS)),
        quarantined=sum(file.rows for file in version.of(QUARANTINE)),
        symbols=len(version.symbols),
        files=version.files.num_rows,
        live_bytes=sum(file.size for file in version.file_by_id.values()),
        bytes_on_disk=sum(path.stat().st_size for path in root.rglob("*") if path.is_file()),
        first=min((row["min_ns"] for row in version.symbols.values()), default=None),
        last=max((row["max_ns"] for row in version.symbols.values()), default=None),
    )
