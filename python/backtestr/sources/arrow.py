"""Parquet, Arrow and Feather files, and frames of any library that speaks the Arrow C stream interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceStructureError
from backtestr.sources import detect
from backtestr.sources.files import files
from backtestr.sources.fixed import constant
from backtestr.sources.iso import holds_times, read_times
from backtestr.sources.model import OpenedSource, Renames, TickBatch, in_parts, is_frame
from backtestr.sources.text import Renamer

BATCH_ROWS = 1 << 17
_TARGETS = (*detect.SYNONYMS, "sequence", "epoch")

Read = Callable[[], Iterator[pa.RecordBatch]]


def open_arrow(
    data: Any,
    /,
    *,
    columns: Mapping[str, str] | None = None,
    symbol: Renames = None,
    timezone: str | None = None,
    feed: str | None = None,
) -> OpenedSource:
    """Open columns: Parquet, Arrow IPC or Feather files, or a frame.

    Numbers and times stay as they are here and are brought to the canonical types, exactly, at validation.

    Args:
        data: Path, paths or folder, an object with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or columns by name.
        columns: Tick column → the data's column; the usual names are recognised without it.
        symbol: The symbol where no column holds it, or its new name, or names by name.
        timezone: Zone of times that name none; UTC if not given.
        feed: Identity of the rows; a symbol that already has rows needs it.

    Raises:
        SourceStructureError: A column is missing, or a file is damaged.
        SourceAmbiguousError: The symbol cannot be told.

    Example:
        >>> opened = open_arrow(pa.table({"ts": [0], "bid": [1.1], "ask": [1.2]}), symbol="EURUSD")
        >>> next(opened.batches).columns.schema.names
        ['timestamp_utc', 'bid', 'ask', 'symbol']
    """
    if timezone is not None and not isinstance(timezone, str):
        raise ArgumentError(f'timezone={timezone!r}; give an IANA name such as "America/New_York"')
    if columns is not None and not isinstance(columns, Mapping):
        raise ArgumentError(f"columns={columns!r}; give a mapping of tick column to the data's column")
    parts = _frame(data) if is_frame(data) else [_file(path) for path in files(data)]
    plans = [(name, _mapping(name, schema, columns, symbol), read) for name, schema, read in parts]
    unique = bool(plans) and all("sequence" in mapping for _, mapping, _ in plans)

    rename = Renamer(symbol)

    def batches(name: str, mapping: dict[str, str], read: Read) -> Iterator[TickBatch]:
        row = 0
        try:
            for batch in read():
                if batch.num_rows:
                    ticks = _renamed(name, batch, mapping, symbol, timezone, row)
                    yield rename(ticks) if "symbol" in mapping else ticks
                row += batch.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceStructureError(f"{name}: damaged after row {row}: {error}") from error

    said = "columns " + ", ".join(plans[0][1].values()) if plans else "no columns"
    return OpenedSource("arrow", feed, in_parts(starmap(batches, plans)), said, row_unique_sequence=unique)


def _frame(data: Any) -> list[tuple[str, pa.Schema, Read]]:
    name = type(data).__name__
    try:
        if isinstance(data, Mapping):
            data = pa.table(dict(data))
        if hasattr(data, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(data)
        else:
            batch = pa.record_batch(data)
            reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise SourceStructureError(f"{name}: no columns of one type and length each ({error})") from error
    return [(name, reader.schema, lambda: _cut(reader))]


def _cut(batches: Any) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        is_aligned = _is_aligned(batch)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            yield part if is_aligned else pa.concat_batches([part, part.slice(0, 0)])


def _is_aligned(batch: pa.RecordBatch) -> bool:
    """Whether decimals lie as the kernels read them, which copy the whole column for each slice otherwise."""
    decimals = (column for column in batch.columns if pa.types.is_decimal(column.type))
    return all(buffer.address % 16 == 0 for column in decimals for buffer in column.buffers()[1:] if buffer is not None)


def _file(path: Path) -> tuple[str, pa.Schema, Read]:
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic[:4] == b"PAR1":
            return str(path), pq.read_schema(path), lambda: _parquet(path)
        if magic == b"ARROW1":
            with pa.OSFile(str(path)) as source:
                return str(path), pa.ipc.open_file(source).schema, lambda: _ipc(path, stream=False)
        with pa.OSFile(str(path)) as source:
            return str(path), pa.ipc.open_stream(source).schema, lambda: _ipc(path, stream=True)
    except (pa.ArrowException, OSError) as error:
        raise SourceStructureError(
            f"{path}: not Parquet, Arrow or Feather, or damaged ({error}); check source="
        ) from error


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS)


def _ipc(path: Path, *, stream: bool) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(os.fspath(path)) as source:
        if stream:
            yield from _cut(pa.ipc.open_stream(source))
        else:
            reader = pa.ipc.open_file(source)
            yield from _cut(reader.get_batch(index) for index in range(reader.num_record_batches))


def _mapping(name: str, schema: pa.Schema, columns: Mapping[str, str] | None, symbol: Renames) -> dict[str, str]:
    """Tick column → the data's column."""
    names = list(schema.names)
    if columns is None:
        mapping = {target: names[at] for target, at in detect.recognise(names).items() if target != "date"}
        mapping |= {target: target for target in ("sequence", "epoch") if target in names}
    else:
        mapping = {("timestamp" if target == "timestamp_utc" else target): at for target, at in columns.items()}
        for target in mapping:
            if target not in _TARGETS:
                raise ArgumentError(
                    f"columns={{{target!r}: …}}: not a column of ticks; known are {', '.join(_TARGETS)}"
                )
    for at in mapping.values():
        if names.count(at) != 1:
            raise SourceStructureError(f"{name}: no one column {at!r} among {', '.join(names)}")
        if isinstance(kind := schema.field(at).type, pa.BaseExtensionType):
            raise SourceStructureError(f"{name}: column {at!r} is {kind}; convert it to plain numbers, times or text")
    if "timestamp" not in mapping or not {"price", "bid", "ask"} & set(mapping):
        raise SourceStructureError(
            f"{name}: no column for {'price (or bid and ask)' if 'timestamp' in mapping else 'timestamp_utc'} among "
            f"{', '.join(names)}; name it with columns="
        )
    if "symbol" not in mapping and not isinstance(symbol, str):
        raise SourceAmbiguousError(f"{name}: no column holds the symbol; give symbol=")
    return mapping


