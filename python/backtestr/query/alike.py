"""What requests are alike: the text that their runs are remembered under, without values."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections.abc import Sized
from functools import lru_cache
from typing import Final

from backtestr.models import Timeframe

MAX_STATEMENT: Final = 10_000
"""Characters of a statement that are looked at."""
_MAX_SHOWN: Final = 500
_COUNTS: Final = (10, 100, 1_000)
_SPANS: Final = ("1m", "1h", "1d", "7d", "31d", "366d")
_SPANS_NS: Final = tuple(Timeframe.parse(span).ns for span in _SPANS)
# Texts that are not closed go on to the end, so that a statement that was cut off shows no value either.
_TOKEN = re.compile(
    r"""(?P<gap>(?:\s|--[^\n]*|/\*.*?(?:\*/|\Z))+)
    |(?P<value>[eE]'(?:\\.|''|[^'\\])*(?:'|\Z)|(?:[xXbB]|[uU]&)?'(?:''|[^'])*(?:'|\Z)
        |\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
        |(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?\w*)
    |(?P<name>"(?:""|[^"])*(?:"|\Z)|\$\w+|[^\W\d]\w*)""",
    re.VERBOSE | re.DOTALL,
)
_LIST = re.compile(r"\?(?:\s?,\s?\?)+")


def symbol_count(symbols: object) -> int | None:
    """How many symbols a caller asks for; None for all, and where they can be read once only."""
    return 1 if isinstance(symbols, str) else len(symbols) if isinstance(symbols, Sized) else None


def request_kind(
    timeframe: object,
    symbols: int | None,
    window: tuple[int | None, int | None],
    columns: int | None = None,
    *,
    limited: bool = False,
    price: str | None = None,
) -> str:
    """The kind of a request for ticks, or for bars of a timeframe.

    Args:
        timeframe: of bars; None for ticks.
        symbols: how many are asked for; None for all.
        window: from and to before, in ns; None where nothing bounds it.
        columns: how many are asked for; None for all.
        limited: whether some rows of each symbol are asked for.
        price: the price basis that is named.

    Example:
        >>> request_kind("5m", 3, (0, 7_200_000_000_000))
        'bars of 5m: up to 10 symbols, up to 1d'
    """
    what = "ticks" if timeframe is None else f"bars of {Timeframe.parse(timeframe)}"  # type: ignore[arg-type]
    said = [_count(symbols), _span(window)]
    said += [] if columns is None else [f"{columns} columns"]
    said += [f"{price} prices"] if price is not None else []
    return f"{what}: {', '.join(said + ['limit'] * limited)}"


@lru_cache(maxsize=256)
def statement_kind(text: str) -> str:
    """A statement without its values, comments and line breaks.

    Example:
        >>> statement_kind("select *  from ticks where symbol in ('A', 'B') -- mine")
        'select * from ticks where symbol in (?, …)'
    """
    plain = _LIST.sub("?, …", _TOKEN.sub(_told, text[:MAX_STATEMENT])).strip(" ;")
    plain = plain.encode("utf-8", "replace").decode()
    if len(plain) <= _MAX_SHOWN:
        return plain
    return f"{plain[:_MAX_SHOWN]}… #{zlib.crc32(plain.encode()):08x}"


def _told(token: re.Match[str]) -> str:
    kind = token.lastgroup
    return " " if kind == "gap" else token[0] if kind == "name" else "?"


def _count(symbols: int | None) -> str:
    if symbols is None:
        return "all symbols"
    if symbols == 1:
        return "1 symbol"
    rung = bisect_left(_COUNTS, symbols)
    return f"up to {_COUNTS[rung]:,} symbols" if rung < len(_COUNTS) else f"over {_COUNTS[-1]:,} symbols"


def _span(window: tuple[int | None, int | None]) -> str:
    start, end = window
    if start is None or end is None:
        return "all time" if start is end else "open time"
    rung = bisect_left(_SPANS_NS, end - start)
    return f"up to {_SPANS[rung]}" if rung < len(_SPANS) else f"over {_SPANS[-1]}"
