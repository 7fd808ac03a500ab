"""The packed index: what goes in comes out, whatever it is, and versions are those of a plain list of rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtestr.errors import LogCorruptError
from backtestr.storage import index, listing
from backtestr.storage.commit import FILES, INDEX, LAST_ROW, Commit
from backtestr.storage.listing import Listing
from backtestr.storage.narrow import Narrow, from_arrow, to_arrow

INT64 = st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**63 - 1), st.integers(65_000, 66_000))
NUMBERS = st.lists(st.one_of(st.none(), INT64), max_size=30)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def narrow(values: list[int | None]) -> Narrow:
    return Narrow.of(*from_arrow(pa.array(values, pa.int64())))


def told(numbers: Narrow, rows: np.ndarray[Any, Any] | None = None) -> list[int | None]:
    found: list[int | None] = to_arrow(numbers.numbers(rows), numbers.valid(rows), pa.int64()).to_pylist()
    return found


@given(NUMBERS, NUMBERS, st.data())
def test_numbers_come_out_as_they_went_in(one: list[int | None], other: list[int | None], data: st.DataObject) -> None:
    both = Narrow.join([narrow(one), narrow(other)])
    assert (told(narrow(one)), told(both)) == (one, one + other)
    picked = data.draw(st.lists(st.sampled_from(range(both.count)), max_size=40)) if both.count else []
    rows = np.array(picked, np.int32)
    expected = [(one + other)[row] for row in picked]
    assert told(both, rows) == told(both.only(rows)) == expected
    assert both.listed(rows) == [0 if value is None else value for value in expected]


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([7] * 64, 0),
        ([0, 255] * 32, 64),
        ([-1, 254] * 32, 64),
        ([0, 256] * 32, 128),
        ([2**40, 2**40 + 70_000] * 32, 256),
    ],
)
def test_numbers_take_no_more_bytes_than_they_need(values: list[int | None], size: int) -> None:
    assert narrow(values).nbytes == size
    assert narrow([*values, None, *values[:7]]).nbytes == size // len(values) * 72 + 9


def test_a_decimal_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 18 digits"):
        from_arrow(pa.array([Decimal(10**20)], pa.decimal128(38, 0)))


def value_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_string(kind):
        return st.sampled_from(["", "A", "B", "é"])
    if pa.types.is_decimal(kind):
        return st.integers(-(10**18) + 1, 10**18 - 1).map(lambda number: Decimal(number).scaleb(-8))
    if pa.types.is_timestamp(kind):
        return st.integers(-(2**62), 2**62).map(lambda us: EPOCH + dt.timedelta(microseconds=us // 2**15))
    if pa.types.is_boolean(kind):
        return st.booleans()
    width = kind.bit_width
    low, high = (0, 2**width - 1) if pa.types.is_unsigned_integer(kind) else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    return st.one_of(st.integers(max(low, -2), 3), st.integers(low, high))


LAST = st.fixed_dictionaries({column.name: st.one_of(st.none(), value_of(column.type)) for column in LAST_ROW})
FIELDS = {
    column.name: st.one_of(st.none(), value_of(column.type)) if column.nullable else value_of(column.type)
    for column in INDEX
    if column.name not in {"file_id", "last"}
}
ROW = st.fixed_dictionaries({"file_id": st.sampled_from("fgh"), **FIELDS, "last": st.one_of(st.none(), LAST)})


def files_of(ids: list[str]) -> pa.Table:
    same = {"table": "ticks", "interval": "2024-01", "path": "p", "bytes": 1, "rows": 1}
    same |= {"sha256": b"x" * 32, "footer_crc32c": 1}
    return pa.Table.from_pylist([{"file_id": file_id, **same} for file_id in ids], FILES)


@given(st.lists(ROW, max_size=12), st.integers(1, 5))
def test_rows_come_out_as_they_went_in(rows: list[dict[str, Any]], at_once: int) -> None:
    table = pa.Table.from_pylist(rows, INDEX)
    with mock.patch.object(index, "_AT_ONCE", at_once):
        made = Listing.of(files_of(["f", "g", "h"]), table)
        pieces = list(made.pieces())
    assert made.rows().equals(table)
    assert pa.concat_tables([INDEX.empty_table(), *pieces]).equals(table)
    for name in INDEX.names:
        assert made.rows([name])[name].equals(table[name])
    for file_id, found in [(file.file_id, found) for file, found in made.by_file()]:
        mine = table.filter(pa.array([row["file_id"] == file_id for row in rows], pa.bool_()))
        assert found.equals(mine)
        assert made.of_files([file_id]).equals(mine)


def test_rows_of_a_file_that_is_not_listed_are_refused() -> None:
    row = {name: 1 for name in INDEX.names if name not in {"last", "timeframe", "price_basis"}}
    table = pa.Table.from_pylist([row | {"file_id": "x", "symbol": "A"}], INDEX)
    with pytest.raises(LogCorruptError, match="'x', a file that is not listed"):
        Listing.of(files_of(["f"]), table)


KEYS = st.sampled_from([(None, None), (None, None), ("1m", "trade"), ("1m", "mid"), ("1h", "mid")])
ENTRY = st.tuples(st.sampled_from("ABC"), KEYS, st.integers(-4, 4), st.integers(0, 3))
STEP = st.tuples(
    st.lists(
        st.tuples(st.sampled_from("fghijklmno"), st.lists(ENTRY, min_size=1, max_size=6)),
        min_size=1,
        max_size=3,
        unique_by=lambda file: file[0],
    ),
    st.sets(st.sampled_from("fghijklmno"), max_size=2),
)


def entries(file_id: str, made: list[tuple[str, tuple[str | None, str | None], int, int]]) -> Iterator[dict[str, Any]]:
    for number, (symbol, (timeframe, basis), low, length) in enumerate(made):
        last = {"symbol": symbol, "timestamp_utc": EPOCH, "sequence": number, "price": Decimal(low)}
        yield {
            "file_id": file_id,
            "symbol": symbol,
            "timeframe": timeframe,
            "price_basis": basis,
            "min_ns": low,
            "max_ns": low + length,
            "first_row": number,
            "rows": 2 + number,
            "trades": 2,
            **dict.fromkeys(("first_group", "groups", "min_sequence", "max_sequence"), number),
            "bids": number,
            "asks": 0,
            "composites": 0,
            "last": None if timeframe else last,
        }


@given(st.lists(st.lists(STEP, min_size=1, max_size=2), min_size=2, max_size=5), st.integers(0, 12))
def test_versions_are_those_of_a_plain_list(runs: list[list[Any]], unpacked: int) -> None:
    made, files, plain = Listing(), list[str](), list[dict[str, Any]]()
    with mock.patch.object(listing, "_UNPACKED", unpacked):
        for run in runs:
            commits = []
            for added, removed in run:
                # a file that is there comes again only where it goes
                new = [(file_id, rows) for file_id, rows in added if file_id in removed or file_id not in files]
                gone = [file_id for file_id in files if file_id in removed]
                lines = [line for file_id, rows in new for line in entries(file_id, rows)]
                ids = [file_id for file_id, _ in new]
                commits.append(Commit("", files_of(ids), pa.Table.from_pylist(lines, INDEX), tuple(gone)))
                files = [file_id for file_id in files if file_id not in gone] + ids
                plain = [line for line in plain if line["file_id"] not in gone] + lines
            made = made.after(commits)
            judge(made, files, plain)


def judge(made: Listing, files: list[str], plain: list[dict[str, Any]]) -> None:
    assert [file.file_id for file in made.file_by_id.values()] == [*made.file_by_id] == files
    assert made.rows().equals(pa.Table.from_pylist(plain, INDEX))
    ticks = [line for line in plain if line["timeframe"] is None]
    names = sorted({line["symbol"] for line in ticks})
    assert list(made.symbols) == names
    for symbol in names:
        mine = [line for line in ticks if line["symbol"] == symbol]
        sums = {name: sum(line[name] for line in mine) for name in ("rows", "trades", "bids", "asks", "composites")}
        bounds = {"min_ns": min(line["min_ns"] for line in mine), "max_ns": max(line["max_ns"] for line in mine)}
        assert made.symbols[symbol] == sums | bounds
    bars = {(line["symbol"], line["price_basis"]) for line in plain if line["timeframe"]}
    assert {(symbol, basis) for symbol, bases in made.bases.items() for basis in bases} == bars
    for timeframe, basis in ((None, None), ("1m", "trade"), ("1h", "mid"), ("1m", None)):
        found = made.spans_of(["C", "A", "Z"], -1, 3, timeframe=timeframe, basis=basis)
        for symbol, spans in zip(["C", "A", "Z"], found, strict=True):
            mine = [line for line in plain if (line["symbol"], line["timeframe"]) == (symbol, timeframe)]
            mine = [
                line for line in mine if line["price_basis"] == basis and line["max_ns"] >= -1 and line["min_ns"] < 3
            ]
            expected = [(line["file_id"], line["first_row"]) for line in sorted(mine, key=lambda line: line["min_ns"])]
            assert [(span.file.file_id, span.first_row) for span in spans] == expected
    judge_newest(made, ticks)


def judge_newest(made: Listing, ticks: list[dict[str, Any]]) -> None:
    rows, owners, is_shared = made.last_rows(["C", "Z", "A"])
    found = dict(zip(owners.tolist(), zip(rows.to_pylist(), is_shared.tolist(), strict=True), strict=True))
    for place, symbol in enumerate(["C", "Z", "A"]):
        mine = [line for line in ticks if line["symbol"] == symbol]
        newest = [line for line in mine if line["max_ns"] == max(other["max_ns"] for other in mine)]
        assert (place in found) == bool(mine)
        if mine:
            row, shared = found[place]
            assert shared == (len(newest) > 1)
            assert row in [pa.scalar(line["last"], INDEX.field("last").type).as_py() for line in newest]
