"""TrueFX quotes, UTC: ``EUR/USD,20130101 21:59:59.123,bid,ask``, or with the header ``timestamp,bid,ask``."""

from __future__ import annotations

import re
from typing import Any

from backtestr.sources.files import PathInput, members
from backtestr.sources.fx_text import open_fx, pair_of, refuse
from backtestr.sources.model import OpenedSource, Renames
from backtestr.sources.text import first_cells


def open_truefx(data: PathInput, /, *, symbol: Renames = None, feed: str = "truefx") -> OpenedSource:
    """Open TrueFX tick files.

    Args:
        data: Path, paths or folder.
        symbol: The pair, where neither rows nor file name hold it, or its new name.
        feed: Identity of the rows.

    Raises:
        SourceAmbiguousError: The pair cannot be told.
        SourceStructureError: The text is no tick file of TrueFX.

    Example:
        >>> open_truefx("EURUSD-2013-01.zip")  # doctest: +SKIP
    """
    plans: list[tuple[Any, dict[str, Any], int]] = []
    quote = [{"target": "bid"}, {"target": "ask"}]
    for member in members(data):
        cells = [cell.strip().lower() for cell in first_cells(member)]
        if not cells:
            continue
        spec: dict[str, Any] = {"separator": ","}
        if cells == ["timestamp", "bid", "ask"]:
            spec["fields"] = [{"target": "timestamp"}, *quote]
            plans.append((member, spec | {"symbol": pair_of(member, symbol)}, 1))
        elif len(cells) == 4 and re.fullmatch(r"\d{8} \d\d:\d\d:\d\d(\.\d+)?", cells[1]):
            spec["fields"] = [{"target": "symbol"}, {"target": "timestamp", "format": "%Y%m%d %H:%M:%S%.f"}, *quote]
            plans.append((member, spec, 0))
        else:
            raise refuse(member, "TrueFX", cells)
    return open_fx("truefx", feed, plans, symbol, "TrueFX quotes in UTC")
