"""Dukascopy ``.bi5``: an hour of quotes, LZMA, 20-byte big-endian records; hour and pair are in the path."""

from __future__ import annotations

import datetime as dt
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import REASONS
from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceNotFoundError, SourceStructureError
from backtestr.models.fixed import MAX_UNITS
from backtestr.sources.files import PathInput, files, is_folder
from backtestr.sources.fixed import constant, fixed, instants
from backtestr.sources.model import OpenedSource, Renames, TickBatch, in_parts
from backtestr.sources.pairs import pair_in

_RECORD = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_size", ">f4"), ("bid_size", ">f4")])
_LAYOUT = re.compile(
    r"(?P<symbol>[^/\\]+)[/\\](?P<y>\d{4})[/\\](?P<m>\d\d)[/\\](?P<d>\d\d)[/\\](?P<h>\d\d)h_ticks\.bi5$"
)
_THREE_PLACES = frozenset({"JPY", "RUB", "HUF", "THB", "CZK"})
_METALS = frozenset({"XAU", "XAG", "XPT", "XPD"})
_NOT_A_NUMBER, _OUT_OF_RANGE, _ROUNDED = (REASONS[name] for name in ("not_a_number", "out_of_range", "rounded"))
_MAX_DICTIONARY_BYTES = 1 << 28


def open_dukascopy(
    data: PathInput,
    /,
    *,
    symbol: Renames = None,
    hour: str | None = None,
    places: int | None = None,
    feed: str = "dukascopy",
) -> OpenedSource:
    """Open Dukascopy hours laid out as ``EURUSD/2019/01/04/10h_ticks.bi5`` (the month counts from zero: 4 February).

    Args:
        data: Path, paths or folder; of a folder only ``*.bi5``.
        symbol: The pair, where the path does not hold it, or its new name.
        hour: Start of the hour in UTC, where the path does not hold it: ``2019-02-04T10``.
        places: Decimal places of the prices; known for currency pairs (5; 3 with JPY, RUB, HUF, THB,
            CZK) and metals (3).
        feed: Identity of the rows.

    Raises:
        SourceAmbiguousError: Pair, hour or places cannot be told.
        SourceStructureError: A file is truncated or no hour of Dukascopy.

    Example:
        >>> open_dukascopy("EURUSD/2019/01/04/10h_ticks.bi5")  # doctest: +SKIP
    """
    whole = [path for path in files(data) if path.suffix == ".bi5" or not is_folder(data)]
    if not whole:
        raise SourceNotFoundError(f"{data}: the folder holds no .bi5 file")
    if hour is not None and len(whole) > 1:
        raise ArgumentError(f"hour={hour!r} is the hour of one file, not of {len(whole)}; load each alone")
    plans = [(path, *_name(path, symbol, hour, places)) for path in whole]
    plans.sort(key=lambda plan: (plan[1], plan[2]))

    def hours() -> Iterator[list[TickBatch]]:
        for path, name, start, power in plans:
            raw = _unpack(path)
            if raw:
                yield [_batch(path, raw, name, start, power)]

    names = sorted({name for _, name, _, _ in plans})
    return OpenedSource(
        "dukascopy", feed, in_parts(hours()), f"{len(plans)} hours of Dukascopy quotes of {', '.join(names[:5])}"
    )


