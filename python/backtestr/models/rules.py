"""What ticks are kept and which of them make bars."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from backtestr.errors import ArgumentError
from backtestr.models.fixed import is_storable, optional_decimal
from backtestr.models.tick import TickType


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """Which reasons reject a tick and which are only counted.

    By default all that is plausible is kept: rows are rejected for a missing symbol, price or timestamp, a price of
    zero or less, a negative volume or size, values that are no number, inexact or out of range, a time in the
    future, and an unknown tick type. Crossed and locked quotes, ticks out of order, and values that were rounded or
    that the vendor calls suspicious are kept and counted. A jump of the price is not looked for unless bounded.
    Order and jumps are judged against the symbol's last row that was kept.

    A row that cannot be stored is rejected under any rules: one without symbol, price, instant or known type, or
    with a number that is none, inexact or out of range.

    Args:
        reject: names of the reasons that reject; None for the default ones. See `backtestr.REASONS`.
        flag: names of the reasons that are counted only; None for the default ones. A reason in neither set is
            ignored.
        max_jump: largest change of price from one tick of a symbol to its next, as a fraction of the earlier price
            (0.2 is 20 %); None for no bound.
        now_ns: the present, in ns since 1970-01-01 UTC; None for the clock.
        max_future_ns: how far past the present a timestamp may lie, in ns.
        per_symbol: rules that hold for single symbols instead of these.

    Raises:
        ArgumentError: a reason is in both sets or in ``flag`` though it always rejects, or a bound is not taken.

    Example:
        >>> rules = ValidationRules(max_jump=0.2)
        >>> spreads = rules.allowing("price_negative", "price_zero")
        >>> "price_negative" in spreads.reject, "price_missing" in spreads.reject
        (False, True)
    """

    reject: frozenset[str] | None = None
    flag: frozenset[str] | None = None
    max_jump: Decimal | None = None
    now_ns: int | None = None
    max_future_ns: int = 60_000_000_000
    per_symbol: Mapping[str, ValidationRules] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "reject", None if self.reject is None else _names(self.reject, "reject"))
        put(self, "flag", None if self.flag is None else _names(self.flag, "flag"))
        put(self, "max_jump", optional_decimal(self.max_jump, "max_jump"))
        put(self, "per_symbol", MappingProxyType(dict(self.per_symbol)))
        if self.reject is not None and self.flag is not None and (both := self.reject & self.flag):
            raise ArgumentError(f"reasons {', '.join(sorted(both))} are in reject and in flag; choose one")
        if self.max_jump is not None and not (is_storable(self.max_jump) and self.max_jump >= 0):
            raise ArgumentError(f"max_jump={self.max_jump} is not a fraction of at most 8 decimals, such as 0.2")
        if unstorable := UNSTORABLE & (self.flag or set()):
            raise ArgumentError(f"flag={_listed(unstorable)}: such a row cannot be stored, so these always reject")
        for symbol, rules in self.per_symbol.items():
            if not isinstance(rules, ValidationRules) or rules.per_symbol:
                raise ArgumentError(f"per_symbol[{symbol!r}]={rules!r} must be rules without per_symbol of their own")
        if self.max_future_ns < 0:
            raise ArgumentError(f"max_future_ns={self.max_future_ns} is negative")

    def allowing(self, *reasons: str) -> ValidationRules:
        """These rules, with the named reasons neither rejecting nor counted.

        Args:
            *reasons: names of `backtestr.REASONS`.

        Returns:
            New rules whose sets are spelt out.

        Raises:
            ArgumentError: a name is not a reason, or one that always rejects.

        Example:
            >>> "price_zero" in ValidationRules().allowing("price_zero").reject
            False
        """
        names = _names(reasons, "reasons")
        if unstorable := UNSTORABLE & names:
            raise ArgumentError(f"{_listed(unstorable)}: such a row cannot be stored, so these always reject")
        return ValidationRules(
            reject=(DEFAULT_REJECT - (self.flag or set()) if self.reject is None else self.reject) - names,
            flag=(DEFAULT_FLAG - (self.reject or set()) if self.flag is None else self.flag) - names,
            max_jump=None if "price_jump" in names else self.max_jump,
            now_ns=self.now_ns,
            max_future_ns=self.max_future_ns,
            per_symbol=self.per_symbol,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.reject,
            self.flag,
            self.max_jump,
            self.now_ns,
            self.max_future_ns,
            dict(self.per_symbol),
        )


UNSTORABLE = frozenset(
    {
        "symbol_missing",
        "price_missing",
        "not_a_number",
        "inexact",
        "out_of_range",
        "timestamp_missing",
        "timestamp_out_of_range",
        "tick_type_unknown",
    }
)
"""Reasons that reject under any rules."""

DEFAULT_REJECT = UNSTORABLE | {"price_zero", "price_negative", "volume_negative", "timestamp_future"}
"""Reasons that reject unless the rules say otherwise."""

DEFAULT_FLAG = frozenset({"quote_crossed", "quote_locked", "out_of_order", "rounded", "suspicious"})
"""Reasons that are counted only, unless the rules say otherwise."""

ALL_REASONS = DEFAULT_REJECT | DEFAULT_FLAG | {"price_jump"}
"""Every reason there is."""


def split_counts(counts: Mapping[str, int], rules: ValidationRules | None) -> tuple[dict[str, int], dict[str, int]]:
    """Rows per reason that rejects by some rules, and rows per reason that only counts."""
    reject = DEFAULT_REJECT if rules is None or rules.reject is None else rules.reject
    rejecting = {name: count for name, count in counts.items() if name in reject}
    return rejecting, {name: count for name, count in counts.items() if name not in reject}


@dataclass(frozen=True, slots=True)
class BarSpec:
    """Which ticks make bars: by type, and by sale condition separately for prices, high and low, and volume.

    The default counts every accepted trade, size 0 included. A tick's ``conditions`` are codes separated by commas,
    blanks around them aside; a condition is a text that equals one of them. Lean's hexadecimal flags are one code.

    Args:
        price_excludes: conditions whose ticks set neither open nor close.
        high_low_excludes: conditions whose ticks set neither high nor low.
        volume_excludes: conditions whose ticks add nothing to volume, turnover and count.
        tick_types: types that make trade bars.

    Raises:
        ArgumentError: a tick type is none of 0 to 3, or there is none.

    Example:
        >>> BarSpec().spec_id
        'default'
        >>> spec = BarSpec(high_low_excludes=("80000000",))
        >>> BarSpec.from_json(spec.to_json()) == spec
        True
    """

    price_excludes: tuple[str, ...] = ()
    high_low_excludes: tuple[str, ...] = ()
    volume_excludes: tuple[str, ...] = ()
    tick_types: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("price_excludes", "high_low_excludes", "volume_excludes"):
            values = getattr(self, name)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                raise ArgumentError(f"{name}={values!r} must be a sequence of condition texts")
            put(self, name, tuple(sorted(set(values))))
        try:
            put(self, "tick_types", tuple(sorted({int(TickType(value)) for value in self.tick_types})))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"tick_types={self.tick_types!r} must hold numbers from 0 to 3") from error
        if not self.tick_types:
            raise ArgumentError("tick_types is empty; no tick would make a bar")

    @property
    def spec_id(self) -> str:
        """``default``, or the first 16 hex digits of the SHA-256 of the canonical JSON.

        Example:
            >>> BarSpec(price_excludes=("W",)).spec_id == BarSpec(price_excludes=["W", "W"]).spec_id
            True
        """
        if self == BarSpec():
            return "default"
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, list[str] | list[int]]:
        """The fields as plain lists, each sorted and without repeats.

        Example:
            >>> BarSpec().to_dict()["tick_types"]
            [0]
        """
        return {
            "high_low_excludes": list(self.high_low_excludes),
            "price_excludes": list(self.price_excludes),
            "tick_types": list(self.tick_types),
            "volume_excludes": list(self.volume_excludes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BarSpec:
        """Build a spec from what `to_dict` gave.

        Example:
            >>> BarSpec.from_dict(BarSpec().to_dict()) == BarSpec()
            True
        """
        return cls(**{name: tuple(items) for name, items in values.items()})

    def to_json(self) -> str:
        """The canonical JSON: sorted keys, no blanks.

        Example:
            >>> BarSpec().to_json()
            '{"high_low_excludes":[],"price_excludes":[],"tick_types":[0],"volume_excludes":[]}'
        """
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, document: str) -> BarSpec:
        """Build a spec from what `to_json` gave.

        Example:
            >>> BarSpec.from_json(BarSpec().to_json()).spec_id
            'default'
        """
        return cls.from_dict(json.loads(document))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _names(values: Iterable[str], argument: str) -> frozenset[str]:
    names = frozenset([values] if isinstance(values, str) else values)
    if unknown := names - ALL_REASONS:
        raise ArgumentError(
            f"{argument} has no such reason as {', '.join(sorted(unknown))}; take from {', '.join(sorted(ALL_REASONS))}"
        )
    return names
