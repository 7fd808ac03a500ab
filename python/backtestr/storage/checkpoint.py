"""Snapshots: a version in one file, so that opening a store replays only the log behind it.

While the log has all its records they hold nothing of their own, and one that is damaged is passed over. Once the
oldest records were let go, the snapshot that the log goes on from is kept, and those of older versions with a tag.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from backtestr._native import crc32c, sync_file, sync_folder
from backtestr.errors import LogCorruptError
from backtestr.storage.commit import FILES, INDEX, to_ipc
from backtestr.storage.layout import Layout, make_folders
from backtestr.storage.listing import Listing
from backtestr.storage.live import Batches, Live
from backtestr.storage.snapshot import SMALL_TABLES, Version

_MAGIC = b"BTSNAP01"
_TRAILER = struct.Struct("<II8s")
"""Length of the JSON head, CRC32C of all before the trailer, magic."""
_KEPT = 2
_LIVE, _BATCHES = "live.", "batches"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def write_snapshot(layout: Layout, version: Version) -> Path:
    """Write a durable version to a file that appears whole or not at all."""
    make_folders(layout.snapshots)
    small = {**version.tables, **{f"{_LIVE}{name}": rows for name, rows in version.live.numbered().items()}}
    small[_BATCHES] = version.batches.to_table(version.lsn)
    bodies = {
        "files": to_ipc(FILES, [version.files.combine_chunks()], _OPTIONS),
        "index": to_ipc(INDEX, version.listing.pieces(), _OPTIONS),
        **{name: to_ipc(rows.schema, [rows.combine_chunks()], _OPTIONS) for name, rows in small.items()},
    }
    head = {
        "store_id": layout.check(),
        "lsn": version.lsn,
        "time_ns": version.time_ns,
        "sections": {name: len(body) for name, body in bodies.items()},
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    data = b"".join([*bodies.values(), text])
    path = snapshot_path(layout, version.lsn)
    draft = path.with_suffix(".new")
    try:
        draft.write_bytes(data + _TRAILER.pack(len(text), crc32c(data), _MAGIC))
        sync_file(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(layout.snapshots)
    return path


def trim_snapshots(layout: Layout) -> None:
    """Remove the snapshots that nothing needs."""
    paths, first = listed_snapshots(layout), (layout.segments() or [1])[0]
    base = 0 if first == 1 else next((int(path.stem) for path in paths if int(path.stem) >= first - 1), 0)
    for path in unneeded_snapshots(paths, base):
        path.unlink(missing_ok=True)


def unneeded_snapshots(paths: Sequence[Path], base: int, tagged: Collection[int] | None = None) -> list[Path]:
    """The snapshots that nothing needs, beside the newest.

    Args:
        paths: all snapshots, oldest first.
        base: LSN of the one that the log goes on from; 0 for a log that has all records.
        tagged: LSNs of tagged versions that only a snapshot holds; None for all before ``base``.
    """
    kept = {int(path.stem) for path in paths[-_KEPT:]} | {base}
    if base:
        kept |= {int(path.stem) for path in paths if int(path.stem) < base} if tagged is None else set(tagged)
    return [path for path in paths if int(path.stem) not in kept]


def load_snapshot(layout: Layout, *, lsn: int | None = None, time_ns: int | None = None) -> Version:
    """The newest version in an undamaged snapshot, or the newest up to an LSN or commit time; an empty one without."""
    for path in reversed(listed_snapshots(layout)):
        if lsn is not None and int(path.stem) > lsn:
            continue
        version = read_snapshot(layout, path)
        if version is not None and (time_ns is None or version.time_ns <= time_ns):
            return version
    return Version()


def listed_snapshots(layout: Layout) -> list[Path]:
    """The files that should hold a snapshot each, oldest first."""
    try:
        lsns = sorted(int(path.stem) for path in layout.snapshots.glob("*.snapshot") if path.stem.isdecimal())
    except OSError:
        return []
    return [snapshot_path(layout, lsn) for lsn in lsns]


def read_snapshot(layout: Layout, path: Path) -> Version | None:
    """The version in a snapshot; None where the file is gone, is not what was written, or is another store's."""
    try:
        with path.open("rb") as file:
            body = file.read(max(path.stat().st_size - _TRAILER.size, 0))
            length, crc, magic = _TRAILER.unpack(file.read())
        if magic != _MAGIC or crc32c(body) != crc:
            return None
        head = json.loads(body[len(body) - length :])
        if head["lsn"] != int(path.stem) or head["store_id"] != layout.check():
            return None
        at, streams, whole = 0, {}, pa.py_buffer(body)
        for name, size in head["sections"].items():
            streams[name] = pa.ipc.open_stream(whole.slice(at, size))
            at += size
        index = streams.pop("index")
        tables = {name: stream.read_all() for name, stream in streams.items()}
        small = {name: tables.get(name, schema.empty_table()) for name, (schema, _) in SMALL_TABLES.items()}
        live = {name.removeprefix(_LIVE): rows for name, rows in tables.items() if name.startswith(_LIVE)}
        batches = Batches.from_table(tables[_BATCHES]) if _BATCHES in tables else Batches()
        # the index, as it is there, takes ten times the memory it is kept in
        listing = Listing.of(tables["files"], (pa.Table.from_batches([batch]) for batch in index))
        return Version(head["lsn"], head["time_ns"], listing, small, Live.from_numbered(live), batches)
    except (OSError, struct.error, ValueError, KeyError, LogCorruptError, pa.ArrowException):
        return None


def snapshot_path(layout: Layout, lsn: int) -> Path:
    """The file of the snapshot of an LSN."""
    return layout.snapshots / f"{lsn:020}.snapshot"
