"""A commit: what one log record says, and its bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from backtestr.errors import LogCorruptError
from backtestr.schema import TICKS

FILES = pa.schema(
    [
        pa.field("file_id", pa.string(), nullable=False),
        pa.field("table", pa.string(), nullable=False),
        pa.field("interval", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("footer_crc32c", pa.uint32(), nullable=False),
        pa.field("min_ns", pa.int64()),
        pa.field("max_ns", pa.int64()),
    ]
)
"""Data files. ``path`` is relative to the store; times are of the rows."""

LAST_ROW = pa.schema(
    [pa.field(column.name, pa.string() if pa.types.is_dictionary(column.type) else column.type) for column in TICKS]
)
"""A tick as the index keeps it: plain text instead of dictionaries."""

INDEX = pa.schema(
    [
        pa.field("file_id", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("timeframe", pa.string()),
        pa.field("price_basis", pa.string()),
        pa.field("first_group", pa.int32(), nullable=False),
        pa.field("groups", pa.int32(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("min_ns", pa.int64(), nullable=False),
        pa.field("max_ns", pa.int64(), nullable=False),
        pa.field("min_sequence", pa.int64()),
        pa.field("max_sequence", pa.int64()),
        pa.field("trades", pa.int64(), nullable=False),
        pa.field("bids", pa.int64(), nullable=False),
        pa.field("asks", pa.int64(), nullable=False),
        pa.field("composites", pa.int64(), nullable=False),
        pa.field("last", pa.struct(list(LAST_ROW))),
    ]
)
"""Where a symbol's rows are in a file (bars: a timeframe's and basis'); ``last`` is the last tick, null for bars."""

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


@dataclass(frozen=True, slots=True)
class Commit:
    """What changes from one version to the next.

    Attributes:
        kind: what was done, such as ``"ingest"``.
        added: rows of `FILES`.
        index: rows of `INDEX` for the files added.
        removed: ids of files that the version no longer has.
        rows: rows added to small tables, by table name.
        whole: all rows of small tables, by table name; they take the place of those before.
        live: rows that no file holds yet, by table.
        settles: live rows of records up to this LSN are live no more: the files added hold them, or nothing does.
        batch: feed id and id of the batch that the live rows are, if it has one.
        note: further facts for the history.
    """

    kind: str
    added: pa.Table = field(default_factory=FILES.empty_table)
    index: pa.Table = field(default_factory=INDEX.empty_table)
    removed: tuple[str, ...] = ()
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    whole: Mapping[str, pa.Table] = field(default_factory=dict)
    live: Mapping[str, pa.Table] = field(default_factory=dict)
    settles: int = 0
    batch: tuple[int, str] | None = None
    note: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The record's payload: a JSON head, then one Arrow IPC stream per section."""
        sections = {"added": self.added, "index": self.index}
        sections |= {f"rows.{table}": rows for table, rows in self.rows.items()}
        bodies = {name: to_ipc(table) for name, table in sections.items() if table.num_rows}
        bodies |= {f"whole.{table}": to_ipc(rows) for table, rows in self.whole.items()}
        bodies |= {f"live.{table}": to_ipc(rows) for table, rows in self.live.items()}
        head: dict[str, Any] = {
            "kind": self.kind,
            "note": dict(self.note),
            "removed": list(self.removed),
            "sections": {name: len(body) for name, body in bodies.items()},
        }
        head |= {"settles": self.settles} if self.settles else {}
        head |= {"batch": self.batch} if self.batch else {}
        text = json.dumps(head, separators=(",", ":")).encode()
        return b"".join([struct.pack("<I", len(text)), text, *bodies.values()])

    @classmethod
    def decode(cls, payload: bytes) -> Commit:
        """Read a payload back.

        Raises:
            LogCorruptError: the payload is not one that `encode` makes.
        """
        try:
            (length,) = struct.unpack_from("<I", payload)
            head = json.loads(payload[4 : 4 + length])
            at, tables = 4 + length, {}
            for name, size in head["sections"].items():
                tables[name] = pa.ipc.open_stream(pa.py_buffer(payload)[at : at + size]).read_all()
                at += size
            return cls(
                kind=head["kind"],
                added=tables.get("added", FILES.empty_table()),
                index=tables.get("index", INDEX.empty_table()),
                removed=tuple(head["removed"]),
                rows=_of_kind("rows.", tables),
                whole=_of_kind("whole.", tables),
                live=_of_kind("live.", tables),
                settles=head.get("settles", 0),
                batch=(int(head["batch"][0]), str(head["batch"][1])) if "batch" in head else None,
                note=head["note"],
            )
        except (KeyError, ValueError, TypeError, IndexError, struct.error, pa.ArrowException) as error:
            raise LogCorruptError(f"a log record does not decode: {error}") from None


def _of_kind(prefix: str, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    return {name.removeprefix(prefix): rows for name, rows in tables.items() if name.startswith(prefix)}


def to_ipc(table: pa.Table, options: pa.ipc.IpcWriteOptions = _COMPRESSED) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
