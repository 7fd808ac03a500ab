"""Decimals of eight places, as the store holds them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import TypeAlias

from backtestr.errors import ArgumentError

Number: TypeAlias = "Decimal | int | float | str"

MAX_UNITS = 10**18 - 1
"""Largest magnitude of a DECIMAL(18, 8), in units of 1e-8."""

EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""Wide enough that sums and differences of any prices are exact."""


def to_decimal(value: Number, argument: str) -> Decimal:
    """The value as a decimal; a float as its shortest text, so that 0.1 is 0.1."""
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ArgumentError(f"{argument}={value!r} is not a number") from error


def optional_decimal(value: Number | None, argument: str) -> Decimal | None:
    """The value as a decimal, None where there is none."""
    return None if value is None else to_decimal(value, argument)


def is_storable(value: Decimal) -> bool:
    """Whether a DECIMAL(18, 8) holds the value exactly."""
    if not value.is_finite():
        return False
    units = Fraction(value) * 10**8
    return units.denominator == 1 and abs(units.numerator) <= MAX_UNITS


def round_fixed(value: Fraction) -> Decimal:
    """The nearest multiple of 1e-8, ties to even."""
    return Decimal(round(value * 10**8)).scaleb(-8, EXACT)


def text(value: Decimal | None) -> str | None:
    """The value as plain digits, never in scientific notation."""
    return None if value is None else format(value, "f")
