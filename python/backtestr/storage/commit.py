"""A commit: what one log record says, and its bytes."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, frame_content_size

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

NO_FILES, NO_INDEX = FILES.empty_table(), INDEX.empty_table()

_LIVE = "live."
_LEVEL = 1
_THREADS = 2
_LARGEST = 1 << 32
_MAGIC = b"\x28\xb5\x2f\xfd"
"""What a compressed section begins with; those of codec 1 are Arrow streams with compressed buffers."""
_PLAIN = pa.ipc.IpcWriteOptions(use_threads=False)


class Packed:
    """Rows of a section as the log has them, decoded when they are asked for."""

    __slots__ = ("_body", "_rows", "num_rows")

    def __init__(self, body: bytes, num_rows: int) -> None:
        self._body: bytes | None = body
        self._rows: pa.Table | None = None
        self.num_rows = num_rows

    @staticmethod
    def unpack(sections: Sequence[pa.Table | Packed]) -> list[pa.Table]:
        """The rows of some sections, decoded together where they have not been."""
        packed = [one for one in sections if isinstance(one, Packed)]
        # rows are set before the body goes, so whoever finds no body finds rows
        todo = [(one, body) for one in packed if (body := one._body) is not None]
        for (one, _), rows in zip(todo, _from_packed([body for _, body in todo]), strict=True):
            one._rows = rows
            one._body = None
        return [section._rows if isinstance(section, Packed) else section for section in sections]


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
        live: rows that no file holds yet, by table; those read from the log are decoded later.
        settles: live rows of records up to this LSN are live no more: the files added hold them, or nothing does.
        batch: feed id and id of the batch that the live rows are, if it has one.
        note: further facts for the history.
    """

    kind: str
    added: pa.Table = field(default_factory=lambda: NO_FILES)
    index: pa.Table = field(default_factory=lambda: NO_INDEX)
    removed: tuple[str, ...] = ()
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    whole: Mapping[str, pa.Table] = field(default_factory=dict)
    live: Mapping[str, pa.Table | Packed] = field(default_factory=dict)
    settles: int = 0
    batch: tuple[int, str] | None = None
    note: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The record's payload: a JSON head, then a compressed Arrow IPC stream for each section."""
        sections = {"added": self.added, "index": self.index}
        sections |= {f"rows.{table}": rows for table, rows in self.rows.items()}
        bodies = {name: _pack(table) for name, table in sections.items() if table.num_rows}
        bodies |= {f"whole.{table}": _pack(rows) for table, rows in self.whole.items()}
        live = dict(zip(self.live, Packed.unpack([*self.live.values()]), strict=True))
        bodies |= {f"{_LIVE}{table}": _pack(rows) for table, rows in live.items()}
        head: dict[str, Any] = {
            "kind": self.kind,
            "note": dict(self.note),
            "removed": list(self.removed),
            "sections": {name: len(body) for name, body in bodies.items()},
        }
        head |= {"live": {table: rows.num_rows for table, rows in live.items()}} if live else {}
        head |= {"settles": self.settles} if self.settles else {}
        head |= {"batch": self.batch} if self.batch else {}
        text = json.dumps(head, separators=(",", ":")).encode()
        return b"".join([struct.pack("<I", len(text)), text, *bodies.values()])

    @classmethod
    def decode_all(cls, payloads: Sequence[bytes]) -> list[Commit]:
        """Read payloads back.

        Raises:
            LogCorruptError: one is not what `encode` makes.
        """
        try:
            heads = [_sections_of(payload) for payload in payloads]
            # live rows are many, and perhaps in files by a later record
            bodies = [body for _, sections in heads for name, body in sections.items() if not name.startswith(_LIVE)]
            tables = iter(_from_packed(bodies))
            return [cls._from_head(head, sections, tables) for head, sections in heads]
        except (KeyError, ValueError, TypeError, IndexError, struct.error, ZstdError, pa.ArrowException) as error:
            raise LogCorruptError(f"a log record does not decode: {error}") from None

    @classmethod
    def _from_head(cls, head: Mapping[str, Any], sections: Mapping[str, bytes], tables: Iterator[pa.Table]) -> Commit:
        live: dict[str, pa.Table | Packed] = {}
        read = {}
        for name, body in sections.items():
            table = name.removeprefix(_LIVE)
            if table == name:
                read[name] = next(tables)
            elif "live" in head:
                live[table] = Packed(body, head["live"][table])
            else:
                (live[table],) = _from_packed([body])
        return cls(
            kind=head["kind"],
            added=read.get("added", NO_FILES),
            index=read.get("index", NO_INDEX),
            removed=tuple(head["removed"]),
            rows=_of_kind("rows.", read),
            whole=_of_kind("whole.", read),
            live=live,
            settles=head.get("settles", 0),
            batch=(int(head["batch"][0]), str(head["batch"][1])) if "batch" in head else None,
            note=head["note"],
        )


def _sections_of(payload: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A payload's head, and the bytes of its sections."""
    (length,) = struct.unpack_from("<I", payload)
    head = json.loads(payload[4 : 4 + length])
    at, sections = 4 + length, {}
    for name, size in head["sections"].items():
        sections[name] = payload[at : at + size]
        at += size
    return head, sections


def _of_kind(prefix: str, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    return {name.removeprefix(prefix): rows for name, rows in tables.items() if name.startswith(prefix)}


class _Compressor(threading.local):
    """A compressor of each thread: making one takes as long as a small batch does."""

    def __init__(self) -> None:
        self.compress = ZstdCompressor(level=_LEVEL).compress


_compressor = _Compressor()


def _pack(table: pa.Table) -> bytes:
    return _compressor.compress(to_ipc(table.schema, [table], _PLAIN))


def _from_packed(bodies: Sequence[bytes]) -> list[pa.Table]:
    packed: list[bytes | bytearray | memoryview] = [body for body in bodies if body[:4] == _MAGIC]
    if any(not 0 < frame_content_size(body) < _LARGEST for body in packed):
        raise ValueError("a section of no or too large a size")
    plain = iter(ZstdDecompressor().multi_decompress_to_buffer(packed, threads=_THREADS) if packed else ())
    streams = [next(plain) if body[:4] == _MAGIC else body for body in bodies]
    return [pa.ipc.open_stream(pa.py_buffer(stream)).read_all() for stream in streams]


def to_ipc(schema: pa.Schema, parts: Iterable[pa.Table], options: pa.ipc.IpcWriteOptions) -> pa.Buffer:
    """Rows in some tables, one behind the other, as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for part in parts:
            writer.write_table(part)
    return sink.getvalue()
