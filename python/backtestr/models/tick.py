"""One tick with exact decimals, for people and tests; bulk data stays in Arrow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

from backtestr.errors import ArgumentError
from backtestr.instants import END_NS, MIN_NS, plain_instant, to_ns
from backtestr.models.fixed import EXACT, is_storable, optional_decimal, round_fixed, text

_NUMBERS = ("price", "volume", "bid", "ask", "bid_size", "ask_size")


class TickType(IntEnum):
    """What a tick says: a trade, one side of a quote, or both.

    Example:
        >>> TickType.COMPOSITE.value
        3
    """

    TRADE = 0
    BID = 1
    ASK = 2
    COMPOSITE = 3


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade or quote.

    Numbers may be given as decimals, integers, text or floats (a float is its shortest text). What is left out is
    derived as at ingest: a price with a volume, or without quotes, makes a trade, otherwise the sides say the type.
    The price of a quote is its mid, or its one side, and its volume 0, whatever is given.

    Args:
        symbol: the instrument, as the vendor writes it.
        timestamp_ns: any instant that `backtestr.schema.to_ns` takes; kept as ns since 1970-01-01 UTC.
        price: price of a trade, in the quote currency; left out for quotes.
        volume: shares, contracts, or units of the base currency.
        bid: best bid, in the quote currency.
        ask: best ask, in the quote currency.
        bid_size: size at the bid, in units of ``volume``.
        ask_size: size at the ask, in units of ``volume``.
        tick_type: derived where None.
        sequence: the vendor's number, or the row's ordinal.
        epoch: the vendor's session or reconnect count where its sequence restarts.
        exchange: code of the venue.
        conditions: the vendor's sale conditions, as text.

    Raises:
        ArgumentError: a value is no number, no instant, or no tick type.

    Example:
        >>> quote = Tick("EURUSD", "2014-05-08", bid="1.39120", ask="1.39124")
        >>> quote.tick_type.name, quote.mid_price, quote.spread
        ('COMPOSITE', Decimal('1.39122000'), Decimal('0.00004'))
        >>> Tick("IBM", 0, price=-1).is_valid
        False
    """

    symbol: str
    timestamp_ns: int
    price: Decimal | None = None
    volume: Decimal = Decimal(0)
    bid: Decimal | None = None
    ask: Decimal | None = None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    tick_type: TickType | None = None
    sequence: int = 0
    epoch: int = 0
    exchange: str | None = None
    conditions: str | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        if type(self.timestamp_ns) is not int:
            put(self, "timestamp_ns", to_ns(self.timestamp_ns, argument="timestamp_ns"))
        for name in _NUMBERS:
            put(self, name, optional_decimal(getattr(self, name), name))
        if self.volume is None:
            put(self, "volume", Decimal(0))
        try:
            put(
                self,
                "tick_type",
                self._derived_type() if self.tick_type is None else TickType(self.tick_type),
            )
        except ValueError as error:
            raise ArgumentError(f"tick_type={self.tick_type!r} is none of 0 to 3") from error
        # an unreadable number stays, so that the tick is not valid
        if self.tick_type is not TickType.TRADE:
            if self.price is None or is_storable(self.price):
                put(self, "price", self._quoted_price())
            if is_storable(self.volume) and self.volume >= 0:
                put(self, "volume", Decimal(0))

    @property
    def mid_price(self) -> Decimal | None:
        """(bid + ask) / 2, half-even at 1e-8, in the quote currency; None unless both sides are finite numbers.

        Example:
            >>> Tick("A", 0, bid="0.00000001", ask="0.00000002").mid_price
            Decimal('2E-8')
        """
        if self.bid is None or self.ask is None or not (self.bid.is_finite() and self.ask.is_finite()):
            return None
        return round_fixed((Fraction(self.bid) + Fraction(self.ask)) / 2)

    @property
    def spread(self) -> Decimal | None:
        """Ask minus bid, in the quote currency, negative where the quote is crossed; None unless both are numbers.

        Example:
            >>> Tick("A", 0, bid="1.2", ask="1.1").spread
            Decimal('-0.1')
        """
        if self.bid is None or self.ask is None or not (self.bid.is_finite() and self.ask.is_finite()):
            return None
        return EXACT.subtract(self.ask, self.bid)

    @property
    def is_valid(self) -> bool:
        """Whether the default validation rules keep the tick; they know no clock here, so the future is not refused.

        Crossed and locked quotes are valid, prices of zero or less are not.

        Example:
            >>> Tick("A", 0, price="100.25", volume=10).is_valid
            True
        """
        numbers = [value for name in _NUMBERS if (value := getattr(self, name)) is not None]
        sizes = (self.volume, self.bid_size, self.ask_size)
        return (
            bool(self.symbol)
            and MIN_NS <= self.timestamp_ns < END_NS
            and self.price is not None
            and all(map(is_storable, numbers))
            and self.price > 0
            and all(side is None or side > 0 for side in (self.bid, self.ask))
            and all(size is None or size >= 0 for size in sizes)
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values: instants as ISO text, numbers as plain digits.

        Example:
            >>> Tick("A", 0, price="1.50").to_dict()["price"]
            '1.50'
        """
        out = {field.name: getattr(self, field.name) for field in fields(self)}
        out |= {name: text(out[name]) for name in _NUMBERS}
        return out | {"timestamp_ns": plain_instant(self.timestamp_ns), "tick_type": int(out["tick_type"])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tick:
        """Build a tick from what `to_dict` gave.

        Example:
            >>> tick = Tick("A", 1, price="1.50")
            >>> Tick.from_dict(tick.to_dict()) == tick
            True
        """
        return cls(**values)

    def to_json(self) -> str:
        """The fields as a JSON object; see `to_dict`.

        Example:
            >>> Tick("A", 0, price=1).to_json()[:15]
            '{"symbol": "A",'
        """
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, document: str) -> Tick:
        """Build a tick from what `to_json` gave.

        Example:
            >>> Tick.from_json(Tick("A", 0, price=1).to_json()).price
            Decimal('1')
        """
        return cls.from_dict(json.loads(document))

    def _quoted_price(self) -> Decimal | None:
        if self.tick_type is TickType.COMPOSITE:
            return self.mid_price
        return self.bid if self.tick_type is TickType.BID else self.ask

    def _derived_type(self) -> TickType:
        if (self.price is not None and self.volume != 0) or (self.bid is None and self.ask is None):
            return TickType.TRADE
        if self.bid is not None and self.ask is not None:
            return TickType.COMPOSITE
        return TickType.ASK if self.bid is None else TickType.BID
