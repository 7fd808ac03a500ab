"""One bar with exact decimals, for people and tests; bulk data stays in Arrow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

from backtestr.errors import ArgumentError
from backtestr.instants import END_NS, MIN_NS, plain_instant, to_ns
from backtestr.models.fixed import EXACT, optional_decimal, round_fixed, text
from backtestr.models.timeframe import Timeframe

_NUMBERS = ("open", "high", "low", "close", "volume", "turnover")
PRICE_BASES = ("trade", "bid", "ask", "mid")
"""What the prices of a bar may be."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Open, high, low, close, volume, turnover and count of a bucket ``[timestamp, timestamp + timeframe)``.

    Args:
        symbol: the instrument.
        timeframe: the bucket's length, as a `Timeframe` or its text.
        timestamp_ns: start of the bucket: any instant that `backtestr.schema.to_ns` takes; kept as ns UTC.
        open: first eligible price, in the quote currency; None where no tick was eligible.
        high: highest eligible price.
        low: lowest eligible price.
        close: last eligible price.
        volume: sum of eligible volumes, in shares, contracts, or units of the base currency.
        turnover: sum of price times volume, in the quote currency.
        trade_count: eligible trades, or quotes where the basis is a quote price.
        price_basis: what the prices are: ``trade``, ``bid``, ``ask`` or ``mid``.

    Raises:
        ArgumentError: a value is no number, no instant, or no price basis.
        TimeframeError: the timeframe is none.

    Example:
        >>> bar = Bar("IBM", "5m", "2013-10-08T13:30", 10, 12, 9, 11, volume=3, turnover="31.00000001", trade_count=2)
        >>> bar.vwap, bar.typical_price, bar.true_range(prev_close=13)
        (Decimal('10.33333334'), Decimal('10.66666667'), Decimal('4'))
    """

    symbol: str
    timeframe: Timeframe
    timestamp_ns: int
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    volume: Decimal = Decimal(0)
    turnover: Decimal = Decimal(0)
    trade_count: int = 0
    price_basis: str = "trade"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "timeframe", Timeframe.parse(self.timeframe))
        if type(self.timestamp_ns) is not int:
            put(self, "timestamp_ns", to_ns(self.timestamp_ns, argument="timestamp_ns"))
        for name in _NUMBERS:
            put(self, name, optional_decimal(getattr(self, name), name))
        for name in ("volume", "turnover"):
            put(self, name, Decimal(0) if getattr(self, name) is None else getattr(self, name))
        if self.price_basis not in PRICE_BASES:
            raise ArgumentError(f"price_basis={self.price_basis!r} is none of {', '.join(PRICE_BASES)}")

    @property
    def is_valid(self) -> bool:
        """Whether the bar can be: aligned to its timeframe, low ≤ open, close ≤ high, nothing negative but prices.

        Prices may be None in pairs (open with close, high with low), as a bar spec can leave a bucket without an
        eligible price. Negative prices are real and valid here; whether they are kept is decided tick by tick.

        Example:
            >>> Bar("A", "1m", 0, 1, 2, 1, 2).is_valid, Bar("A", "1m", 1, 1, 2, 1, 2).is_valid
            (True, False)
        """
        numbers = [value for name in _NUMBERS if (value := getattr(self, name)) is not None]
        if not self.symbol or not all(value.is_finite() for value in numbers):
            return False
        inner = [price for price in (self.open, self.close) if price is not None]
        paired = (self.open is None) == (self.close is None) and (self.high is None) == (self.low is None)
        return (
            MIN_NS - self.timeframe.ns < self.timestamp_ns < END_NS
            and self.timeframe.floor(self.timestamp_ns) == self.timestamp_ns
            and paired
            and (self.high is None or self.low is None or self.low <= self.high)
            and all(self.high is None or price <= self.high for price in inner)
            and all(self.low is None or price >= self.low for price in inner)
            and self.volume >= 0
            and self.trade_count >= 0
        )

    @property
    def vwap(self) -> Decimal | None:
        """Turnover / volume, half-even at 1e-8, in the quote currency; None at zero volume.

        Example:
            >>> Bar("A", "1m", 0, volume=3, turnover=10).vwap
            Decimal('3.33333333')
        """
        if not (self.turnover.is_finite() and self.volume.is_finite() and self.volume):
            return None
        return round_fixed(Fraction(self.turnover) / Fraction(self.volume))

    @property
    def typical_price(self) -> Decimal | None:
        """(high + low + close) / 3, half-even at 1e-8, in the quote currency; None where one of them is no number.

        Example:
            >>> Bar("A", "1m", 0, 1, 2, 1, 2).typical_price
            Decimal('1.66666667')
        """
        prices = [price for price in (self.high, self.low, self.close) if price is not None and price.is_finite()]
        return round_fixed(sum(map(Fraction, prices), Fraction(0)) / 3) if len(prices) == 3 else None

    def true_range(self, prev_close: Decimal | float | str | None = None) -> Decimal | None:
        """Greatest of high - low, |high - prev_close| and |low - prev_close| (Wilder 1978), in the quote currency.

        Args:
            prev_close: close of the bar before; None for the first bar, whose range is high - low.

        Returns:
            The exact range; None where a price is no number.

        Raises:
            ArgumentError: ``prev_close`` is no number.

        Example:
            >>> Bar("A", "1m", 0, 1, 2, 1, 2).true_range("3.5")
            Decimal('2.5')
        """
        before = optional_decimal(prev_close, "prev_close")
        if self.high is None or self.low is None:
            return None
        reach = [self.high, self.low] if before is None else [self.high, self.low, before]
        return EXACT.subtract(max(reach), min(reach)) if all(price.is_finite() for price in reach) else None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values: instants as ISO text, numbers as plain digits.

        Example:
            >>> Bar("A", "60s", 0).to_dict()["timeframe"]
            '1m'
        """
        out = {field.name: getattr(self, field.name) for field in fields(self)}
        out |= {name: text(out[name]) for name in _NUMBERS}
        return out | {"timestamp_ns": plain_instant(self.timestamp_ns), "timeframe": str(self.timeframe)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Bar:
        """Build a bar from what `to_dict` gave.

        Example:
            >>> bar = Bar("A", "1m", 0, 1, 2, 1, 2)
            >>> Bar.from_dict(bar.to_dict()) == bar
            True
        """
        return cls(**values)

    def to_json(self) -> str:
        """The fields as a JSON object; see `to_dict`.

        Example:
            >>> Bar("A", "1m", 0).to_json()[:15]
            '{"symbol": "A",'
        """
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, document: str) -> Bar:
        """Build a bar from what `to_json` gave.

        Example:
            >>> Bar.from_json(Bar("A", "1m", 0).to_json()).timeframe
            Timeframe('1m')
        """
        return cls.from_dict(json.loads(document))
