from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self, final

import pyarrow as pa

__version__: str
BUILD_PROFILE: str

class _BarSpec(Protocol):
    @property
    def tick_types(self) -> Sequence[int]: ...
    @property
    def price_excludes(self) -> Sequence[str]: ...
    @property
    def high_low_excludes(self) -> Sequence[str]: ...
    @property
    def volume_excludes(self) -> Sequence[str]: ...

_Basis = Literal["trade", "bid", "ask", "mid"]

def aggregate_bars(
    data: Any, timeframes: Sequence[str], *, price: _Basis = "trade", bar_spec: _BarSpec | None = None
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
        ``symbol``, ``turnover``, ``volume`` and ``vwap`` (half-even at 1e-8, null at zero volume), in byte order of symbol.

    Raises:
        SchemaError: A column is missing or of an unusable type.
        InvalidTickError: A value is missing or out of range; names the row.
    """

@final
class BarAggregator:
    """Make the bars of :func:`aggregate_bars` from ticks that arrive batch by batch.

    However ordered ticks are cut into batches, the bars are the same. Safe to use from several threads.

    Args:
        timeframes: As for :func:`aggregate_bars`, as are ``price`` and ``bar_spec``.
    """

    def __new__(
        cls, timeframes: Sequence[str], *, price: _Basis = "trade", bar_spec: _BarSpec | None = None
    ) -> Self: ...
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
