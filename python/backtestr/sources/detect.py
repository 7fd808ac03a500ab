"""Finding out what the columns and times of a text are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from backtestr.errors import SourceAmbiguousError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "symbol": (
        "symbol",
        "ticker",
        "instrument",
        "sym",
        "pair",
        "ric",
        "security",
        "securityid",
        "instrumentid",
        "code",
    ),
    "timestamp": (
        "timestamp_utc",
        "timestamp",
        "datetime",
        "ts",
        "ts_event",
        "event_time",
        "tradetime",
        "quotetime",
        "timestamp_ns",
        "time_utc",
        "utc_time",
        "gmt_time",
        "date_time",
        "time",
        "date",
    ),
    "price": ("price", "trade_price", "last_price", "last", "px"),
    "volume": ("volume", "size", "qty", "quantity", "tradeqty", "trade_size", "last_size", "vol", "shares", "amount"),
    "bid": ("bid", "bid_price", "bidprice", "best_bid", "bid_px"),
    "ask": ("ask", "ask_price", "askprice", "best_ask", "ask_px", "offer"),
    "bid_size": ("bid_size", "bidsize", "bid_qty", "bid_amount", "bid_volume", "bidvolume", "bid_sz", "best_bid_size"),
    "ask_size": ("ask_size", "asksize", "ask_qty", "ask_amount", "ask_volume", "askvolume", "ask_sz", "best_ask_size"),
    "exchange": ("exchange", "exch", "venue"),
    "conditions": ("conditions", "condition", "sale_condition", "cond"),
    "tick_type": ("tick_type",),
}
TICK_TYPES = {"0": 0, "1": 1, "2": 2, "3": 3, "trade": 0, "bid": 1, "ask": 2, "composite": 3, "quote": 3}


def _plain(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def recognise(header: Iterable[str]) -> dict[str, int]:
    """Positions of the columns of ticks that a header names, by their usual names."""
    return dict(_recognised(tuple(header)))


@lru_cache
def _recognised(header: tuple[str, ...]) -> dict[str, int]:
    names = [_plain(name) for name in header]
    loose = [name.replace("_", "") for name in names]
    found: dict[str, int] = {}
    for target, known in SYNONYMS.items():
        for name in known:
            if name in names:
                found[target] = names.index(name)
                break
            if name.replace("_", "") in loose:
                found[target] = loose.index(name.replace("_", ""))
                break
    if "date" in names and "time" in names and found.get("timestamp") == names.index("time"):
        found["date"] = names.index("date")
    return found


def looks_like_header(cells: list[str]) -> bool:
    """Whether no cell is a number or a time."""
    return not any(re.fullmatch(r"\s*[+-]?\.?\d[\d.,:/TZeE+\- ]*", cell) for cell in cells)


_TIME_OF_DAY = (
    (r"\d{6}", "%H%M%S"),
    (r"\d{9}", "%H%M%S%3f"),
    (r"\d\d:\d\d:\d\d(\.\d+)?", "%H:%M:%S%.f"),
)
_PATTERNS = (
    (r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", "iso"),
    (r"(19|20)\d{6}", "%Y%m%d"),
    (r"(19|20)\d{12}", "%Y%m%d%H%M%S"),
    (r"(19|20)\d{15}", "%Y%m%d%H%M%S%3f"),
    (r"\d{9,10}(\.\d+)?", "epoch_s"),
    (r"\d{12,13}(\.\d+)?", "epoch_ms"),
    (r"\d{15,16}(\.\d+)?", "epoch_us"),
    (r"\d{18,19}", "epoch_ns"),
    (r"\d{8} \d{6}", "%Y%m%d %H%M%S"),
    (r"\d{8} \d{9}", "%Y%m%d %H%M%S%3f"),
    (r"\d{8} \d\d:\d\d:\d\d(?:\.\d+)?", "%Y%m%d %H:%M:%S%.f"),
    (r"\d{4}([./])\d\d\1\d\d([T ])\d\d:\d\d:\d\d(?:\.\d+)?", "%Y{0}%m{0}%d{1}%H:%M:%S%.f"),
    (r"\d{4}([./])\d\d\1\d\d", "%Y{0}%m{0}%d"),
)


def time_format(sample: str, where: str, target: str = "timestamp", *, dated: bool = False) -> str:
    """The format that a first time stamp is written in; ``dated``: its day is said elsewhere.

    Raises:
        SourceAmbiguousError: It could be several, or none that is known.
    """
    time_of_day = next((name for pattern, name in _TIME_OF_DAY if re.fullmatch(pattern, sample.strip())), None)
    if time_of_day and dated and target == "timestamp":
        return time_of_day
    if time_of_day and ":" in sample:
        raise SourceAmbiguousError(f"{where}: the time {sample!r} has no date; give date= or columns={{'date': …}}")
    for pattern, name in _PATTERNS:
        if match := re.fullmatch(pattern, sample.strip()):
            return name.format(*match.groups()) if "{0}" in name else name
    argument = "date_format" if target == "date" else "time_format"
    raise SourceAmbiguousError(
        f'{where}: the format of the {target} {sample!r} cannot be told; give {argument}=, such as "%d/%m/%Y %H:%M:%S"'
    )