def _name(path: Path, symbol: Renames, hour: str | None, places: int | None) -> tuple[str, dt.datetime, int]:
    match = _LAYOUT.search(str(path.absolute()))
    own = match["symbol"].upper() if match else pair_in(path.stem)
    name = symbol if isinstance(symbol, str) else (symbol or {}).get(own or "", own or "")
    if not name:
        raise SourceAmbiguousError(f"{path}: the path does not hold the pair; give symbol=")
    if hour is not None:
        try:
            start = dt.datetime.fromisoformat(hour).replace(tzinfo=dt.UTC)
        except ValueError as error:
            raise ArgumentError(f"hour={hour!r} is no hour; write it as 2019-02-04T10") from error
    elif match:
        try:
            start = dt.datetime(int(match["y"]), int(match["m"]) + 1, int(match["d"]), int(match["h"]), tzinfo=dt.UTC)
        except ValueError as error:
            raise SourceStructureError(
                f"{path}: the path holds no hour: its month counts from zero ({error})"
            ) from error
    else:
        raise SourceAmbiguousError(f"{path}: the path does not hold the hour; give hour=")
    if places is None:
        pair = pair_in(own or name)
        if pair is None:
            raise SourceAmbiguousError(f"{path}: the decimal places of {own or name!r} are not known; give places=")
        places = 3 if pair[:3] in _METALS or pair[3:] in _THREE_PLACES else 5
    if not 0 <= places <= 8:
        raise ArgumentError(f"places={places}; give 0 to 8")
    return name, start, places


def _unpack(path: Path) -> bytes:
    """The records; an empty file is an hour without quotes."""
    data = path.read_bytes()
    if not data:
        return b""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_MAX_DICTIONARY_BYTES)
    try:
        raw = decoder.decompress(data)
    except lzma.LZMAError as error:
        raise SourceStructureError(
            f"{path}: not LZMA, or damaged ({error}); fetch the file again or check source="
        ) from error
    if decoder.unused_data:
        raise SourceStructureError(f"{path}: bytes follow the compressed data; fetch the file again")
    if not decoder.eof:
        raise SourceStructureError(f"{path}: the compressed data is truncated; fetch the file again")
    if len(raw) % _RECORD.itemsize:
        raise SourceStructureError(f"{path}: {len(raw)} bytes are no whole number of 20-byte records; check source=")
    return raw


def _batch(path: Path, raw: bytes, name: str, start: dt.datetime, places: int) -> TickBatch:
    records = np.frombuffer(raw, _RECORD)
    if int(records["ms"].max()) >= 3_600_000:
        at = int(np.argmax(records["ms"] >= 3_600_000)) + 1
        raise SourceStructureError(f"{path}: record {at} lies outside its hour (line {at}, column 1); check source=")
    base = (start - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(hours=1) * 3_600_000_000_000
    unit = 10 ** (8 - places)
    columns: Mapping[str, pa.Array] = {
        "symbol": constant(name, len(records)),
        "timestamp_utc": instants(records["ms"].astype(np.int64) * 1_000_000 + base),
        "bid": fixed(records["bid"].astype(np.int64) * unit),
        "ask": fixed(records["ask"].astype(np.int64) * unit),
    }
    faults = np.zeros(len(records), dtype=np.uint32)
    sizes = {side: _units(records[side].astype(np.float32), faults) for side in ("bid_size", "ask_size")}
    columns = {**columns, **sizes}
    if faults.any():
        columns["faults"] = pa.array(faults)

    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        return [(row + 1, str(records[row].item())) for row in rows]

    return TickBatch(pa.record_batch(columns), str(path), locate)


def _units(millions: npt.NDArray[np.float32], faults: npt.NDArray[np.uint32]) -> pa.Array:
    """Sizes in millions as units of the base currency: the shortest decimal of each float, exactly."""
    distinct, inverse = np.unique(millions, return_inverse=True)
    values = np.zeros(len(distinct), dtype=np.int64)
    bits = np.zeros(len(distinct), dtype=np.uint32)
    for index, value in enumerate(distinct):
        if not np.isfinite(value):
            bits[index] = _NOT_A_NUMBER
            continue
        scaled = Decimal(np.format_float_positional(value, unique=True, trim="-")) * 10**14
        if abs(scaled) > MAX_UNITS:
            bits[index] = _OUT_OF_RANGE
        else:
            values[index] = int(scaled.to_integral_value())
            bits[index] = 0 if scaled == values[index].item() else _ROUNDED
    faults |= bits[inverse]
    return fixed(values[inverse], (bits & ~np.uint32(_ROUNDED) != 0)[inverse])
