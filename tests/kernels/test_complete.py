"""Columns that every stored tick has."""

from __future__ import annotations

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr import _native
from backtestr.errors import SchemaError
from backtestr.schema import TICKS

GOOD = {"symbol": ["A", "B", "A"], "timestamp_utc": pa.array([0, 1, 2], pa.timestamp("s")), "price": ["1.5", "2", "3"]}


def judged(**columns: object) -> pa.Table:
    return bt.validate_ticks(pa.table(GOOD | columns))[0]


def test_rows_get_the_columns_that_may_not_be_null_and_keep_theirs() -> None:
    rows = judged(sequence=[7, 8, 9], bid=["1", None, "2"], conditions=["x", None, "y"])
    made = _native.complete_ticks(rows.append_column("member", pa.array([1, 1, 1])), 3)
    wanted = [name for name in TICKS.names if name not in {"ask", "bid_size", "ask_size", "exchange_id"}]
    assert made.schema == pa.schema([TICKS.field(name) for name in wanted])
    assert (
        made.select(["sequence", "bid", "conditions", "price"]).to_pylist()
        == rows.select(["sequence", "bid", "conditions", "price"]).to_pylist()
    )
    assert made["feed_id"].to_pylist() == [3, 3, 3]
    assert made["epoch"].to_pylist() == [0, 0, 0]


def test_a_feed_that_is_not_given_is_the_rows_own() -> None:
    rows = judged(feed_id=[4, 5, 4])
    assert _native.complete_ticks(rows)["feed_id"].to_pylist() == [4, 5, 4]
    assert _native.complete_ticks(rows, 6)["feed_id"].to_pylist() == [6, 6, 6]


def test_no_rows_and_many_chunks_are_completed_alike() -> None:
    rows = judged(sequence=[7, 8, 9])
    cut = pa.concat_tables([rows.slice(0, 1), rows.slice(1)])
    whole = _native.complete_ticks(rows, 1)
    assert _native.complete_ticks(cut, 1).to_pylist() == whole.to_pylist()
    assert _native.complete_ticks(rows.slice(0, 0), 1).schema == whole.schema


@pytest.mark.parametrize("column", ["symbol", "price"])
def test_what_cannot_be_made_up_is_refused(column: str) -> None:
    with pytest.raises(SchemaError, match=f"column {column} is missing"):
        _native.complete_ticks(judged().drop_columns(column), 1)


def test_rows_are_numbered_over_batches_and_numbers_of_the_vendor_stay() -> None:
    cut = pa.concat_tables([pa.table(GOOD), pa.table(GOOD).slice(0, 1)])
    accepted, rejected, _ = _native.TickValidator().validate(cut, first_sequence=10)
    assert (accepted["sequence"].to_pylist(), rejected) == ([10, 11, 12, 13], None)
    numbered = pa.table(GOOD | {"sequence": [5, 6, 7]})
    assert _native.TickValidator().validate(numbered, first_sequence=10)[0]["sequence"].to_pylist() == [5, 6, 7]


def test_rejected_rows_keep_their_numbers() -> None:
    rows = pa.table(GOOD | {"price": ["1", "-1", "2"]})
    accepted, rejected, _ = _native.TickValidator().validate(rows, first_sequence=3, feed_id=2)
    assert accepted.select(["sequence", "feed_id"]).to_pylist() == [
        {"sequence": 3, "feed_id": 2},
        {"sequence": 5, "feed_id": 2},
    ]
    assert rejected is not None
    assert rejected.select(["row", "sequence"]).to_pylist() == [{"row": 1, "sequence": 4}]
