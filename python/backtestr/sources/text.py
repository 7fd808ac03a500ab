"""Delimited text of any encoding, streamed through the native parser."""

from __future__ import annotations

import codecs
import csv
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from backtestr import _native
from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceStructureError
from backtestr.sources.files import ByteStream, Member
from backtestr.sources.model import Renames, TickBatch

CHUNK_BYTES = 4 << 20
SEPARATORS = (",", ";", "\t", "|")
"""What may stand between columns, the likeliest first."""
_HEAD_ROWS = 2

Parsed = tuple[pa.RecordBatch, int, int, int]
"""Rows, bytes consumed, lines consumed, and rows left out."""
Parse = Callable[[bytes, bool, int], Parsed]
_THREADS = 2
_AHEAD = 3


class TextStream:
    """A member's text as UTF-8 bytes without a byte-order mark; ``ended`` once the last of it is read."""

    def __init__(self, member: Member, encoding: str | None) -> None:
        self._name = member.name
        self._encoding = encoding
        self._decoder = _decoder(encoding)
        self._lines = 1
        self._started = False
        self.ended = False
        self._stream: ByteStream = member.open()

    def read(self, size: int) -> bytes:
        """Read and convert ``size`` bytes of the file; an empty answer is the end."""
        while True:
            raw = self._stream.read(size)
            self.ended = len(raw) < size
            data = raw if self._decoder is None else self._convert(raw)
            if not self._started and data:
                data = data.removeprefix(codecs.BOM_UTF8)
                self._started = True
            if data or self.ended:
                return data

    def _convert(self, raw: bytes) -> bytes:
        assert self._decoder is not None  # noqa: S101 - only called where there is one
        try:
            text = self._decoder.decode(raw, final=self.ended)
        except UnicodeError as error:
            line = self._lines
            if isinstance(error, UnicodeDecodeError):
                line += error.object[: error.start].decode(error.encoding, "ignore").count("\n")
            raise SourceStructureError(
                f"{self._name}: bytes that are not {self._encoding} (line {line}, column 0); check encoding="
            ) from error
        self._lines += text.count("\n")
        return text.encode()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _decoder(encoding: str | None) -> codecs.IncrementalDecoder | None:
    if encoding is None:
        return None
    try:
        known = codecs.lookup(encoding)
    except LookupError as error:
        raise ArgumentError(f"encoding={encoding!r} is not known to Python") from error
    if known.name in {"utf-8", "utf-8-sig", "ascii"}:
        return None
    if not getattr(known, "_is_text_encoding", True) or known.incrementaldecoder is None:
        raise ArgumentError(f"encoding={encoding!r} is no encoding of text")
    return known.incrementaldecoder("strict")


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a text, for finding out what it is.

    Attributes:
        rows: Cells of the first non-blank lines.
        ends: For each row the number of lines up to its end.
    """

    rows: list[list[str]]
    ends: list[int]


def is_blank(text: str) -> bool:
    """Whether a text holds nothing but spaces, tabs and line ends."""
    return not text.strip(" \t\r\n")


def head_text(member: Member, encoding: str | None) -> str:
    """The first 64 KiB of a member, cut at the end of a line."""
    stream = TextStream(member, encoding)
    try:
        data = stream.read(1 << 16)
    finally:
        stream.close()
    if len(data) >= 1 << 16 and b"\n" in data:
        data = data[: data.rindex(b"\n")]
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        good = data[: data.rfind(b"\n", 0, error.start) + 1].decode()
        # The parser, which knows the columns, says it better of all lines but the first ones.
        if sum(not is_blank(one) for one in good.split("\n")) >= _HEAD_ROWS:
            return good
        raise SourceStructureError(
            f"{member.name}: bytes that are not UTF-8 (line {line}, column 0); name the text's encoding with encoding="
        ) from error


def head(text: str, separator: str, quote: str | None, rows: int = _HEAD_ROWS) -> Head:
    """Split the first rows of a text; lines end with a line feed only, as for the native parser."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    if quote is None:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=separator, quotechar=quote)
    found = Head([], [])
    try:
        for row in reader:
            if not is_blank("".join(row)) or len(row) > 1:
                found.rows.append(row)
                found.ends.append(reader.line_num)
            if len(found.rows) == rows:
                break
    except csv.Error as error:
        raise SourceStructureError(
            f"{error} (line {reader.line_num}, column 0); are its lines ended by carriage returns alone?"
        ) from error
    return found


def first_cells(member: Member) -> list[str]:
    """The cells of the first row of comma-separated text; none of an empty text."""
    text = head_text(member, None)
    return head(text, ",", None, 1).rows[0] if not is_blank(text) else []


