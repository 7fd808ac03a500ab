"""Kernels in Rust over Arrow data; every call releases the GIL."""

from collections.abc import Sequence
from typing import Any, Final, Protocol, Self, final

import pyarrow as pa

from backtestr.models import ValidationRules

__version__: Final[str]
BUILD_PROFILE: Final[str]
REASONS: Final[dict[str, int]]
"""Bit of every reason that a row can be rejected or flagged for, by name."""

def bar_schema() -> pa.Schema:
    """Canonical columns of bars.

    Example:
        >>> bar_schema().field("open").type
        Decimal128Type(decimal128(18, 8))
    """

def parse_text(chunk: bytes, spec: str, *, last: bool, first_line: int) -> tuple[pa.RecordBatch, int, int, int]: ...
def parse_binance(chunk: bytes, *, clock: str, last: bool, first_line: int) -> tuple[pa.RecordBatch, int, int, int]: ...
def row_end(tail: bytes, data: bytes, quote: str | None) -> int:
    """Where the last row ends that surely ends in ``data``, whose first row begins in ``tail``; 0 where none does."""

def tick_schema() -> pa.Schema:
    """Canonical columns of ticks.

    Example:
        >>> tick_schema().names[:3]
        ['symbol', 'timestamp_utc', 'sequence']
    """

def timeframe_label(ns: int) -> str: ...
def timeframe_ns(text: str) -> int: ...
def validate_ticks(data: Any, *, rules: ValidationRules | None = None) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Judge ticks row by row.

    Args:
        data: Ticks in anything that speaks the Arrow PyCapsule interface: ``symbol``, ``timestamp_utc`` and
            ``price`` or ``bid``/``ask``; other canonical columns are taken along. Decimals, floats (as their
            shortest round-trip decimal), integers and text are taken as numbers.
        rules: Which reasons reject a row and which only count; None for the defaults, which keep all that is
            plausible: crossed and locked quotes are counted, negative prices reject.

    Returns:
        Accepted rows in canonical types, with tick_type, price and volume filled in (a quote's price is its mid,
        half-even, or its one side); rejected rows with their ordinal ``row`` and a bitmask ``reasons``; rows per
        reason. The bits are `backtestr.REASONS`.

    Raises:
        SchemaError: A column is missing or of an unusable type.

    Example:
        >>> import pyarrow as pa
        >>> ticks = pa.table({"symbol": ["A", "A"], "timestamp_utc": pa.array([0, 1], pa.timestamp("s")),
        ...                   "price": [1.5, -1.0], "volume": [1, 1]})
        >>> accepted, rejected, counts = validate_ticks(ticks)
        >>> accepted.num_rows, rejected.num_rows, counts
        (1, 1, {'price_negative': 1})
    """

@final
class TickValidator:
    """Judges ticks batch by batch: order and jumps are judged against the batch before too.

    Args:
        rules: As for :func:`validate_ticks`.
    """

    def __new__(cls, *, rules: ValidationRules | None = None) -> Self: ...
    def validate(
        self, data: Any, *, first_sequence: int | None = None, feed_id: int | None = None
    ) -> tuple[pa.Table, pa.Table | None, dict[str, int]]:
        """As :func:`validate_ticks`, with None for no rejected rows; ``row`` counts on over all batches.

        Args:
            data: As for :func:`validate_ticks`.
            first_sequence: Rows without a ``sequence`` are numbered from it on; None leaves them without.
            feed_id: What is accepted is completed for this feed, as by :func:`complete_ticks`; None leaves it as it is.
        """

def complete_ticks(data: Any, feed_id: int | None = None) -> pa.Table:
    """Validated rows with the columns that every tick has, in order; of one feed where it is given.

    Columns that may be null are there only where the rows bring them: nulls for all would be most of the memory.
    """

def sort_ticks(data: Any) -> pa.Table:
    """Sort ticks by symbol (byte order), instant and sequence, ties by the other values in column order."""

def tally_ticks(data: Any) -> tuple[list[tuple[str, int, int, list[int]]], list[tuple[int, int]]]:
    """Per symbol: name, first and last ns, rows of each tick type; per day since 1970-01-01: rows."""

def index_runs(data: Any, keys: Sequence[str]) -> pa.Table:
    """Runs of rows with equal keys: first row, rows, range of instants and sequences, rows of each tick type."""

def measure_layout(data: Any) -> list[tuple[bool, bool, int, int]]:
    """Per column: whether it is present, has nulls, its decimal places, and its digits before the point."""

def narrow(data: Any, layout: Sequence[tuple[bool, bool, int, int]]) -> pa.Table:
    """The rows in the smallest exact types of a layout."""

def widen(data: Any, schema: pa.Schema) -> pa.Table:
    """The rows in the canonical types of a schema; columns that they lack are null."""

@final
class ParquetFooter:
    """What a Parquet file's footer says, given without the length and magic behind it.

    Raises:
        DataCorruptError: it is none.
    """

    def __new__(cls, footer: bytes) -> Self: ...
    @property
    def first_rows(self) -> list[int]:
        """Number of each row group's first row, and of the row after the last."""

    @property
    def times_ns(self) -> list[tuple[int, int]]:
        """First and last instant of each row group; empty where the file has none."""

    @property
    def first_group_end(self) -> int:
        """Bytes of the file up to the end of its first row group; 0 without one."""

    def is_own(self, data: bytes) -> bool:
        """Whether :func:`encode_parquet` made the row groups, so that `decode` reads them.

        Args:
            data: bytes of the file up to `first_group_end`. Footers of other writers may look alike.
        """

    def extent(self, first: int, stop: int, schema: pa.Schema) -> tuple[int, int]:
        """Where in the file columns of some row groups are: the first byte and the one behind the last."""

    def decode(
        self,
        first: int,
        stop: int,
        schema: pa.Schema,
        data: bytes,
        offset: int,
        *,
        verify: bool,
        threads: int,
    ) -> list[tuple[pa.RecordBatch, int]]:
        """Some row groups in the canonical types of a schema, and the bytes of memory that each takes for itself.

        Args:
            first: the first row group.
            stop: the one behind the last.
            schema: the columns wanted; those that the file leaves out are null, or 0 where nulls are not allowed.
            data: bytes of the file from ``offset`` on, with the `extent` of the row groups.
            offset: where they are in the file.
            verify: whether the checksums of pages are.
            threads: at most so many at work.

        Raises:
            DataCorruptError: something is not as it was written.
            SchemaError: a column cannot be one of the schema.
        """

