"""Tardis.dev CSV datasets ``trades``, ``quotes`` and ``book_ticker``: µs since 1970; the ask stands before the bid."""

from __future__ import annotations

from backtestr.errors import SourceAmbiguousError, SourceStructureError
from backtestr.sources.csv import CsvFormat, open_text
from backtestr.sources.files import PathInput, members
from backtestr.sources.model import OpenedSource, Renames, check_clock
from backtestr.sources.text import first_cells, head, head_text

_COMMON = {"exchange": "exchange", "symbol": "symbol"}
_STAMPS = frozenset({"exchange", "symbol", "timestamp", "local_timestamp"})
_TRADES = {"price": "price", "volume": "amount"}
_QUOTES = {"bid": "bid_price", "ask": "ask_price", "bid_size": "bid_amount", "ask_size": "ask_amount"}


def open_tardis(
    data: PathInput, /, *, symbol: Renames = None, clock: str = "exchange", feed: str | None = None
) -> OpenedSource:
    """Open Tardis trades or quotes.

    Args:
        data: Path, paths or folder, all trades or all quotes.
        symbol: New name of the symbol, or names by name.
        clock: ``exchange`` (column ``timestamp``) or ``receive`` (``local_timestamp``).
        feed: Identity of the rows; ``tardis:<exchange>`` if not given. Trade ids are not always numbers and are
            not kept.

    Raises:
        SourceStructureError: The header is not that of a Tardis dataset of trades or quotes.
        SourceAmbiguousError: The files are of several exchanges or datasets.

    Example:
        >>> open_tardis("bitmex_trades_2020-03-01_XBTUSD.csv.gz")  # doctest: +SKIP
    """
    check_clock(clock)
    exchanges: set[str] = set()
    kinds: set[str] = set()
    for member in members(data):
        header = first_cells(member)
        if not header:
            continue
        names = set(header)
        # Order books and option chains have prices, amounts and quotes too, liquidations the very columns of trades.
        trades = names == {*_STAMPS, "id", "side", *_TRADES.values()} and "liquidations" not in member.inner
        kind = "trades" if trades else "quotes" if names == {*_STAMPS, *_QUOTES.values()} else None
        if kind is None:
            raise SourceStructureError(
                f"{member.name}: the header {','.join(header)[:120]!r} is not that of Tardis trades or quotes "
                "(line 1, column 0); check source="
            )
        kinds.add(kind)
        rows = head(head_text(member, None), ",", '"').rows
        exchanges |= {row[header.index("exchange")] for row in rows[1:] if len(row) == len(header)}
    if len(kinds) > 1 or (feed is None and len(exchanges) > 1):
        raise SourceAmbiguousError(
            f"the files hold {' and '.join(sorted(kinds))} of {', '.join(sorted(exchanges))}; "
            "load each dataset and exchange alone"
        )
    time = {"timestamp_utc": "timestamp" if clock == "exchange" else "local_timestamp"}
    columns = _COMMON | time | (_QUOTES if "quotes" in kinds else _TRADES)
    form = CsvFormat(columns=columns, separator=",", header=True, time_format="us", symbol=symbol)
    exchange = next(iter(exchanges), None)
    feed = feed or (f"tardis:{exchange}" if exchange else "tardis")
    said = f"Tardis {' '.join(kinds) or 'files without rows'} of {exchange}, {clock} clock"
    return open_text("tardis", data, form, feed, said)
