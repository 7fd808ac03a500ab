"""Stores as large as years of data make them, without their data files: what opening and pruning look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import backtestr as bt
from backtestr.schema import TICKS as TICK_SCHEMA
from backtestr.storage.checkpoint import write_snapshot
from backtestr.storage.commit import FILES, INDEX, Commit
from backtestr.storage.layout import DAY_NS
from backtestr.storage.listing import Listing
from ticks import trades

SYMBOLS = 5_000
PER_FILE = 10
FIRST_DAY = 10_957
"""2000-01-01."""


def listed(count: int, first: int = 0) -> Listing:
    """Files of ticks, each of ten symbols and a day of its own for these."""
    number = np.arange(first, first + count)
    ids = [f"{n:032x}" for n in number.tolist()]
    days = FIRST_DAY + number // (SYMBOLS // PER_FILE)
    low = days * DAY_NS + 14 * 3_600_000_000_000
    high = low + 6 * 3_600_000_000_000
    labels = np.datetime_as_string(days.astype("datetime64[D]"), unit="D").tolist()
    files = pa.table(
        {
            "file_id": ids,
            "table": ["ticks"] * count,
            "interval": labels,
            "path": [f"data/ticks/{label}/{name}.parquet" for label, name in zip(labels, ids, strict=True)],
            "bytes": np.full(count, 1_000_000),
            "rows": np.full(count, 10_000 * PER_FILE),
            "sha256": pa.array([bytes.fromhex(name) * 2 for name in ids], pa.binary(32)),
            "footer_crc32c": pa.array(number & 0xFFFFFFFF, pa.uint32()),
            "min_ns": low,
            "max_ns": high,
        },
        schema=FILES,
    )
    return Listing.of(files, _index(number, ids, low, high))


def _index(number: Any, ids: list[str], low: Any, high: Any) -> pa.Table:
    count = len(ids) * PER_FILE
    within = np.tile(np.arange(PER_FILE), len(ids))
    symbol = (np.repeat(number, PER_FILE) * PER_FILE + within) % SYMBOLS
    names = pa.array([f"S{n:04}" for n in range(SYMBOLS)])
    low, high = np.repeat(low, PER_FILE), np.repeat(high, PER_FILE)
    price = pa.array(symbol + 100).cast(pa.decimal128(38, 0)).cast(pa.decimal128(18, 8))
    fixed = {"symbol": names.take(symbol), "timestamp_utc": pa.array(high, pa.timestamp("ns", "UTC")), "price": price}
    last = []
    for field in INDEX.field("last").type:
        if field.name in fixed:
            last.append(fixed[field.name])
        elif field.nullable:
            last.append(pa.nulls(count, field.type))
        else:
            last.append(pa.array(np.ones(count, np.int64)).cast(field.type))
    columns = {
        "file_id": pa.array(ids).take(np.repeat(np.arange(len(ids)), PER_FILE)),
        "symbol": fixed["symbol"],
        "timeframe": pa.nulls(count, pa.string()),
        "price_basis": pa.nulls(count, pa.string()),
        "first_group": pa.array(within, pa.int32()),
        "groups": pa.array(np.ones(count), pa.int32()),
        "first_row": within * 10_000,
        "rows": np.full(count, 10_000),
        "min_ns": low,
        "max_ns": high,
        "min_sequence": np.zeros(count, np.int64),
        "max_sequence": np.full(count, 9_999),
        "trades": np.full(count, 10_000),
        "bids": np.zeros(count, np.int64),
        "asks": np.zeros(count, np.int64),
        "composites": np.zeros(count, np.int64),
        "last": pa.StructArray.from_arrays(last, fields=list(INDEX.field("last").type)),
    }
    return pa.table(columns, schema=INDEX)


def make_store(path: Path, *, files: int, tail_bytes: int) -> int:
    """A store with a snapshot of so many files and behind it a log of so many bytes; returns its records.

    The log has batches of 1,000 ticks, and a load of a few files after each twenty.
    """
    with bt.open(path) as store:
        storage = store._writable()
        version = replace(storage.journal.begin(), listing=listed(files))
        write_snapshot(storage.layout, version)
        batches, files_too = _batches(), loads(files)
        before, records, lsn = _log_bytes(storage.layout.log), 0, version.lsn
        while _log_bytes(storage.layout.log) - before < tail_bytes:
            for commit in (*itertools.islice(batches, 20), next(files_too)):
                lsn = storage.journal.submit(commit)
                records += 1
            storage.journal.wait(lsn)
        # closing would write a snapshot of a version that lacks the files
        storage.journal._saved_lsn = lsn
    return records


def _log_bytes(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


def loads(first: int) -> Iterator[Commit]:
    """Commits of a few new files each, numbered from ``first`` on."""
    draw = np.random.default_rng(7)
    while True:
        count = int(draw.integers(1, 20))
        new = listed(count, first)
        first += count
        yield Commit("ingest", new.files, new.rows(), note={"source": "csv", "rows_in": count * 100_000})


def _batches() -> Iterator[Commit]:
    ticks = trades(1_000_000, symbols=1, days=5)
    zeros = {name: pa.array(np.ones(ticks.num_rows, np.int64)) for name in ("epoch", "tick_type", "feed_id")}
    ticks = pa.table(
        {**{name: ticks[name] for name in ticks.column_names}, **zeros, "sequence": np.arange(ticks.num_rows)}
    )
    wanted = [field for field in TICK_SCHEMA if field.name in ticks.column_names]
    ticks = ticks.select([field.name for field in wanted]).cast(pa.schema(wanted))
    number = 0
    while True:
        rows = ticks.slice(number % 1_000 * 1_000, 1_000)
        yield Commit("append", live={"ticks": rows}, note={"feed": "bench", "rows_in": 1_000})
        number += 1