@final
class GroupCache:
    """Rows of row groups within a budget of bytes; those asked for often stay, whatever is read once.

    Args:
        max_bytes: the budget.
        ttl_s: seconds that a row group stays without being asked for.
    """

    def __new__(cls, max_bytes: int, *, ttl_s: float) -> Self: ...
    def get(self, file_id: str, first: int, stop: int, *, counted: bool = True) -> list[Any]:
        """What was put for each row group of a file from ``first`` to before ``stop``, or None.

        ``counted`` says whether the statistics show it.
        """

    def holds(self, file_id: str, first: int, stop: int) -> list[bool]:
        """Whether each row group of a file from ``first`` to before ``stop`` is there; counts as no demand for it."""

    def put(self, file_id: str, group: int, rows: Any, bytes: int) -> None:  # noqa: A002
        """Put a row group's rows, which take so many bytes."""

    def trim(self) -> None:
        """Evict until what is left fits into the budget."""

    def forget(self, file_id: str, first: int, stop: int) -> None:
        """Forget the row groups of a file from ``first`` to before ``stop``."""

    def clear(self) -> None:
        """Forget all row groups."""

    def stats(self) -> tuple[int, int, int, int, int, int]:
        """Hits, misses, evictions, row groups held, their bytes, and the most bytes allowed."""