def _renamed(
    name: str, batch: pa.RecordBatch, mapping: dict[str, str], symbol: Renames, timezone: str | None, first: int
) -> TickBatch:
    columns: dict[str, pa.Array] = {}
    for target, at in mapping.items():
        column = batch.column(batch.schema.get_field_index(at))
        if pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        if target in {"symbol", "exchange", "conditions"}:
            column = _dictionary(column)
        elif target == "timestamp":
            column, faults = _times(name, column, timezone, first)
            if faults is not None:
                columns["faults"] = faults
        columns["timestamp_utc" if target == "timestamp" else target] = column
    if "symbol" not in columns:
        columns["symbol"] = constant(str(symbol), batch.num_rows)

    def locate(rows: Sequence[int]) -> list[tuple[int, str]]:
        named = list(zip(batch.schema.names, batch.columns, strict=True))
        return [(first + row + 1, str({at: _plain(column, row) for at, column in named})) for row in rows]

    return TickBatch(pa.record_batch(columns), name, locate)


def _plain(column: pa.Array, row: int) -> Any:
    """A value as Python shows it; a time that Python cannot hold as text."""
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        return column[row].as_buffer().to_pybytes()
    except (ValueError, OverflowError):
        return column.slice(row, 1).cast(pa.string())[0].as_py()


def _decoded(column: pa.DictionaryArray) -> pa.Array:
    values = column.dictionary
    # There is no kernel that decodes views.
    return (values.cast(pa.string()) if pa.types.is_string_view(values.type) else values).take(column.indices)


def _dictionary(column: pa.Array) -> pa.Array:
    """Text of any Arrow type as a dictionary with 32-bit keys whose values all occur in the column."""
    if pa.types.is_dictionary(column.type):
        column = _decoded(column)
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    encoded = pc.dictionary_encode(column)
    encoded.dictionary.validate(full=True)
    return encoded


def _times(name: str, column: pa.Array, timezone: str | None, first: int) -> tuple[pa.Array, pa.Array | None]:
    """The times in a type that validation takes, and fault bits of those that cannot be read."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _times(name, _decoded(column), timezone, first)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = column.cast(pa.string())
        if first == 0 and not holds_times(text):
            raise SourceStructureError(
                f"{name}: the texts of the timestamp column are no ISO 8601 times; convert the column first"
            )
        return read_times(text, timezone)
    if pa.types.is_integer(kind):
        return _since_1970(name, column), None
    if timezone is not None and pa.types.is_timestamp(kind) and kind.tz is None:
        try:
            column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="latest")
        except pa.ArrowInvalid as error:
            raise ArgumentError(f"timezone={timezone!r}: {error}") from error
        column = column.cast(pa.timestamp(kind.unit, tz="UTC"))
    return column, None


def _since_1970(name: str, column: pa.Array) -> pa.Array:
    """Integers are ns; those that are all in 2001 to 2033 when read as s, ms or us are refused."""
    bounds = pc.min_max(column).as_py()
    for unit, power in (("s", 9), ("ms", 12), ("us", 15)):
        if bounds["min"] is not None and 10**power <= bounds["min"] and bounds["max"] < 2 * 10**power:
            raise SourceAmbiguousError(
                f"{name}: the whole numbers of the timestamp column look like {unit} since 1970, but are read as ns; "
                f'convert the column first, such as with pyarrow .cast(timestamp("{unit}", "UTC"))'
            )
    return column
