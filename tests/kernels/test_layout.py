"""Round trips of stored types, and the order of ticks, over extremes."""

from __future__ import annotations

from decimal import Decimal
from itertools import chain
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from backtestr._native import index_runs, measure_layout, narrow, sort_ticks, tally_ticks, widen
from backtestr.schema import FIXED, INSTANT, TURNOVER_SUM, VOLUME_SUM

TEXT = pa.dictionary(pa.int32(), pa.string())
DAY = 86_400 * 10**9


def numbers(digits: int) -> st.SearchStrategy[int | None]:
    ends = st.sampled_from([10**digits - 1, 1 - 10**digits, 2**63 - 1, -(2**63), 2**63, 10**18 - 1, 10**18, 0])
    shaped = st.tuples(st.integers(1 - 10**digits, 10**digits - 1), st.integers(0, digits))
    near = shaped.map(lambda pair: pair[0] // 10 ** pair[1] * 10 ** pair[1])
    return st.one_of(st.none(), near, ends).filter(lambda value: value is None or abs(value) < 10**digits)


INSTANTS = st.one_of(
    st.none(),
    st.sampled_from([2**63 - 1, -(2**63) + 1, -1, 0]),
    st.tuples(st.integers(-(2**63) + 10**9, 2**63 - 1), st.sampled_from([1, 10**3, 10**6, 10**9])).map(
        lambda pair: pair[0] // pair[1] * pair[1]
    ),
)
ROWS = st.lists(st.tuples(numbers(18), numbers(38), numbers(38), INSTANTS), max_size=12)


def decimals(values: list[int | None], kind: pa.DataType) -> pa.Array:
    exact = [None if v is None else Decimal((v < 0, tuple(map(int, str(abs(v)))), -kind.scale)) for v in values]
    return pa.array(exact, kind)


@given(ROWS, st.integers(0, 12))
def test_narrow_is_undone_by_widen(rows: list[tuple[Any, ...]], cut: int) -> None:
    price, volume, turnover, times = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    whole = pa.table(
        {
            "price": decimals(price, FIXED),
            "volume": decimals(volume, VOLUME_SUM),
            "turnover": decimals(turnover, TURNOVER_SUM),
            "timestamp_utc": pa.array(times, pa.int64()).cast(INSTANT),
        }
    )
    parts = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    layout = measure_layout(parts)
    assert layout == measure_layout(whole.combine_chunks())
    small = narrow(parts, layout)
    assert widen(small, whole.schema).combine_chunks().equals(whole.combine_chunks())
    present = [name for name, (is_present, *_) in zip(whole.column_names, layout, strict=True) if is_present]
    assert small.column_names == present


TICK = st.tuples(
    st.sampled_from(["A", "B", "é", "AB"]),
    st.one_of(st.integers(-2, 2), st.sampled_from([-DAY - 1, -DAY, DAY, 3 * DAY])),
    st.integers(-1, 1),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(0, 2)),
    st.one_of(st.none(), st.sampled_from(["x", "y"])),
)
Ticks = list[tuple[Any, ...]]


def ticks(rows: Ticks) -> pa.Table:
    symbol, times, sequence, kind, bid, conditions = zip(*rows, strict=True) if rows else [()] * 6
    return pa.table(
        {
            "symbol": pa.array(symbol, pa.string()).cast(TEXT),
            "timestamp_utc": pa.array(times, pa.int64()).cast(INSTANT),
            "sequence": pa.array(sequence, pa.int64()),
            "tick_type": pa.array(kind, pa.int8()),
            "bid": decimals(list(bid), FIXED),
            "conditions": pa.array(conditions, pa.string()).cast(TEXT),
        }
    )


def rows_of(table: pa.Table) -> Ticks:
    columns = [table[name].to_pylist() for name in ("symbol", "sequence", "tick_type", "bid", "conditions")]
    times = table["timestamp_utc"].cast(pa.int64()).to_pylist()
    bids = [None if bid is None else int(bid.scaleb(8)) for bid in columns[3]]
    return list(zip(columns[0], times, columns[1], columns[2], bids, columns[4], strict=True))


def place(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Symbols by bytes; missing values before others."""
    symbol, time, sequence, kind, bid, conditions = row
    return symbol.encode(), time, sequence, kind, bid is not None, bid or 0, conditions is not None, conditions or ""


BATCHES = st.lists(st.lists(TICK, max_size=8), min_size=1, max_size=4)


@given(BATCHES)
def test_ticks_of_any_batches_sort_to_one_order(given_rows: list[Ticks]) -> None:
    batches = [batch for rows in given_rows for batch in ticks(rows).to_batches() or [ticks([]).to_batches()]]
    made = pa.Table.from_batches([batch for batch in batches if batch], ticks([]).schema)
    ordered = sort_ticks(made)
    assert rows_of(ordered) == sorted(chain.from_iterable(given_rows), key=place)
    assert rows_of(sort_ticks(ordered)) == rows_of(ordered)


@given(BATCHES)
def test_tallies_and_runs_count_every_row(given_rows: list[Ticks]) -> None:
    rows = list(chain.from_iterable(given_rows))
    made = pa.concat_tables([ticks(part) for part in given_rows])
    symbols, days = tally_ticks(made)
    assert dict(days) == {day: sum(r[1] // DAY == day for r in rows) for day in {r[1] // DAY for r in rows}}
    for name, low, high, kinds in symbols:
        own = [row for row in rows if row[0] == name]
        assert (low, high) == (min(r[1] for r in own), max(r[1] for r in own))
        assert list(kinds) == [sum(r[3] == kind for r in own) for kind in range(4)]
    assert [name for name, *_ in symbols] == sorted({r[0] for r in rows}, key=str.encode)

    at = 0
    for run in index_runs(made, ["symbol"]).to_pylist():
        own = rows[at : at + run["rows"]]
        assert run["first_row"] == at
        assert len({r[0] for r in own}) == 1
        assert (run["min_ns"], run["max_ns"]) == (min(r[1] for r in own), max(r[1] for r in own))
        assert (run["min_sequence"], run["max_sequence"]) == (min(r[2] for r in own), max(r[2] for r in own))
        at += run["rows"]
        assert at == len(rows) or rows[at][0] != own[0][0]
    assert at == len(rows)
