"""DBN's fixed-size records as tick columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr._native import REASONS
from backtestr.models import TickType
from backtestr.models.fixed import MAX_UNITS
from backtestr.sources.fixed import constant, fixed, instants
from backtestr.sources.model import TickBatch

_HEADER = [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8")]
_TRADE = np.dtype(
    [
        *_HEADER,
        ("price", "<i8"),
        ("size", "<u4"),
        ("action", "S1"),
        ("side", "S1"),
        ("flags", "u1"),
        ("depth", "u1"),
        ("ts_recv", "<u8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)
_LEVEL = [
    ("bid_px", "<i8"),
    ("ask_px", "<i8"),
    ("bid_sz", "<u4"),
    ("ask_sz", "<u4"),
    ("bid_ct", "<u4"),
    ("ask_ct", "<u4"),
]
_QUOTE = np.dtype([*((name, _TRADE[name]) for name in _TRADE.names or ()), *_LEVEL])
RECORDS = {"trades": _TRADE, "tbbo": _QUOTE, "mbp-1": _QUOTE}
LEVELS = {"trades": 0, "tbbo": 1, "mbp-1": 1}

_UNDEFINED_PRICE = np.iinfo(np.int64).max
_UNDEFINED_TIME = np.iinfo(np.uint64).max
_ONE = 100_000_000
_SYMBOL_MISSING, _INEXACT, _OUT_OF_RANGE = (REASONS[name] for name in ("symbol_missing", "inexact", "out_of_range"))
_TIME_MISSING, _TIME_RANGE = REASONS["timestamp_missing"], REASONS["timestamp_out_of_range"]
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Mappings:
    """Instrument → symbol by date, from the metadata."""

    names: list[str]
    # instrument id → (first day, day after the last, index of the name); days since 1970
    spans: dict[int, list[tuple[int, int, int]]]

    @classmethod
    def of(cls, meta: Any) -> Mappings:
        """The mappings of a file, whichever of the two sides is the instrument id."""
        names: dict[str, int] = {}
        spans: dict[int, list[tuple[int, int, int]]] = {}
        # The decoder hands them out in any order; where two names hold an instrument the first by name is taken.
        for given, intervals in sorted(dict(meta.mappings).items()):
            for interval in intervals:
                other = str(interval["symbol"])
                if not other:
                    continue
                instrument, name = (
                    (other, given) if other.isdigit() and str(meta.stype_out) == "instrument_id" else (given, other)
                )
                if instrument.isdigit():
                    key = names.setdefault(name, len(names))
                    span = (_day(interval["start_date"]), _day(interval["end_date"]), key)
                    spans.setdefault(int(instrument), []).append(span)
        return cls(list(names), spans)

    def keys(self, instruments: npt.NDArray[np.uint32], days: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The index of each row's name; -1 where no interval holds it."""
        pairs, inverse = np.unique(days << 32 | instruments.astype(np.int64), return_inverse=True)
        keys = [self._key(pair & 0xFFFF_FFFF, pair >> 32) for pair in pairs.tolist()]
        return np.array(keys, dtype=np.int32)[inverse]

    def _key(self, instrument: int, day: int) -> int:
        return next((key for start, end, key in self.spans.get(instrument, ()) if start <= day < end), -1)


def _day(date: Any) -> int:
    if isinstance(date, int):
        date = dt.date(date // 10_000, date // 100 % 100, date % 100)
    elif isinstance(date, str):
        date = dt.date.fromisoformat(date)
    return int(date.toordinal()) - dt.date(1970, 1, 1).toordinal()


def tick_batch(
    member: str, records: npt.NDArray[Any], dataset: str, mappings: Mappings, clock: str, first: int
) -> TickBatch:
    """Records of one schema as ticks: times in ns, prices from 1e-9 to 1e-8, undefined prices absent."""
    faults = np.zeros(len(records), dtype=np.uint32)
    received, times = records["ts_recv"], records["ts_event" if clock == "exchange" else "ts_recv"]
    faults[times == _UNDEFINED_TIME] |= _TIME_MISSING
    faults[(times != _UNDEFINED_TIME) & (times > np.iinfo(np.int64).max)] |= _TIME_RANGE
    unread = (faults & (_TIME_MISSING | _TIME_RANGE)) != 0
    instants_ns = np.where(unread, 0, times).astype(np.int64)
    by = np.where(received == _UNDEFINED_TIME, records["ts_event"], received)
    keys = mappings.keys(records["instrument_id"], (by // _DAY_NS).astype(np.int64))
    faults[keys < 0] |= _SYMBOL_MISSING
    used, inverse = np.unique(np.maximum(keys, 0), return_inverse=True)
    names = pa.array([mappings.names[index] for index in used.tolist()] if mappings.names else [""], pa.string())
    columns: dict[str, pa.Array] = {
        "symbol": pa.DictionaryArray.from_arrays(pa.array(inverse.astype(np.int32), mask=keys < 0), names),
        "timestamp_utc": instants(instants_ns)
        if not unread.any()
        else pa.array(instants_ns, mask=unread).cast(pa.timestamp("ns", tz="UTC")),
    }
    quoted = "bid_px" in (records.dtype.names or ())
    trade = records["action"] == b"T" if quoted else np.ones(len(records), dtype=bool)
    columns["price"] = _prices(records["price"], ~trade, faults)
    columns["volume"] = fixed(records["size"].astype(np.int64) * _ONE, ~trade)
    if quoted:
        no_bid, no_ask = records["bid_px"] == _UNDEFINED_PRICE, records["ask_px"] == _UNDEFINED_PRICE
        columns["bid"] = _prices(records["bid_px"], no_bid, faults)
        columns["ask"] = _prices(records["ask_px"], no_ask, faults)
        columns["bid_size"] = fixed(records["bid_sz"].astype(np.int64) * _ONE, no_bid)
        columns["ask_size"] = fixed(records["ask_sz"].astype(np.int64) * _ONE, no_ask)
        kind = np.where(no_ask & ~no_bid, TickType.BID, np.where(no_bid & ~no_ask, TickType.ASK, TickType.COMPOSITE))
        columns["tick_type"] = pa.array(np.where(trade, TickType.TRADE, kind).astype(np.int8))
    columns["exchange"] = constant(dataset, len(records))
    if faults.any():
        columns["faults"] = pa.array(faults)

    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        return [(first + row + 1, str(records[row].item())) for row in rows]

    return TickBatch(pa.record_batch(columns), member, locate)


def _prices(raw: npt.NDArray[np.int64], absent: npt.NDArray[np.bool_], faults: npt.NDArray[np.uint32]) -> pa.Array:
    absent = absent | (raw == _UNDEFINED_PRICE)
    values, lost = np.divmod(raw, 10)
    inexact = ~absent & (lost != 0)
    too_large = ~absent & (np.abs(values) > MAX_UNITS)
    faults[inexact] |= _INEXACT
    faults[too_large] |= _OUT_OF_RANGE
    return fixed(values, absent | inexact | too_large)
