"""Pieces to one Parquet file: every byte of a page is copied, every offset moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtestr._native import ParquetStitcher
from backtestr.errors import StoreIOError

SCHEMA = pa.schema([pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "7"}), pa.field("s", pa.string())])


def rows(first: int, count: int) -> pa.Table:
    n = np.arange(first, first + count)
    return pa.table([pa.array(n), pa.array([f"v{i % 5}" for i in n])], schema=SCHEMA)


def piece(table: pa.Table, group: int = 1000) -> bytes:
    sink = pa.BufferOutputStream()
    sorting = [pq.SortingColumn(0)]
    pq.write_table(
        table,
        sink,
        row_group_size=group,
        compression="zstd",
        write_page_checksum=True,
        write_page_index=True,
        data_page_size=512,
        column_encoding={"n": "DELTA_BINARY_PACKED"},
        use_dictionary=["s"],
        sorting_columns=sorting,
    )
    return sink.getvalue().to_pybytes()


def test_the_file_is_the_pieces_in_order(tmp_path: Path) -> None:
    path = tmp_path / "whole.parquet"
    stitcher = ParquetStitcher(path)
    sizes = [stitcher.append(piece(rows(first, 2500))) for first in (0, 2500, 5000)]
    stitcher.finish()
    assert sizes == sorted(sizes)
    assert sizes[-1] < path.stat().st_size
    whole = pq.ParquetFile(path, page_checksum_verification=True)
    assert whole.read().equals(rows(0, 7500))
    assert [whole.metadata.row_group(g).num_rows for g in range(9)] == [1000, 1000, 500] * 3
    group = whole.metadata.row_group(8)
    assert group.sorting_columns == (pq.SortingColumn(0),)
    assert group.column(0).statistics.max == 7499
    assert group.column(0).has_offset_index
    assert group.column(0).has_column_index
    assert whole.schema_arrow.field("n").metadata == {b"PARQUET:field_id": b"7"}


def test_a_flipped_byte_of_a_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "whole.parquet"
    stitcher = ParquetStitcher(path)
    for first in (0, 2500):
        stitcher.append(piece(rows(first, 2500)))
    stitcher.finish()
    data = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(4).column(0)
    data[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


@pytest.mark.parametrize("broken", [b"", b"PAR1", b"x" * 100])
def test_a_damaged_piece_is_refused(tmp_path: Path, broken: bytes) -> None:
    stitcher = ParquetStitcher(tmp_path / "whole.parquet")
    stitcher.append(piece(rows(0, 10)))
    with pytest.raises(StoreIOError, match=r"writing .*whole\.parquet"):
        stitcher.append(broken)
    with pytest.raises(StoreIOError):
        stitcher.finish()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    stitcher = ParquetStitcher(tmp_path / "whole.parquet")
    stitcher.append(piece(rows(0, 10)))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"m": [1]}), sink, write_page_index=True)
    with pytest.raises(StoreIOError, match="descriptor"):
        stitcher.append(sink.getvalue().to_pybytes())


def test_no_piece_and_an_existing_path_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.parquet"
    with pytest.raises(StoreIOError, match="no piece"):
        ParquetStitcher(path).finish()
    with pytest.raises(StoreIOError, match="creating"):
        ParquetStitcher(path)
