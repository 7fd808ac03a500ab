"""Whether a data file is what the log says: its bytes, and the rows in them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtestr._native import crc32c, index_runs
from backtestr.errors import DataCorruptError
from backtestr.instants import to_iso
from backtestr.models import Problem, Timeframe
from backtestr.storage.encode import KEYS
from backtestr.storage.entry import Entry
from backtestr.storage.layout import TICKS, Layout
from backtestr.storage.listing import File
from backtestr.storage.read import Reader
from backtestr.storage.write import read_footer

_NAMED = 5


def prove_file(layout: Layout, reader: Reader, file: File, index: pa.Table) -> Problem | None:
    """What is wrong with a file of the version, if anything.

    Args:
        layout: the store's paths.
        reader: one that verifies pages.
        file: as the log lists it.
        index: its rows of the index, in its order.
    """
    wrong = prove_bytes(layout, file)
    if wrong is not None:
        symbols = _damaged_symbols(layout, file, index) if wrong.kind == "damaged" else _symbols(index)
        return wrong._replace(message=wrong.message + _concerned(index, symbols), symbols=symbols)
    try:
        message = _prove_rows(reader, file, index) if file.table in KEYS else _prove_count(layout, file)
    except (DataCorruptError, OSError, ValueError, pa.ArrowException) as error:
        message = f"does not read: {error}"
    if message is None:
        return None
    symbols = _symbols(index)
    return Problem("content", file.path, message + _concerned(index, symbols), symbols)


def prove_bytes(layout: Layout, file: File) -> Problem | None:
    """Whether a file is there with the bytes that were committed."""
    path = layout.root / file.path
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            if size != file.size:
                return Problem("damaged", file.path, f"has {size:,} bytes, the log says {file.size:,}")
            if hashlib.file_digest(raw, "sha256").digest() != file.sha256:
                return Problem("damaged", file.path, "its SHA-256 is not the one committed")
            if crc32c(read_footer(raw)) != file.footer_crc32c:
                return Problem("content", file.path, "its footer's checksum is not the one in the log")
    except FileNotFoundError:
        return Problem("missing", file.path, "is listed and not there")
    except (OSError, ValueError) as error:
        return Problem("damaged", file.path, f"cannot be read: {error}")
    return None


def _prove_rows(reader: Reader, file: File, index: pa.Table) -> str | None:
    """Read everything, pages verified, and make the index anew."""
    bounds = np.array(reader.groups.footer(file).first_rows)
    entry, before = Entry(file.table), None
    for first, rows in reader.file_parts(file):
        stop = first + rows.num_rows
        inner = bounds[(bounds >= first) & (bounds <= stop)] - first
        whole = rows.unify_dictionaries()
        entry.add(whole, [(int(start), int(end)) for start, end in itertools.pairwise(inner)])
        joined = whole if before is None else pa.concat_tables([before, whole]).unify_dictionaries()
        row = _first_out_of_order(file.table, joined)
        if row is not None:
            return f"row {first + row - (0 if before is None else 1):,} is out of order"
        before = whole.slice(whole.num_rows - 1)
    if entry.rows != file.rows or not entry.rows:
        return f"has {entry.rows:,} rows, the log says {file.rows:,}"
    if entry.times != (file.min_ns, file.max_ns):
        return "its first and last instant are not those in the log"
    made = entry.lines(file.file_id)
    if made.num_rows != index.num_rows:
        return f"has {made.num_rows:,} runs of rows, the index says {index.num_rows:,}"
    wrong = [name for name in made.column_names if not made[name].equals(index[name])]
    return f"its index is wrong in {', '.join(wrong)}" if wrong else None


def _prove_count(layout: Layout, file: File) -> str | None:
    with pq.ParquetFile(layout.root / file.path, page_checksum_verification=True) as parquet:
        rows = sum(parquet.read_row_group(group).num_rows for group in range(parquet.num_row_groups))
    return None if rows == file.rows else f"has {rows:,} rows, the log says {file.rows:,}"


def _first_out_of_order(table: str, rows: pa.Table) -> int | None:
    """The first row that does not follow the one before it, by the order of design decision 14."""
    keys = KEYS[table]
    runs = index_runs(rows, keys)
    firsts = runs["first_row"].to_numpy()
    ranks = [_rank(keys, row) for row in rows.select(keys).take(pa.array(firsts)).to_pylist()]
    for place, (one, next_one) in enumerate(itertools.pairwise(ranks), 1):
        if one >= next_one:
            return int(firsts[place])
    times = rows["timestamp_utc"].cast(pa.int64()).to_numpy()
    if table == TICKS:
        ordinals = rows["sequence"].to_numpy()
        falls = (times[1:] < times[:-1]) | ((times[1:] == times[:-1]) & (ordinals[1:] < ordinals[:-1]))
    else:
        falls = times[1:] <= times[:-1]
    falls[firsts[1:] - 1] = False
    return int(np.argmax(falls)) + 1 if falls.any() else None


def _rank(keys: Sequence[str], row: dict[str, str]) -> tuple[int | bytes, ...]:
    return tuple(Timeframe.parse(row[key]).ns if key == "timeframe" else row[key].encode() for key in keys)


def _damaged_symbols(layout: Layout, file: File, index: pa.Table) -> tuple[str, ...]:
    """The symbols of the row groups that do not decode; all of the file's where that cannot be told."""
    path = layout.root / file.path
    try:
        with path.open("rb") as raw:
            if crc32c(read_footer(raw)) != file.footer_crc32c:
                return _symbols(index)
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            bad = [group for group in range(parquet.num_row_groups) if not _decodes(parquet, group)]
    except (OSError, ValueError, pa.ArrowException):
        return _symbols(index)
    first = index["first_group"].to_numpy()
    stop = first + index["groups"].to_numpy()
    hit = np.zeros(index.num_rows, bool)
    for group in bad:
        hit |= (first <= group) & (group < stop)
    return _symbols(index.filter(pa.array(hit))) or _symbols(index)


def _decodes(parquet: pq.ParquetFile, group: int) -> bool:
    try:
        parquet.read_row_group(group)
    except (OSError, pa.ArrowException):
        return False
    return True


def _symbols(index: pa.Table) -> tuple[str, ...]:
    return tuple(sorted(index["symbol"].unique().to_pylist()))


def _concerned(index: pa.Table, symbols: tuple[str, ...]) -> str:
    """Whose rows are concerned, for people: names, and between which instants their rows in the file are."""
    if not symbols:
        return ""
    chosen = index.filter(pa.array(np.isin(index["symbol"].to_numpy(zero_copy_only=False), symbols)))
    low, high = int(chosen["min_ns"].to_numpy().min()), int(chosen["max_ns"].to_numpy().max())
    names = ", ".join(symbols[:_NAMED]) + (f" and {len(symbols) - _NAMED:,} more" if len(symbols) > _NAMED else "")
    return f"; rows of {names} from {to_iso(low)} to {to_iso(high)}"
