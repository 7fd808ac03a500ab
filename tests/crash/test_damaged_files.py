"""Bits of Parquet files changed, in pages, headers and footers: the right answer or a typed error, never another."""

from __future__ import annotations

import functools
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from backtestr.errors import BacktestrError
from tests.crash.operations import OPERATIONS, State
from tests.crash.oracle import MATERIALIZED, bars_in, bars_of, rows_in
from tests.crash.test_damaged_log import changed

_SQL = {"ticks": "select * from ticks order by all", "bars": "select * from bars order by all"}
_SQL_EVERY = 8
_FIRST_HEADER = (4, 22)


@pytest.fixture
def made(tmp_path: Path, seed: int) -> tuple[Path, State]:
    """A store of a few files of ticks and bars, and what is in it."""
    random, state = Random(seed), State()
    with bt.open(tmp_path / "store") as store:
        while len({row.symbol for row in state.rows}) < 2 or state.rows.total() < 40:
            given = OPERATIONS["ingest"].draw(random, state)
            assert given is not None
            OPERATIONS["ingest"].run(store, given)
            state = OPERATIONS["ingest"].apply(state, given)
        store.checkpoint()
    return tmp_path / "store", state


def test_flipped_bits(made: tuple[Path, State], count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    path, state = made
    random = Random(seed)
    bars = {timeframe: bars_of(state, seconds) for timeframe, seconds in MATERIALIZED.items()}
    figures.update(flips=0, refused=0, right=0)
    with bt.open(path, read_only=True) as by_sql:
        files = [(table, path / file.path) for table in _SQL for file in by_sql._version().of(table)]
        right = {table: by_sql.sql(text).to_arrow().to_pylist() for table, text in _SQL.items()}
        assert len(right["ticks"]) == state.rows.total()
        for flip in range(count("flips")):
            table, file = random.choice(files)
            offset, bit, timeframe = _place(random, file), random.randrange(8), random.choice(list(bars))
            where = f"bit {bit} of byte {offset} of {file}"
            with changed(file, offset, bit):
                with bt.open(path, read_only=True) as store:
                    if table == "ticks":
                        figures[_answer(functools.partial(rows_in, store), state.rows, file, where)] += 1
                    else:
                        ask = functools.partial(bars_in, store, timeframe)
                        figures[_answer(ask, bars[timeframe], file, where)] += 1
                if flip % _SQL_EVERY == 0:
                    ask = functools.partial(_rows_of, by_sql, _SQL[table])
                    figures[_answer(ask, right[table], file, where)] += 1
            figures["flips"] += 1


def test_the_header_that_hides_a_dictionary(made: tuple[Path, State], figures: Counter[str]) -> None:
    """No checksum covers a page's header; bits of the first one turned a symbol's rows into another symbol's."""
    path, state = made
    with bt.open(path, read_only=True) as store:
        files = [path / file.path for file in store._version().of("ticks")][:2]
    for file in files:
        for offset in range(*_FIRST_HEADER):
            for bit in range(8):
                with changed(file, offset, bit), bt.open(path, read_only=True) as store:
                    where = f"bit {bit} of byte {offset} of {file}"
                    figures[_answer(functools.partial(rows_in, store), state.rows, file, where)] += 1


def _answer(ask: Callable[[], object], known: object, file: Path, where: str) -> str:
    """Ask, and say how it went."""
    try:
        answer = ask()
    except BacktestrError as error:
        said = str(error)
    else:
        assert answer == known, f"{where}: another answer"
        return "right"
    assert file.name in said, f"{where}: {said}"
    return "refused"


def _rows_of(store: bt.Store, text: str) -> list[dict[str, object]]:
    return store.sql(text).to_arrow().to_pylist()  # type: ignore[no-any-return]


def _place(random: Random, file: Path) -> int:
    """A byte of the file: anywhere, in its footer, or in the footer's length and magic."""
    size = file.stat().st_size
    with file.open("rb") as raw:
        raw.seek(-8, 2)
        (footer,) = struct.unpack("<I", raw.read(4))
    pages = (4, size - 8 - footer)
    return random.randrange(*random.choice([pages, pages, (pages[1], size - 8), (size - 8, size), (0, size)]))
