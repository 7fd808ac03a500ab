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
    """Entries with nothing in them that is small because it is always the same: every last tick has all columns."""
    count, draw = len(ids) * PER_FILE, np.random.default_rng(int(number[0]))
    within = np.tile(np.arange(PER_FILE), len(ids))
    symbol = (np.repeat(number, PER_FILE) * PER_FILE + within) % SYMBOLS
    names = pa.array([f"S{n:04}" for n in range(SYMBOLS)])
    rows = draw.integers(5_000, 15_000, (len(ids), PER_FILE))
    first_sequence = np.repeat(number, PER_FILE) * 10_000_000 + draw.integers(0, 10_000_000, count)
    low = np.repeat(low, PER_FILE) + draw.integers(0, 1_000_000_000, count)
    high = np.repeat(high, PER_FILE) - draw.integers(0, 1_000_000_000, count)
    made = {
        "symbol": names.take(symbol),
        "first_group": within,
        "groups": np.ones(count),
        "first_row": (np.cumsum(rows, axis=1) - rows).ravel(),
        "rows": rows.ravel(),
        "min_ns": low,
        "max_ns": high,
        "min_sequence": first_sequence,
        "max_sequence": first_sequence + rows.ravel(),
        "trades": rows.ravel(),
        "last": _last_ticks(draw, names.take(symbol), high, first_sequence + rows.ravel()),
    }
    made |= {name: np.zeros(count) for name in ("bids", "asks", "composites")}
    columns = {field.name: made.get(field.name, [None] * count) for field in INDEX if field.name != "file_id"}
    file_ids = pa.array(ids).take(np.repeat(np.arange(len(ids)), PER_FILE))
    return pa.table({"file_id": file_ids, **columns}, schema=INDEX)


def _last_ticks(draw: Any, symbols: pa.Array, times: Any, sequences: Any) -> pa.Array:
    count = len(symbols)
    made = {"symbol": symbols, "timestamp_utc": times, "sequence": sequences, "epoch": np.zeros(count, np.int64)}
    made |= {"tick_type": np.zeros(count, np.int8), "feed_id": np.ones(count, np.uint16)}
    made |= {"exchange_id": draw.integers(0, 20, count).astype(np.uint16)}
    made |= {"conditions": pa.array(["@", "@ T", "F"]).take(draw.integers(0, 3, count))}
    fields = list(INDEX.field("last").type)
    for field in fields:
        if pa.types.is_decimal(field.type):
            cents = pa.array(draw.integers(1, 10_000_000, count))
            made[field.name] = cents.cast(pa.decimal128(19, 0)).cast(pa.decimal128(38, 2)).cast(field.type)
    arrays = [pa.array(made[field.name]).cast(field.type) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


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
