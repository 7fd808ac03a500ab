"""Encoded Parquet as other readers see it: pyarrow with checksums verified, and DuckDB."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtestr._native import encode_parquet, measure_layout
from backtestr.errors import ArgumentError
from backtestr.schema import FIXED, INSTANT, TEXT, TURNOVER_SUM

from .test_layout import INSTANTS, decimals, numbers

SCHEMA = pa.schema(
    [
        pa.field("symbol", TEXT, nullable=False),
        pa.field("timestamp_utc", INSTANT),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("tick_type", pa.int8(), nullable=False),
        pa.field("price", FIXED),
        pa.field("size", FIXED),
        pa.field("turnover", TURNOVER_SUM),
        pa.field("exchange_id", pa.uint16()),
        pa.field("conditions", TEXT),
    ]
)
DELTA = {"timestamp_utc", "sequence", "price"}
INT64 = st.one_of(st.sampled_from([-(2**63), 2**63 - 1, 0]), st.integers(-(2**63), 2**63 - 1))
ROW = st.tuples(
    st.sampled_from(["A", "é", "a/b"]),
    INSTANTS,
    INT64,
    st.integers(-128, 127),
    numbers(18),
    numbers(18),
    numbers(38),
    st.one_of(st.none(), st.integers(0, 65_535)),
    st.one_of(st.none(), st.sampled_from(["@", "T I", "\N{MONEY BAG}", ""])),
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = []
    for field, values in zip(SCHEMA, columns, strict=True):
        if pa.types.is_decimal(field.type):
            arrays.append(decimals(values, field.type))
        elif pa.types.is_dictionary(field.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        elif field.type == INSTANT:
            arrays.append(pa.array(values, pa.int64()).cast(INSTANT))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def encoded(rows: pa.Table, groups: list[tuple[int, int]]) -> bytes:
    return encode_parquet(
        rows,
        groups,
        measure_layout(rows),
        field_ids=range(1, rows.num_columns + 1),
        delta=[name in DELTA for name in rows.column_names],
        sorted_by=["symbol", "timestamp_utc"],
        zstd_level=3,
    )


def plain(rows: pa.Table) -> pa.Table:
    """The rows in types that do not depend on how they are stored."""
    columns = {}
    for name in rows.column_names:
        column, kind = rows[name], SCHEMA.field(name).type
        if kind == INSTANT:
            column = column.cast(pa.timestamp(column.type.unit)).cast(pa.timestamp("ns")).cast(pa.int64())
        elif pa.types.is_dictionary(kind):
            column = column.cast(pa.string())
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.decimal256(76, 16))
        columns[name] = column
    return pa.table(columns)


def assert_reads_back(rows: pa.Table, groups: list[tuple[int, int]], path: Path) -> pq.FileMetaData:
    path.write_bytes(encoded(rows, groups))
    file = pq.ParquetFile(path, page_checksum_verification=True)
    found = plain(file.read())
    expected = plain(rows.combine_chunks()).select(found.column_names)
    assert found.cast(expected.schema).combine_chunks().equals(expected.combine_chunks())
    left_out = set(rows.column_names) - set(found.column_names)
    assert all(not any(rows[name].to_pylist()) for name in left_out)
    return file.metadata


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoded")


@given(st.lists(ROW, min_size=1, max_size=40), st.integers(0, 40), st.integers(1, 40))
def test_any_rows_read_back(folder: Path, rows: list[tuple[Any, ...]], cut: int, group: int) -> None:
    """Values at the ends of their types, any chunks with dictionaries of their own, any row groups."""
    whole = pa.concat_tables([table(rows[:cut] or rows[:1]).slice(0, min(cut, len(rows))), table(rows).slice(cut)])
    groups = [(start, min(start + group, len(rows))) for start in range(0, len(rows), group)]
    metadata = assert_reads_back(whole, groups, folder / "any.parquet")
    assert metadata.num_row_groups == len(groups)


def long_runs(count: int, seed: int) -> pa.Table:
    """Runs and scatter of every length and width, mixed over the columns."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1, 2, 7, 8, 9, 15, 16, 17, 100, 3000], count)
    pick = lambda values: np.repeat(rng.choice(values, count), lengths)[:count]  # noqa: E731 - one line of numpy
    steps = rng.integers(0, 2 ** rng.integers(1, 40, count // 500 + 1)[np.arange(count) // 500])
    texts = np.array(["", "@", *(f"T{n}" for n in range(300))], object)
    conditions = pa.array(pick(texts), pa.string())
    return pa.Table.from_arrays(
        [
            pa.array(np.sort(pick(texts[1:])), pa.string()).dictionary_encode(),
            pa.array(np.cumsum(steps) + 1_700_000_000 * 10**9).cast(INSTANT),
            pa.array(np.arange(count)),
            pa.array(pick(np.arange(4)).astype(np.int8)),
            decimals(pick(np.arange(10**8, 2 * 10**8, 10**6)).tolist(), FIXED),
            decimals(rng.integers(-(10**17), 10**17, count).tolist(), FIXED),
            decimals([int(n) * 10**20 for n in pick(np.arange(-9, 9))], TURNOVER_SUM),
            pa.array(pick(np.arange(65_000, 65_536)), pa.uint16(), mask=pick([False, True])),
            conditions.dictionary_encode().filter(pa.array(np.ones(count, bool)))
            if seed % 2
            else pa.array([None if t == "@" else t for t in conditions.to_pylist()]).dictionary_encode(),
        ],
        schema=SCHEMA,
    )


@pytest.mark.parametrize("seed", range(4))
def test_runs_and_large_dictionaries_read_back(tmp_path: Path, seed: int) -> None:
    rows = long_runs(20_000, seed)
    path = tmp_path / "long.parquet"
    groups = [(0, 1), (1, 130), (130, 16_514), (16_514, 20_000)]
    metadata = assert_reads_back(rows, groups, path)
    for number, (start, stop) in enumerate(groups):
        for position in range(metadata.num_columns):
            column = metadata.row_group(number).column(position)
            mine = plain(rows.slice(start, stop - start))[column.path_in_schema].drop_null().to_pylist()
            low, high = column.statistics.min, column.statistics.max
            if isinstance(low, datetime):
                low, high = ((t - datetime(1970, 1, 1)) // timedelta(microseconds=1) for t in (low, high))
                mine = [t // 1000 for t in mine]
            assert column.statistics.null_count == stop - start - len(mine)
            assert column.has_column_index
            assert column.has_offset_index
            if mine:
                assert (low, high) == (min(mine), max(mine)), column.path_in_schema
    sums = "count(*), sum(price), sum(size), sum(turnover), sum(exchange_id), count(conditions), sum(sequence)"
    found, expected = duckdb.sql(f"select {sums} from '{path}'"), duckdb.sql(f"select {sums} from rows")
    assert found.fetchall() == expected.fetchall()
    low, high = rows["sequence"][300].as_py(), rows["sequence"][17_000].as_py()
    pruned = duckdb.sql(f"select sum(price) from '{path}' where sequence between {low} and {high} and symbol > 'T1'")
    whole = duckdb.sql(f"select sum(price) from rows where sequence between {low} and {high} and symbol > 'T1'")
    assert pruned.fetchall() == whole.fetchall()


def test_a_column_of_nulls_in_one_group_reads_back(tmp_path: Path) -> None:
    rows = [("A", n, n, 0, n, None if n < 50 else n, None if n < 50 else n * 10**20, None, None) for n in range(100)]
    path = tmp_path / "nulls.parquet"
    metadata = assert_reads_back(table(rows), [(0, 50), (50, 100)], path)
    assert metadata.row_group(0).column(4).statistics.null_count == 50
    assert duckdb.sql(f"select count(size), count(turnover) from '{path}'").fetchall() == [(50, 50)]


def test_a_flipped_byte_of_a_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "flipped.parquet"
    rows = long_runs(5_000, 1)
    metadata = assert_reads_back(rows, [(0, 5_000)], path)
    for position in range(metadata.num_columns):
        chunk = metadata.row_group(0).column(position)
        data = bytearray(encoded(rows, [(0, 5_000)]))
        end = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
        data[end + chunk.total_compressed_size - 1] ^= 1
        path.write_bytes(data)
        with pytest.raises(OSError, match="CRC"):
            pq.ParquetFile(path, page_checksum_verification=True).read(columns=[chunk.path_in_schema])


@pytest.mark.parametrize("groups", [[(0, 11)], [(5, 5)], [(20, 30)]])
def test_groups_beyond_the_rows_are_refused(groups: list[tuple[int, int]]) -> None:
    rows = table([("A", 0, 0, 0, 1, 1, 1, None, None)] * 10)
    with pytest.raises(ArgumentError, match="row group"):
        encoded(rows, groups)
