"""Thousands of versions: each reads as the state that was recorded when it was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import backtestr as bt
from tests.crash.operations import OPERATIONS, State
from tests.crash.oracle import MATERIALIZED, bars_in, bars_of, orders_in, rows_in

VERSIONS = 2_000
WEIGHTS = {
    "append": 40,
    "append_orders": 50,
    "ingest": 3,
    "delete": 2,
    "correct": 1,
    "cancel": 1,
    "set_bar_spec": 0.3,
    "tag": 1,
    "revert": 0.3,
    "checkpoint": 1,
}
MOST_ROWS = 3_000
"""From so many on rows go, so that no state takes long to compare."""


def made(store: bt.Store, random: Random) -> dict[int, State]:
    """Change a store until it has so many versions; returns the state of each."""
    states, state = {store.info().lsn: State()}, State()
    while len(states) < VERSIONS:
        (name,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        operation = OPERATIONS["delete" if state.rows.total() > MOST_ROWS else name]
        given = operation.draw(random, state)
        if given is not None:
            operation.run(store, given)
            state = operation.apply(state, given)
            # a change of files may flush first, which is a version of its own and changes nothing
            states[store._version().lsn] = state
    return states


def test_any_version_reads_as_it_was(
    tmp_path: Path, count: Callable[[str], int], seed: int, figures: Counter[str]
) -> None:
    random = Random(seed)
    with bt.open(tmp_path / "s", flush_rows=300) as store:
        states = made(store, random)
        read = random.sample(sorted(states), min(count("versions"), len(states)))
        for lsn in read:
            with store.at(lsn) as then:
                state = states[lsn]
                assert rows_in(then) == state.rows, f"ticks of version {lsn}"
                assert orders_in(then) == state.orders, f"orders of version {lsn}"
                assert then.bar_spec.volume_excludes == state.excludes
                timeframe = random.choice(list(MATERIALIZED))
                assert bars_in(then, timeframe) == bars_of(state, MATERIALIZED[timeframe]), f"bars of version {lsn}"
    figures["versions"] = len(states)
    figures["of them read"] = len(read)
