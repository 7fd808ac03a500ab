"""Row groups decoded in the core: the rows that were encoded, or a typed error."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtestr._native import ParquetFooter
from backtestr.errors import ArgumentError, DataCorruptError, SchemaError
from backtestr.storage.write import read_footer

from .test_encode import ROW, SCHEMA, encoded, long_runs, table

Groups = list[tuple[int, int]]


def footer_of(data: bytes) -> ParquetFooter:
    return ParquetFooter(read_footer(io.BytesIO(data)))


def decoded(
    footer: ParquetFooter, data: bytes, first: int, stop: int, schema: pa.Schema = SCHEMA, **options: Any
) -> list[pa.RecordBatch]:
    """Groups from no more bytes than the footer asks for."""
    start, end = footer.extent(first, stop, schema)
    options = {"verify": True, "threads": 2} | options
    made = footer.decode(first, stop, schema, data[start:end], start, **options)
    return [batch for batch, _ in made]


def values(rows: pa.Table | pa.RecordBatch) -> dict[str, list[Any]]:
    """Values as text and integers, whatever dictionaries they have."""
    found = {}
    for field in rows.schema:
        is_text = pa.types.is_dictionary(field.type)
        found[field.name] = (rows[field.name].cast(pa.string()) if is_text else rows[field.name]).to_pylist()
    return found


def assert_decodes(rows: pa.Table, groups: Groups) -> None:
    data = encoded(rows, groups)
    footer = footer_of(data)
    assert footer.is_own(data)
    assert footer.first_rows == [0, *(stop for _, stop in groups)]
    for batch, (start, stop) in zip(decoded(footer, data, 0, len(groups)), groups, strict=True):
        batch.validate(full=True)
        assert batch.schema == SCHEMA
        assert values(batch) == values(rows.slice(start, stop - start))


def test_a_group_has_what_the_footer_says() -> None:
    rows = table([("A", n * 10**9, n, 0, n, None, None, None, None) for n in range(100)])
    footer = footer_of(encoded(rows, [(0, 30), (30, 100)]))
    assert footer.times_ns == [(0, 29 * 10**9), (30 * 10**9, 99 * 10**9)]


@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 40))
def test_any_rows_decode(rows: list[tuple[Any, ...]], group: int) -> None:
    assert_decodes(table(rows), [(start, min(start + group, len(rows))) for start in range(0, len(rows), group)])


@pytest.mark.parametrize("seed", range(4))
def test_runs_and_large_dictionaries_decode(seed: int) -> None:
    assert_decodes(long_runs(20_000, seed), [(0, 1), (1, 130), (130, 16_514), (16_514, 20_000)])


def test_a_group_larger_than_the_shared_zeros_decodes() -> None:
    rows = long_runs(40_000, 0)
    nulls = pa.nulls(40_000, SCHEMA.field("turnover").type)
    rows = rows.set_column(rows.schema.get_field_index("turnover"), SCHEMA.field("turnover"), nulls)
    assert_decodes(rows, [(0, 40_000)])


@given(st.sets(st.sampled_from(SCHEMA.names), min_size=1), st.integers(0, 3), st.integers(1, 4), st.integers(1, 3))
def test_some_columns_of_some_groups_decode(names: set[str], first: int, count: int, threads: int) -> None:
    rows, groups = long_runs(2_000, 3), [(0, 500), (500, 501), (501, 1_300), (1_300, 2_000)]
    data, stop = encoded(rows, groups), min(first + count, 4)
    schema = pa.schema([field for field in SCHEMA if field.name in names])
    batches = decoded(footer_of(data), data, first, stop, schema, threads=threads)
    expected = rows.select(schema.names).slice(groups[first][0], groups[stop - 1][1] - groups[first][0])
    assert values(pa.Table.from_batches(batches)) == values(expected)


def test_flipped_bits_are_noticed_in_headers_too() -> None:
    rows = long_runs(300, 1)
    good = encoded(rows, [(0, 300)])
    footer, expected, random = footer_of(good), values(rows), Random(7)
    start, end = footer.extent(0, 1, SCHEMA)
    refused = 0
    for offset in {*range(start, start + 64), *(random.randrange(start, end) for _ in range(1_500))}:
        data = bytearray(good)
        data[offset] ^= 1 << random.randrange(8)
        try:
            (batch,) = decoded(footer, bytes(data), 0, 1)
        except DataCorruptError:
            refused += 1
        else:
            assert values(batch) == expected, offset
    assert refused > 1_000


@pytest.mark.parametrize("verify", [True, False])
def test_bytes_of_any_kind_are_no_panic(*, verify: bool) -> None:
    rows = long_runs(300, 2)
    good, random = encoded(rows, [(0, 300)]), Random(8)
    footer = footer_of(good)
    start, end = footer.extent(0, 1, SCHEMA)
    for _ in range(300):
        data = bytearray(good)
        at = random.randrange(start, end)
        data[at : at + random.randrange(1, 40)] = random.randbytes(random.randrange(1, 40))
        try:
            decoded(footer, bytes(data[: len(good)]), 0, 1, verify=verify)
        except (DataCorruptError, SchemaError):
            continue
        assert not verify or data == good


def test_cut_bytes_are_noticed() -> None:
    data = encoded(long_runs(300, 1), [(0, 300)])
    footer = footer_of(data)
    start, end = footer.extent(0, 1, SCHEMA)
    for length in range(0, end - start, 97):
        with pytest.raises(DataCorruptError):
            footer.decode(0, 1, SCHEMA, data[start : start + length], start, verify=True, threads=1)


def test_no_footer_is_noticed() -> None:
    for data in (b"", b"nothing", encoded(long_runs(10, 0), [(0, 10)])[:200]):
        with pytest.raises(DataCorruptError):
            ParquetFooter(data)


def test_what_is_not_there_is_refused() -> None:
    data = encoded(long_runs(10, 0), [(0, 10)])
    footer = footer_of(data)
    with pytest.raises(ArgumentError, match=r"row groups 0\.\.2 of 1"):
        footer.extent(0, 2, SCHEMA)
    with pytest.raises(SchemaError, match="does not widen"):
        decoded(footer, data, 0, 1, pa.schema([pa.field("price", pa.int64())]))


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"compression": "zstd", "version": "2.6"}])
def test_files_of_other_writers_are_told_apart(options: dict[str, Any]) -> None:
    sink = io.BytesIO()
    pq.write_table(long_runs(100, 0), sink, **options)
    assert not footer_of(sink.getvalue()).is_own(sink.getvalue())


def test_one_damaged_header_makes_no_other_writer() -> None:
    data = bytearray(encoded(long_runs(100, 0), [(0, 60), (60, 100)]))
    footer = footer_of(bytes(data))
    assert footer.is_own(bytes(data[: footer.first_group_end]))
    for offset in range(4, footer.first_group_end):
        data[offset] ^= 0xFF
        assert footer.is_own(bytes(data))
        data[offset] ^= 0xFF
