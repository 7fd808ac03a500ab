"""The judge sees what it is there for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from tests.crash import oracle
from tests.crash.operations import OPERATIONS, Row, State, states_of
from tests.crash.oracle import Diary, WrongStoreError, judge


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, State]:
    plan = [("ingest", OPERATIONS["ingest"].draw(Random(1), State()) or {}), ("tag", {"name": "t"})]
    with bt.open(tmp_path / "store") as store:
        for name, given in plan:
            OPERATIONS[name].run(store, given)
    return tmp_path / "store", states_of(State(), plan)[-1]


def test_every_operation_does_what_the_oracle_says(tmp_path: Path) -> None:
    random, state = Random(3), State()
    with bt.open(tmp_path / "store") as store:
        for name in ["ingest"] * 6 + list(OPERATIONS):
            given = None
            while given is None:
                given = OPERATIONS[name].draw(random, state)
            OPERATIONS[name].run(store, given)
            state = OPERATIONS[name].apply(state, given)
            judge(tmp_path / "store", [state])
    judge(tmp_path / "store", [state], is_deep=True)


def test_a_row_lost_or_there_twice_is_seen(made: tuple[Path, State]) -> None:
    path, state = made
    row = next(iter(state.rows))
    assert judge(path, [state]) == 0
    assert judge(path, [State(), state]) == 1
    for wrong in (
        replace(state, rows=state.rows + Counter([row])),
        replace(state, rows=state.rows - Counter([row])),
        replace(state, rows=state.rows - Counter([row]) + Counter([row._replace(price=row.price + 1)])),
        replace(state, excludes=("W",)),
        replace(state, schema=1),
        replace(state, tags={}),
        replace(state, tags={**state.tags, "u": state}),
    ):
        with pytest.raises(WrongStoreError):
            judge(path, [wrong])
    with pytest.raises(WrongStoreError, match="version t"):
        judge(path, [replace(state, tags={"t": State()})], is_deep=True)


def test_a_bar_out_of_step_is_seen(made: tuple[Path, State], monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = made
    bars_in = oracle.bars_in
    monkeypatch.setattr(oracle, "bars_in", lambda store, timeframe: set(sorted(bars_in(store, timeframe))[1:]))
    with pytest.raises(WrongStoreError, match="bars of 1m"):
        judge(path, [state])


def test_bars_of_two_trades() -> None:
    rows = Counter([Row("A", 0, 3 * 10**8, 10**8, None), Row("A", 59 * 10**9, 10**8, 2 * 10**8, "W")])
    everything = {("A", 0, 3 * 10**8, 3 * 10**8, 10**8, 10**8, 3 * 10**8, 5 * 10**16, 166_666_667, 2)}
    assert oracle.bars_of(State(rows), 60) == everything
    without = {("A", 0, 3 * 10**8, 3 * 10**8, 10**8, 10**8, 10**8, 3 * 10**16, 3 * 10**8, 1)}
    assert oracle.bars_of(State(rows, excludes=("W",)), 60) == without


def test_a_diary_says_what_is_in_doubt(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    assert Diary.read(path).acknowledged == 0
    path.write_text("begin open\ndone open\nbegin 0\ndone 0\nbegin 1\n")
    assert (Diary.read(path).acknowledged, Diary.read(path).in_doubt) == (1, True)