def encode_parquet(
    data: Any,
    groups: Sequence[tuple[int, int]],
    layout: Sequence[tuple[bool, bool, int, int]],
    *,
    field_ids: Sequence[int],
    delta: Sequence[bool],
    sorted_by: Sequence[str],
    zstd_level: int,
) -> bytes:
    """A Parquet file of rows in canonical types.

    Args:
        data: the rows.
        groups: row groups as (start, stop), one behind the other from row 0.
        layout: per column, what its values need.
        field_ids: per column, what names it in files.
        delta: per column, whether it is delta-encoded where it is stored in 64 bits; others have dictionaries.
        sorted_by: names of the columns that the rows are sorted by.
        zstd_level: compression level.
    """

@final
class ParquetStitcher:
    """One new Parquet file, made of the row groups of whole Parquet files of one schema."""

    def __new__(cls, path: Any) -> Self: ...
    def append(self, piece: bytes) -> int:
        """Copy a piece's row groups behind those before; returns the bytes written so far."""

    def finish(self) -> None:
        """Write the footer and make the file's bytes durable."""

@final
class LogWriter:
    """The one appender of a store's log; threads that wait at the same time share one sync."""

    @staticmethod
    def create(folder: Any, log_id: int) -> LogWriter: ...
    @staticmethod
    def open(folder: Any, log_id: int) -> LogWriter: ...
    def submit(self, payload: bytes, time_ns: int) -> tuple[int, int]:
        """Give a record its LSN and commit time (ns), which never goes back; :meth:`wait` makes it durable."""

    def wait(self, lsn: int) -> None:
        """Return when the record of an LSN, and every one before it, is durable."""

    def close(self) -> None:
        """Make everything durable, cut unused space off, and mark the end."""

    @property
    def durable_lsn(self) -> int: ...

@final
class LogReader:
    """Follows a log from an LSN on, in the writer's process or another."""

    def __new__(cls, folder: Any, after: int) -> Self: ...
    def read_segment(self) -> list[tuple[int, int, bytes]]:
        """Whole records not read yet of the next segment that has some; none at the end of the log.

        Each is (LSN, commit time in ns, payload), oldest first.
        """

def remove_segments(folder: Any, up_to: int) -> list[int]:
    """Remove the log's segments whose records all have an LSN up to this one; gives their first LSNs."""

def crc32c(data: bytes) -> int: ...
def sync_file(path: Any) -> None: ...
def sync_folder(path: Any) -> None: ...

class _BarSpec(Protocol):
    @property
    def tick_types(self) -> Sequence[int]: ...
    @property
    def price_excludes(self) -> Sequence[str]: ...
    @property
    def high_low_excludes(self) -> Sequence[str]: ...
    @property
    def volume_excludes(self) -> Sequence[str]: ...

def aggregate_bars(
    data: Any, timeframes: Sequence[str], *, price: str = "trade", bar_spec: _BarSpec | None = None
) -> pa.Table:
    """Aggregate ticks to exact bars of several timeframes in one pass.

    Args:
        data: Ticks in anything that speaks the Arrow PyCapsule interface, in any order: ``symbol``,
            ``timestamp_utc``, and ``price`` and ``volume`` or ``bid`` and ``ask``; ``sequence`` orders equal instants.
        timeframes: Labels such as ``1s``, ``5m``, ``1d``; each divides a day or is a whole number of days.
        price: What the bars are made of: trades, bids, asks, or mids of two-sided quotes.
        bar_spec: Which trades count for prices, high and low, and volume; by default all count for all.

    Returns:
        Bars by timeframe (finest first), symbol (byte order) and bucket start. ``turnover`` is the exact sum of
        price times volume, ``vwap`` = turnover / volume rounded half-even at 1e-8, null at zero volume.

    Raises:
        SchemaError: A column is missing or of an unusable type.
        InvalidTickError: A value is missing or out of range; names the row.
        TimeframeError: A timeframe is not one we aggregate.
        ArgumentError: No timeframe, or an unknown ``price``.
        BarOverflowError: A bar's volume or turnover leaves 38 digits; names the bar.

    Example:
        >>> from decimal import Decimal
        >>> import pyarrow as pa
        >>> ticks = pa.table({
        ...     "symbol": ["A", "A"],
        ...     "timestamp_utc": pa.array([0, 59_000], pa.timestamp("ms")),
        ...     "price": pa.array([Decimal("10"), Decimal("11")], pa.decimal128(18, 8)),
        ...     "volume": pa.array([Decimal("1"), Decimal("3")], pa.decimal128(18, 8)),
        ... })
        >>> aggregate_bars(ticks, ["1m"])["vwap"].to_pylist()
        [Decimal('10.75000000')]
    """

