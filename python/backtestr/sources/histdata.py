"""HistData.com generic ASCII ticks: ``YYYYMMDD HHMMSSmmm,bid,ask,volume``, EST without daylight saving."""

from __future__ import annotations

import re
from typing import Any

from backtestr.sources.files import PathInput, is_folder, members
from backtestr.sources.fx_text import open_fx, pair_of, refuse
from backtestr.sources.model import OpenedSource, Renames
from backtestr.sources.text import first_cells


def open_histdata(data: PathInput, /, *, symbol: Renames = None, feed: str = "histdata") -> OpenedSource:
    """Open HistData.com tick files; the volume column is always 0 and is left out.

    Args:
        data: Path, paths or folder; of a zip only the ``.csv`` members are read (beside them lies a report).
        symbol: The pair, where the file's name (``DAT_ASCII_EURUSD_T_202001.csv``) does not hold it.
        feed: Identity of the rows.

    Raises:
        SourceAmbiguousError: The pair cannot be told.
        SourceStructureError: The text is no tick file of HistData.

    Example:
        >>> open_histdata("DAT_ASCII_EURUSD_T_202001.zip")  # doctest: +SKIP
    """
    plans = []
    for member in members(data):
        if ("!" in member.name or is_folder(data)) and not member.inner.lower().endswith(".csv"):
            continue
        cells = first_cells(member)
        if not cells:
            continue
        if len(cells) not in {3, 4} or not re.fullmatch(r"\d{8} \d{9}", cells[0]):
            raise refuse(member, "HistData", cells)
        fields = [{"target": "timestamp", "format": "%Y%m%d %H%M%S%3f"}, {"target": "bid"}, {"target": "ask"}]
        fields += [{"target": "ignore"}] * (len(cells) - 3)
        spec: dict[str, Any] = {"separator": ",", "fields": fields, "zone": "-05:00", "symbol": pair_of(member, symbol)}
        plans.append((member, spec, 0))
    return open_fx("histdata", feed, plans, symbol, "HistData quotes in fixed UTC-05:00")
