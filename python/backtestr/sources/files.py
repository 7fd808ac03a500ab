"""Files, folders and archives as streams of bytes; damage is a structure error that names the member."""

from __future__ import annotations

import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import zstandard

from backtestr.errors import ArgumentError, SourceError, SourceNotFoundError, SourceStructureError

PathInput = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, zstandard.ZstdError)
_ZIP_MARKS = (b"PK\3\4", b"PK\5\6", b"PK\7\10")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ByteStream:
    """Reads exactly as many bytes as asked for, fewer only at the end, and closes all that it stands on."""

    def __init__(self, name: str, raw: _Readable, stack: ExitStack) -> None:
        self._name = name
        self._raw = raw
        self._stack = stack

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; an empty answer is the end."""
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            try:
                part = self._raw.read(missing)
            except _DAMAGE as error:
                raise SourceStructureError(
                    f"{self._name}: the compressed data is truncated or damaged ({error}); fetch the file again"
                ) from error
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the files beneath."""
        self._stack.close()

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ZstdReader:
    """Frames of zstd, one after another; unlike ``stream_reader`` it notices a frame that is cut off."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame: Any = None
        self._rest = b""
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            data = self._rest or self._raw.read(1 << 16)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("zstd frame ended before its end marker")
                return b""
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(data)
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame = None
        part, self._ready = self._ready[:size], self._ready[size:]
        return part


@dataclass(frozen=True, slots=True)
class Member:
    """One stream of rows: a file, or a file within an archive.

    Attributes:
        path: The file on disk.
        inner: The name within the archive, else the file's own without its compression suffix.
        name: Both, for messages.
    """

    path: Path
    inner: str
    name: str
    open: Callable[[], ByteStream]


def files(data: PathInput) -> list[Path]:
    """The files that an input names; folders are walked in name order, hidden files left out.

    Raises:
        SourceNotFoundError: A path does not exist, or a folder holds no file.
        ArgumentError: The input is no path.
    """
    given: Iterable[Any] = [data] if isinstance(data, str | os.PathLike) else data
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise ArgumentError(f"expected a path or a list of paths, got {type(data).__name__}")
    found: list[Path] = []
    for one in given:
        if not isinstance(one, str | os.PathLike):
            raise ArgumentError(f"expected a path or a list of paths, got {type(one).__name__}")
        path = Path(one)
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file())
            seen = sorted(p for p in inside if not any(s.startswith(".") for s in p.relative_to(path).parts))
            if not seen:
                raise SourceNotFoundError(f"{path}: the folder holds no file")
            found += seen
        elif path.exists():
            found.append(path)
        else:
            raise SourceNotFoundError(f"{path}: there is no such file")
    if not found:
        raise ArgumentError("no path is given")
    return found


def is_folder(data: PathInput) -> bool:
    """Whether an input is one folder, in which files that hold no ticks may lie beside those that do."""
    return isinstance(data, str | os.PathLike) and Path(data).is_dir()


def members(data: PathInput) -> Iterator[Member]:
    """All streams of an input, archives opened, in a stable order."""
    for path in files(data):
        with path.open("rb") as file:
            magic = file.read(4)
        if magic in _ZIP_MARKS:
            yield from _zip_members(path)
        else:
            inner = path.name
            kind = "gz" if magic[:2] == b"\x1f\x8b" else "zst" if _is_zstd(magic) else ""
            if kind:
                inner = inner.removesuffix(f".{kind}")
            yield Member(path, inner, str(path), _opener(path, kind))


def _is_zstd(magic: bytes) -> bool:
    """Whether a file begins with a frame of zstd, be it one to skip."""
    return magic == b"\x28\xb5\x2f\xfd" or (magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5)


def _opener(path: Path, kind: str) -> Callable[[], ByteStream]:
    def open_stream() -> ByteStream:
        stack = ExitStack()
        raw = stack.enter_context(path.open("rb"))
        if kind == "gz":
            return ByteStream(str(path), stack.enter_context(gzip.GzipFile(fileobj=raw)), stack)
        return ByteStream(str(path), _ZstdReader(raw) if kind else raw, stack)

    return open_stream


def _zip_members(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except Exception as error:  # zipfile lets struct and Unicode errors of a damaged directory through
        raise SourceStructureError(
            f"{path}: the zip archive is truncated or damaged ({error}); fetch the file again"
        ) from error
    for info in infos:
        parts = Path(info.filename).parts
        if "__MACOSX" in parts or any(part.startswith(".") and part not in {".", ".."} for part in parts):
            continue
        yield Member(path, info.filename, f"{path}!{info.filename}", _zip_opener(path, info))


def _zip_opener(path: Path, info: zipfile.ZipInfo) -> Callable[[], ByteStream]:
    name = f"{path}!{info.filename}"

    def open_stream() -> ByteStream:
        stack = ExitStack()
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            raw = stack.enter_context(archive.open(info))
        except (RuntimeError, NotImplementedError) as error:
            stack.close()
            raise SourceError(f"{name}: {error}; unpack the archive first") from error
        except Exception as error:  # a damaged local header fails in as many ways
            stack.close()
            raise SourceStructureError(
                f"{name}: the archive member is damaged ({error}); fetch the file again"
            ) from error
        return ByteStream(name, raw, stack)

    return open_stream