def vwap(data: Any) -> pa.Table:
    """Sum each symbol's trades: exact turnover and volume, and their quotient.

    Args:
        data: Ticks as for :func:`aggregate_bars`.

    Returns:
        ``symbol`` (in byte order), ``turnover``, ``volume`` and ``vwap`` (half-even at 1e-8, null at zero volume).

    Raises:
        SchemaError: A column is missing or of an unusable type.
        InvalidTickError: A value is missing or out of range; names the row.

    Example:
        >>> from decimal import Decimal
        >>> import pyarrow as pa
        >>> fixed = pa.decimal128(18, 8)
        >>> ticks = pa.table({
        ...     "symbol": ["A", "A"],
        ...     "timestamp_utc": pa.array([0, 1], pa.timestamp("ms")),
        ...     "price": pa.array([Decimal("10"), Decimal("11")], fixed),
        ...     "volume": pa.array([Decimal("1"), Decimal("3")], fixed),
        ... })
        >>> vwap(ticks)["vwap"].to_pylist()
        [Decimal('10.75000000')]
    """

def append_vwap(data: Any) -> pa.Table:
    """Stored bars with their vwap, in the canonical columns."""

@final
class BarAggregator:
    """Make the bars of :func:`aggregate_bars` from ticks that arrive batch by batch.

    However ordered ticks are cut into batches, the bars are the same. Safe to use from several threads.

    Args:
        timeframes: As for :func:`aggregate_bars`, as are ``price`` and ``bar_spec``.

    Example:
        >>> from decimal import Decimal
        >>> import pyarrow as pa
        >>> fixed = pa.decimal128(18, 8)
        >>> ticks = pa.table({
        ...     "symbol": ["A", "A"],
        ...     "timestamp_utc": pa.array([0, 60], pa.timestamp("s")),
        ...     "price": pa.array([Decimal("10"), Decimal("11")], fixed),
        ...     "volume": pa.array([Decimal("1"), Decimal("3")], fixed),
        ... })
        >>> aggregator = BarAggregator(["1m"])
        >>> aggregator.update(ticks).num_rows, aggregator.finish().num_rows
        (1, 1)
    """

    def __new__(cls, timeframes: Sequence[str], *, price: str = "trade", bar_spec: _BarSpec | None = None) -> Self: ...
    def update(self, data: Any) -> pa.Table:
        """Add ticks and return the bars they complete: a bar ends when a tick of its symbol in a later bucket arrives.

        Rows before a completed bar of their symbol are kept aside for :meth:`take_late`. On an error nothing was added.
        """

    def peek(self) -> pa.Table:
        """Return the running bars as they stand."""

    def finish(self) -> pa.Table:
        """Complete and return the running bars; later ticks of their buckets are late."""

    @property
    def late_rows(self) -> int:
        """Number of rows that came after their bar was completed, taken or not."""

    def take_late(self) -> pa.Table:
        """Hand over the late rows, as they were given."""

    def to_bytes(self) -> bytes:
        """Return everything the aggregator knows, with a checksum.

        Raises:
            StateError: Late rows wait to be taken.
        """

    @staticmethod
    def from_bytes(state: bytes) -> BarAggregator:
        """Go on from :meth:`to_bytes`.

        Raises:
            StateError: The bytes are cut, changed, or of another version.
        """
