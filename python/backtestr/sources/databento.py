"""Databento DBN versions 1 to 3: trades, tbbo and mbp-1; metadata through ``databento-dbn``, records through numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backtestr.errors import MissingDependencyError, SourceAmbiguousError, SourceStructureError
from backtestr.sources.dbn_records import LEVELS, RECORDS, Mappings, tick_batch
from backtestr.sources.files import ByteStream, Member, PathInput, members
from backtestr.sources.model import OpenedSource, Renames, TickBatch, check_clock, in_parts
from backtestr.sources.text import Renamer

_CHUNK_RECORDS = 1 << 17
_MAX_METADATA_BYTES = 1 << 26


def open_databento(
    data: PathInput, /, *, symbol: Renames = None, clock: str = "exchange", feed: str | None = None
) -> OpenedSource:
    """Open DBN files of one dataset and schema.

    A trade of ``tbbo`` and ``mbp-1`` keeps its quotes; other ``mbp-1`` rows are quotes. The vendor's sequence repeats
    and is not kept.

    Args:
        data: Path, paths or folder of ``.dbn`` or ``.dbn.zst``.
        symbol: New name of the symbol, or names by name.
        clock: ``exchange`` (``ts_event``) or ``receive`` (``ts_recv``).
        feed: Identity of the rows; ``databento:<dataset>:<schema>`` if not given.

    Raises:
        MissingDependencyError: ``databento-dbn`` is not installed.
        SourceStructureError: A file is truncated, or holds other records.
        SourceAmbiguousError: The files are of several datasets or schemas.

    Example:
        >>> open_databento("glbx-mdp3-20240701.trades.dbn.zst")  # doctest: +SKIP
    """
    check_clock(clock)
    plans = []
    for member in members(data):
        with member.open() as stream:
            plans.append((member, _metadata(member, stream)))
    feeds = sorted({f"databento:{meta.dataset}:{_schema(member, meta)}" for member, meta in plans})
    if feed is None and len(feeds) > 1:
        raise SourceAmbiguousError(f"the files are of {', '.join(feeds)}; load each alone or give feed=")

    rename = Renamer(symbol)

    files = (map(rename, _batches(member, clock)) for member, _ in plans)
    said = f"DBN {feeds[0].removeprefix('databento:')}, {clock} clock" if feeds else "no DBN files"
    return OpenedSource("databento", feed or (feeds[0] if feeds else None), in_parts(files), said)


def _schema(member: Member, meta: Any) -> str:
    name = "" if meta.schema is None else str(meta.schema)
    if name not in RECORDS:
        raise SourceStructureError(
            f"{member.name}: DBN schema {name or 'mixed'!r} is not read; give {', '.join(RECORDS)}"
        )
    return name


def _metadata(member: Member, stream: ByteStream) -> Any:
    try:
        import databento_dbn
    except ImportError as error:
        raise MissingDependencyError('reading DBN needs databento-dbn: pip install "backtestr[databento]"') from error
    prefix = stream.read(8)
    if prefix[:3] != b"DBN" or len(prefix) < 8:
        raise SourceStructureError(f"{member.name}: not DBN (it does not begin with its mark); check source=")
    length = int.from_bytes(prefix[4:], "little")
    body = stream.read(min(length, _MAX_METADATA_BYTES))
    if len(body) < length:
        raise SourceStructureError(f"{member.name}: the file ends within its metadata; fetch it again")
    try:
        return databento_dbn.Metadata.decode(prefix + body)
    except Exception as error:  # the decoder's own class differs between its versions
        raise SourceStructureError(f"{member.name}: the DBN metadata cannot be read ({error})") from error


def _batches(member: Member, clock: str) -> Iterator[TickBatch]:
    with member.open() as stream:
        meta = _metadata(member, stream)
        schema = _schema(member, meta)
        record = RECORDS[schema]
        # Files of live sessions append the gateway's send time to every record.
        if getattr(meta, "ts_out", False):
            record = np.dtype([*((name, record[name]) for name in record.names or ()), ("ts_out", "<u8")])
        mappings = Mappings.of(meta)
        first = 0
        while data := stream.read(_CHUNK_RECORDS * record.itemsize):
            if len(data) % record.itemsize:
                raise SourceStructureError(
                    f"{member.name}: the file ends within record {first + len(data) // record.itemsize + 1}; "
                    "fetch it again"
                )
            records = np.frombuffer(data, record)
            wrong = (records["length"] != record.itemsize // 4) | (records["rtype"] != LEVELS[schema])
            if wrong.any():
                at = first + int(np.argmax(wrong)) + 1
                raise SourceStructureError(
                    f"{member.name}: record {at} is not of schema {schema} (line {at}, column 0)"
                )
            yield tick_batch(member.name, records, meta.dataset, mappings, clock, first)
            first += len(records)
