"""What a read returns: a thin frame over Arrow."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.errors import ArgumentError, MissingDependencyError
from backtestr.models import Plan
from backtestr.query.text import aligned, cells

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

PriceType = Literal["decimal", "float", "fixed"]
_SHOWN_ROWS = 10


class Frame:
    """Rows as Arrow, handed to the library of your choice.

    ``price_type`` says what decimals become: ``"decimal"`` (exact), ``"float"`` (float64) or ``"fixed"``
    (int64, the unscaled value: units of 1e-8 for prices). Arrow and polars default to decimal, pandas and numpy to
    float.

    Example:
        >>> import pyarrow as pa
        >>> Frame(pa.table({"symbol": ["A", "B"]})).columns
        ['symbol']
    """

    def __init__(self, table: pa.Table, *, explain: Callable[[], Plan] | None = None) -> None:
        self._table = table
        self._explain = explain

    def __reduce__(self) -> tuple[type[Frame], tuple[pa.Table]]:
        # The rows go to another process, the store that they are from does not.
        return Frame, (self._table,)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._table.num_rows  # type: ignore[no-any-return]

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return self._table.column_names  # type: ignore[no-any-return]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema."""
        return self._table.schema

    def __len__(self) -> int:
        return self.num_rows

    def to_arrow(self, *, price_type: PriceType = "decimal") -> pa.Table:
        """The rows as a `pyarrow.Table`.

        Args:
            price_type: what decimals become.

        Raises:
            ArgumentError: no such ``price_type``, or a value that ``"fixed"`` does not hold.

        Example:
            >>> import pyarrow as pa
            >>> frame = Frame(pa.table({"price": pa.array(["10.5"]).cast(pa.decimal128(18, 8))}))
            >>> frame.to_arrow(price_type="fixed")["price"].to_pylist()
            [1050000000]
        """
        return _convert(self._table, price_type)

    def reader(self, *, batch_rows: int = 100_000, price_type: PriceType = "decimal") -> pa.RecordBatchReader:
        """The rows as batches of so many at most. For answers larger than memory there is `Store.stream`.

        Example:
            >>> import pyarrow as pa
            >>> [batch.num_rows for batch in Frame(pa.table({"n": range(5)})).reader(batch_rows=2)]
            [2, 2, 1]
        """
        return self.to_arrow(price_type=price_type).to_reader(max_chunksize=batch_rows)

    def to_pandas(self, *, price_type: PriceType = "float") -> pd.DataFrame:
        """The rows as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed; the message holds the install line.
        """
        _require("pandas")
        return self.to_arrow(price_type=price_type).to_pandas()

    def to_polars(self, *, price_type: PriceType = "decimal") -> pl.DataFrame:
        """The rows as a polars DataFrame.

        Raises:
            MissingDependencyError: polars is not installed; the message holds the install line.
        """
        polars = _require("polars")
        return polars.from_arrow(self.to_arrow(price_type=price_type))  # type: ignore[no-any-return]

    def lazy(self, *, price_type: PriceType = "decimal") -> pl.LazyFrame:
        """The rows as a polars LazyFrame."""
        return self.to_polars(price_type=price_type).lazy()

    def to_numpy(self, *, price_type: PriceType = "float") -> dict[str, npt.NDArray[Any]]:
        """The columns as numpy arrays, by name: each of shape (rows,), instants as datetime64[ns], text as objects.

        Example:
            >>> import pyarrow as pa
            >>> Frame(pa.table({"price": pa.array(["10.5"]).cast(pa.decimal128(18, 8))})).to_numpy()
            {'price': array([10.5])}
        """
        table = self.to_arrow(price_type=price_type)
        return {name: _to_numpy(table[name]) for name in table.column_names}

    def explain(self) -> Plan:
        """How these rows were found: what was read, what was not, and why.

        Raises:
            ArgumentError: they come from no request.
            VersionNotFoundError: the version that they are from is no longer kept.
        """
        if self._explain is None:
            raise ArgumentError("explain: these rows come from no request of ticks, bars or SQL")
        return self._explain()

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dicts of Python values."""
        return self._table.to_pylist()  # type: ignore[no-any-return]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows by the Arrow PyCapsule interface."""
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        shown = aligned(self._table.slice(0, _SHOWN_ROWS))
        return f"{shown}\n{self._shape()}"

    def _repr_html_(self) -> str:
        lines = zip(*cells(self._table.slice(0, _SHOWN_ROWS)), strict=True)
        head, *body = ["".join(f"<td>{html.escape(text)}</td>" for text in line) for line in lines] or [""]
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        names = head.replace("td>", "th>")
        return f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table><p>{self._shape()}</p>"

    def _shape(self) -> str:
        more = f", the first {_SHOWN_ROWS} shown" if self.num_rows > _SHOWN_ROWS else ""
        return f"[{self.num_rows:,} rows x {len(self.columns)} columns{more}]"


def _convert(table: pa.Table, price_type: str) -> pa.Table:
    if price_type == "decimal":
        return table
    if price_type not in {"float", "fixed"}:
        raise ArgumentError(f"price_type={price_type!r}: choose 'decimal', 'float' or 'fixed'")
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            column = table.column(position)
            converted = column.cast(pa.float64()) if price_type == "float" else _fixed(column, field)
            table = table.set_column(position, field.with_type(converted.type), converted)
    return table


def _fixed(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """Unscaled int64.

    Raises:
        ArgumentError: a value that 64 bits do not hold.
    """
    chunks = []
    for chunk in column.cast(pa.decimal128(38, field.type.scale)).chunks:
        halves = np.frombuffer(chunk.buffers()[1], np.int64).reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk)]
        low, high = halves[:, 0].copy(), halves[:, 1]
        missing = np.asarray(chunk.is_null())
        if np.any((high != low >> 63) & ~missing):
            raise ArgumentError(
                f"price_type='fixed': {field.name} does not fit in 64 bits; select other columns or use 'decimal'"
            )
        chunks.append(pa.array(low, mask=missing))
    return pa.chunked_array(chunks, pa.int64())


def _to_numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.timestamp(column.type.unit)).to_numpy()).astype("datetime64[ns]")
    if pa.types.is_dictionary(column.type):
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _require(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError:
        raise MissingDependencyError(f'{package} is not installed: pip install "backtestr[{package}]"') from None