def text_batches(
    member: Member,
    spec: dict[str, Any],
    *,
    encoding: str | None = None,
    skip_lines: int = 0,
    renames: Renamer | None = None,
) -> Iterator[TickBatch]:
    """Stream a member's rows through the native text parser.

    Args:
        member: The text.
        spec: Separator, quote and fields, as the native ``parse_text`` takes them.
        encoding: Other than UTF-8.
        skip_lines: Lines of header.
        renames: New names of the symbols.

    Yields:
        Batches of the rows of about 4 MiB of text.
    """
    text = json.dumps(spec)

    def parse(chunk: bytes, last: bool, first_line: int) -> Parsed:
        return _native.parse_text(chunk, text, last=last, first_line=first_line)

    quote = spec.get("quote")
    for batch, _ in parsed_batches(member, parse, encoding=encoding, skip_lines=skip_lines, quote=quote):
        yield batch if renames is None else renames(batch)


def parsed_batches(
    member: Member, parse: Parse, *, encoding: str | None = None, skip_lines: int = 0, quote: str | None = None
) -> Iterator[tuple[TickBatch, int]]:
    """Stream a member through a parser that takes whole rows; with each batch the number of rows it left out.

    Chunks are parsed side by side where it is plain where their rows end.
    """
    stream = TextStream(member, encoding)
    pool = ThreadPoolExecutor(_THREADS, "backtestr-parse")
    running: deque[tuple[bytes, Future[Parsed]]] = deque()
    first_line = 1 + skip_lines

    def finished() -> tuple[TickBatch, int, int]:
        nonlocal first_line
        chunk, task = running.popleft()
        begun = first_line
        try:
            try:
                batch, consumed, lines, skipped = task.result()
            except SourceStructureError:
                # Again, now that the lines before it are counted.
                batch, consumed, lines, skipped = parse(chunk, stream.ended and not running, begun)
        except SourceStructureError as error:
            raise SourceStructureError(f"{member.name}: {error}") from error
        first_line += lines
        return _located(batch, member, chunk[:consumed], begun), skipped, consumed

    try:
        tail = _skip(stream, skip_lines)
        while True:
            data = stream.read(CHUNK_BYTES)
            cut = 0 if stream.ended else _native.row_end(tail, data, quote)
            part = b"".join((tail, memoryview(data)[:cut])) if cut else tail + data
            tail = data[cut:] if cut else b""
            running.append((part, pool.submit(parse, part, stream.ended, 1)))
            consumed = len(part)
            while len(running) > (_AHEAD if cut else 0):
                batch, skipped, consumed = finished()
                if batch.columns.num_rows or skipped:
                    yield batch, skipped
            if stream.ended:
                return
            if not cut:
                tail = part[consumed:]
    finally:
        pool.shutdown(cancel_futures=True)
        stream.close()


def _skip(stream: TextStream, lines: int) -> bytes:
    data = b""
    for _ in range(lines):
        while b"\n" not in data:
            more = stream.read(1 << 16)
            if not more:
                return b""
            data += more
        data = data[data.index(b"\n") + 1 :]
    return data


def _located(batch: pa.RecordBatch, member: Member, chunk: bytes, first_line: int) -> TickBatch:
    at = batch.schema.get_field_index("offset")
    offsets = batch.column(at).to_numpy()

    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        found: dict[int, tuple[int, str]] = {}
        position, line = 0, first_line
        for row in sorted(set(rows)):
            start = int(offsets[row])
            end = int(offsets[row + 1]) if row + 1 < len(offsets) else len(chunk)
            line += chunk.count(b"\n", position, start)
            position = start
            found[row] = (line, _row_text(chunk[start:end]))
        return [found[row] for row in rows]

    return TickBatch(batch.remove_column(at), member.name, locate)


def _row_text(text: bytes) -> str:
    """A row without the lines that follow it and are no rows: a row spans lines only within quotes."""
    end = text.find(b"\n")
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end + 1)
    return (text if end < 0 else text[:end]).rstrip(b"\r\n").decode("utf-8", "replace")


class Renamer:
    """New names for the symbols of a load, all its members and batches taken together."""

    def __init__(self, renames: Renames) -> None:
        if renames is not None and not isinstance(renames, str | Mapping):
            raise ArgumentError(f"symbol={renames!r}; give a name, or new names by name")
        self._renames = renames
        self._seen: dict[str, str] = {}

    def __call__(self, batch: TickBatch) -> TickBatch:
        """The batch with its symbols renamed.

        Raises:
            SourceAmbiguousError: Two symbols would have one name.
        """
        if self._renames is None:
            return batch
        at = batch.columns.schema.get_field_index("symbol")
        column = batch.columns.column(at)
        new = [self._new(batch.member, name) for name in column.dictionary.to_pylist()]
        renamed = pa.DictionaryArray.from_arrays(column.indices, pa.array(new, pa.string()))
        return replace(batch, columns=batch.columns.set_column(at, "symbol", renamed))

    def _new(self, member: str, name: str) -> str:
        new = self._renames if isinstance(self._renames, str) else (self._renames or {}).get(name, name)
        before = self._seen.setdefault(new, name)
        if before != name:
            raise SourceAmbiguousError(
                f"{member}: symbol={self._renames!r} gives {before!r} and {name!r} the one name {new!r}; "
                f'give symbol={{"{before}": …, "{name}": …}}'
            )
        return new
