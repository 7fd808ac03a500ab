"""The stores that faults are tried on, and what is done to them."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import backtestr as bt
from backtestr._native import LogWriter
from backtestr.storage.commit import Commit
from tests.crash.operations import FIRST, OPERATIONS, SECOND, Plan, Row, State, states_of

SEGMENT_BYTES = 64 << 20
_FRAME_BYTES = 68
_PAD_BYTES = 3 << 20
_LEFT_BYTES = 100
"""What a full segment has left: less than any record takes."""


@dataclass(frozen=True)
class Scenario:
    """What a worker does while something fails.

    Attributes:
        start: the store there is before, of `STARTS`; None for none.
        step: from where on it fails: ``open``, ``close`` or an operation's number.
        plan: what the worker does.
    """

    start: str | None
    step: str
    plan: Plan

    @property
    def states(self) -> list[State]:
        """The state before, and that after each operation."""
        return states_of(State() if self.start is None else states_of(State(), _BASE)[-1], self.plan)


def _rows(symbol: str, first: int, number: int) -> list[Row]:
    return [Row(symbol, FIRST + (first + 97 * i) * SECOND, (100 + i) * 10**8, 10**8, None) for i in range(number)]


_BASE: Plan = [
    ("ingest", {"rows": _rows("AAA", 0, 40), "mode": "merge"}),
    ("ingest", {"rows": _rows("BB", 0, 40), "mode": "merge"}),
    ("checkpoint", {}),
    ("ingest", {"rows": _rows("AAA", 50, 40), "mode": "merge"}),
]
_LOAD: Plan = [("ingest", {"rows": _rows("C", 0, 60), "mode": "merge"})]
_APPENDS: Plan = [
    ("append", {"rows": _rows("BB", 5_000, 20), "batch_id": "1"}),
    ("append_orders", {"orders": [(1, 5 * 10**8), (2, 10**8), (1, 7)]}),
]
SCENARIOS = {
    "create": Scenario(None, "open", []),
    "ingest": Scenario("plain", "0", _LOAD),
    "delete": Scenario("plain", "0", [("delete", {"symbol": "AAA", "start": FIRST, "end": FIRST + 2_000 * SECOND})]),
    "append": Scenario("plain", "0", _APPENDS),
    "flush": Scenario("plain", "2", [*_APPENDS, ("checkpoint", {})]),
    "checkpoint": Scenario("plain", "0", [("checkpoint", {})]),
    "migrate": Scenario("plain", "0", [("migrate", {"to": 1})]),
    "close": Scenario("plain", "close", _LOAD),
    "recover": Scenario("torn", "0", [("tag", {"name": "t"})]),
    "next segment": Scenario("full", "0", [("tag", {"name": "t"})]),
}


def _make_plain(store: Path) -> None:
    with bt.open(store) as opened:
        for name, given in _BASE:
            OPERATIONS[name].run(opened, given)


def _make_torn(store: Path) -> None:
    """As a power cut leaves a store: not closed, space reserved, and the first bytes of a frame."""
    _make_plain(store)
    (store / "log" / "CLOSED").unlink()
    segment = _last_segment(store)
    with segment.open("ab") as file:
        file.write(b"BTLF\1\0\1\1")
    os.truncate(segment, 1 << 20)


def _make_full(store: Path) -> None:
    """The next record begins another segment."""
    _make_plain(store)
    room = SEGMENT_BYTES - _LEFT_BYTES - _last_segment(store).stat().st_size
    number = math.ceil(room / _PAD_BYTES)
    writer = LogWriter.open(store / "log", 0)
    for place in range(number):
        size = room * (place + 1) // number - room * place // number - _FRAME_BYTES
        empty = len(Commit("pad", note={"pad": ""}).encode())
        lsn, _ = writer.submit(Commit("pad", note={"pad": "x" * (size - empty)}).encode(), 0)
        writer.wait(lsn)
    writer.close()
    assert _last_segment(store).stat().st_size == SEGMENT_BYTES - _LEFT_BYTES
    with bt.open(store) as opened:
        opened.checkpoint()


STARTS: dict[str, Callable[[Path], None]] = {"plain": _make_plain, "torn": _make_torn, "full": _make_full}


def lay_out(scenario: Scenario, folder: Path) -> Path:
    """A scenario's store below a folder, fresh; each start is made once, and copied."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    if scenario.start is not None:
        start = folder / scenario.start
        if not start.exists():
            STARTS[scenario.start](start)
        shutil.copytree(start, store)
    return store


def _last_segment(store: Path) -> Path:
    return max((store / "log").glob("*.log"))
