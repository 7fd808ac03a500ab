"""Whether blocks that are kept compressed in memory would beat reading them from the file again: they do not.

Each way makes the same row groups of ten million stored ticks: the file read again through the cache of the system; its
bytes kept in memory; and decoded rows kept as Arrow, compressed with LZ4 or zstd.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.schema import TICKS
from ticks import trades

ROWS = int(os.environ.get("BENCH_ROWS", "10_000_000"))
GROUPS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> bt.Store:
    store = bt.open(tmp_path_factory.mktemp("warm"), hot_cache_bytes=0)
    store.ingest(trades(ROWS, symbols=4, days=5), feed="bench")
    return store


def ways(store: bt.Store) -> dict[str, tuple[Callable[[int], pa.RecordBatch], int]]:
    """What makes a row group, and the bytes of memory that it needs for all of them, by name."""
    groups = store._storage.reader.groups
    (file, *_) = store._version().of("ticks")
    footer = groups.footer(file).native
    places = [footer.extent(group, group + 1, TICKS) for group in range(GROUPS)]
    whole = Path(store._path / file.path).read_bytes()
    kept = [whole[start:end] for start, end in places]

    def from_bytes(group: int) -> pa.RecordBatch:
        data, start = kept[group], places[group][0]
        ((rows, _),) = footer.decode(group, group + 1, TICKS, data, start, verify=True, threads=1)
        return rows

    made: dict[str, tuple[Callable[[int], pa.RecordBatch], int]] = {
        "the file again": (lambda group: groups.decode(file, range(group, group + 1), TICKS)[0], 0),
        "its bytes in memory": (from_bytes, sum(map(len, kept))),
    }
    for codec in ("lz4", "zstd"):
        blocks = [_packed(from_bytes(group), codec) for group in range(GROUPS)]
        made[f"decoded rows, {codec}"] = (lambda group, blocks=blocks: _unpacked(blocks[group]), sum(map(len, blocks)))
    return made


def _packed(rows: pa.RecordBatch, codec: str) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(rows)
    return sink.getvalue()


def _unpacked(block: pa.Buffer) -> pa.RecordBatch:
    return next(iter(pa.ipc.open_stream(block)))


def test_warm_blocks(benchmark: Any, store: bt.Store) -> None:
    candidates = ways(store)
    first = {name: pa.Table.from_batches([make(7)]) for name, (make, _) in candidates.items()}
    assert all(one.equals(other) for one, other in itertools.pairwise(first.values()))
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    for _, group in itertools.product(range(10), range(GROUPS)):
        for name, (make, _) in candidates.items():
            started = time.perf_counter()
            make(group)
            rounds[name].append((time.perf_counter() - started) * 1e3)
    medians = {name: sorted(times)[len(times) // 2] for name, times in rounds.items()}
    benchmark.pedantic(candidates["the file again"][0], (0,), rounds=5)
    benchmark.extra_info |= medians
    for name, median in medians.items():
        print(f"\n{name}: {median:.3f} ms a group, {candidates[name][1] / GROUPS / 1024:.0f} KiB of memory", end="")
