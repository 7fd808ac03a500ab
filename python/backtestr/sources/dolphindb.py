"""Shanghai and Shenzhen trades as DolphinDB's tutorials export them: local time, amounts printed from binary floats."""

from __future__ import annotations

from backtestr.sources.csv import CsvFormat, open_text
from backtestr.sources.files import PathInput
from backtestr.sources.model import OpenedSource, Renames

_COLUMNS = {
    "symbol": "SecurityID",
    "exchange": "Market",
    "timestamp_utc": "TradeTime",
    "price": "TradePrice",
    "volume": "TradeQty",
}


def open_dolphindb(
    data: PathInput, /, *, symbol: Renames = None, encoding: str | None = None, feed: str = "dolphindb"
) -> OpenedSource:
    """Open trades with the header ``SecurityID,Market,TradeTime,TradePrice,TradeQty,…``.

    Args:
        data: Path, paths or folder.
        symbol: New name of the symbol, or names by name.
        encoding: Other than UTF-8.
        feed: Identity of the rows.

    Raises:
        SourceStructureError: A column is missing.

    Example:
        >>> open_dolphindb("20200102_SH_trade.csv")  # doctest: +SKIP
    """
    form = CsvFormat(
        columns=_COLUMNS,
        separator=",",
        header=True,
        encoding=encoding,
        time_format="%Y.%m.%dT%H:%M:%S%.f",
        timezone="Asia/Shanghai",
        numbers="float",
        symbol=symbol,
    )
    return open_text("dolphindb", data, form, feed, "trades in Asia/Shanghai time, DolphinDB's columns")
