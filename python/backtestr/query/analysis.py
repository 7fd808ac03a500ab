"""One run of a request or statement that is made to be measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from backtestr.instants import range_ns
from backtestr.models import Analysis
from backtestr.query.cut import Cut
from backtestr.query.request import read_bars, read_ticks
from backtestr.query.sql import Prepared, ready_cursor, run_text
from backtestr.storage import Storage
from backtestr.storage.session import Session
from backtestr.storage.snapshot import Version


def analyze_request(storage: Storage, version: Version, clock: Callable[[], int], asked: Mapping[str, Any]) -> Analysis:
    """Answer a request for bars of a timeframe, or for ticks without one, and measure it by a clock of ns."""
    window = range_ns(asked.get("start"), asked.get("end"))
    cut = Cut.parse(asked.get("limit"), asked.get("order", "asc"))
    symbols, timeframe = asked.get("symbols"), asked.get("timeframe")
    began = clock()
    if timeframe is None:
        rows = read_ticks(storage, version, symbols, *window, asked.get("columns"), cut)
    else:
        rows = read_bars(storage, version, symbols, timeframe, *window, asked.get("price"), cut)
    return Analysis((clock() - began) / 1e6, rows.num_rows)


def analyze_sql(storage: Storage, session: Session, prepared: Prepared, clock: Callable[[], int]) -> Analysis:
    """Run a statement and measure it by a clock of ns, then once more for the engine's counts.

    Raises:
        SQLError: the engine refuses it.
    """
    began = clock()
    with ready_cursor(storage, session, prepared) as cursor:
        rows = run_text(cursor, prepared.text, prepared)
        took = clock() - began
        told = run_text(cursor, f"explain (analyze, format json) {prepared.text}", prepared)
    counts = json.loads(told.column(1)[0].as_py()).get("query")
    if counts is None:
        # DESCRIBE and the like read no rows, and the engine has no counts of them.
        return Analysis(took / 1e6, rows.num_rows)
    read = (counts.get(f"total_{what}_scanned", 0) for what in ("rows", "bytes", "row_groups"))
    return Analysis(took / 1e6, rows.num_rows, *read)
