"""Columns of numbers in as few bytes as they need, of which any rows can be had at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[np.int64]
Rows = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]

_WIDTHS: Final = (np.uint8, np.uint16, np.uint32)
_FEW: Final = 12
"""Numbers that are faster had one by one."""


@dataclass(frozen=True, slots=True)
class Narrow:
    """Numbers of 64 bits, some of them null, as steps from the least one.

    Attributes:
        count: how many there are.
        base: what is added to the steps.
        steps: of the narrowest type that holds them; None where all numbers are the base.
        bits: which ones are there, eight to a byte; None where all are.
    """

    count: int
    base: int = 0
    steps: npt.NDArray[Any] | None = None
    bits: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, values: Numbers, valid: Flags | None = None) -> Narrow:
        """Make the numbers narrow; those that are not valid are null."""
        bits, count = None, len(values)
        if valid is not None and not valid.all():
            bits = np.packbits(valid)
            # what is under a null is anything, and would widen the others
            there = values[valid]
            values = np.where(valid, values, there.min() if len(there) else 0)
        if not count:
            return cls(0)
        low, high = int(values.min()), int(values.max())
        if low == high:
            return cls(count, low, None, bits)
        for width in _WIDTHS:
            most = int(np.iinfo(width).max)
            if low >= 0 and high <= most:
                return cls(count, 0, values.astype(width), bits)
            if high - low <= most:
                return cls(count, low, (values - low).astype(width), bits)
        return cls(count, 0, values.copy(), bits)

    @classmethod
    def nulls(cls, count: int) -> Narrow:
        """So many nulls."""
        return cls(count, 0, None, np.zeros(-(-count // 8), np.uint8))

    @classmethod
    def join(cls, parts: Sequence[Narrow]) -> Narrow:
        """The numbers of all parts, one behind the other."""
        count = sum(part.count for part in parts)
        if all(part.steps is None and part.base == parts[0].base for part in parts):
            if all(part.bits is None for part in parts):
                return cls(count, parts[0].base)
            if not any(part.bits is None or part.bits.any() for part in parts):
                return cls.nulls(count)
        valid = None
        if any(part.bits is not None for part in parts):
            valid = np.concatenate([np.ones(p.count, bool) if (v := p.valid()) is None else v for p in parts])
        return cls.of(np.concatenate([part.numbers() for part in parts]), valid)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(held.nbytes for held in (self.steps, self.bits) if held is not None)

    def numbers(self, rows: Rows | None = None) -> Numbers:
        """The numbers of some rows, or of all; those that are null are 0."""
        if self.steps is None:
            values = np.full(self.count if rows is None else len(rows), self.base, np.int64)
        else:
            values = (self.steps if rows is None else self.steps[rows]).astype(np.int64, copy=rows is None)
            if self.base:
                values += self.base
        if self.bits is not None:
            values[~self._flags(rows)] = 0
        return values

    def listed(self, rows: Rows) -> list[int]:
        """The `numbers` of some rows, one by one."""
        if self.bits is not None or len(rows) > _FEW:
            return self.numbers(rows).tolist()  # type: ignore[no-any-return]
        if self.steps is None:
            return [self.base] * len(rows)
        base, step = self.base, self.steps.item
        return [base + step(row) for row in rows.tolist()]

    def valid(self, rows: Rows | None = None) -> Flags | None:
        """Which of some rows, or of all, are not null; None where no row is."""
        return None if self.bits is None else self._flags(rows)

    def _flags(self, rows: Rows | None) -> Flags:
        bits = self.bits
        assert bits is not None  # noqa: S101 - both callers asked
        if rows is None:
            return np.unpackbits(bits, count=self.count).astype(bool)
        flags: Flags = (bits[rows >> 3] >> (7 - (rows & 7)) & 1).astype(bool)
        return flags

    def only(self, rows: Rows) -> Narrow:
        """The numbers of some rows."""
        steps = None if self.steps is None else self.steps[rows]
        return Narrow(len(rows), self.base, steps, None if self.bits is None else np.packbits(self._flags(rows)))


def from_arrow(array: pa.Array) -> tuple[Numbers, Flags | None]:
    """Integers, instants or decimals of up to 18 digits as numbers of 64 bits, and which of them are not null.

    Raises:
        ValueError: a decimal has more digits.
    """
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if not pa.types.is_decimal128(array.type):
        return array.fill_null(0).cast(pa.int64()).to_numpy(), valid
    if not len(array):
        return np.empty(0, np.int64), valid
    halves = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    low, high = halves[:, 0], halves[:, 1]
    is_wide = high != low >> 63
    if is_wide.any() and (valid is None or (is_wide & valid).any()):
        raise ValueError("a decimal of more than 18 digits")
    return low, valid


def to_arrow(values: Numbers, valid: Flags | None, kind: pa.DataType) -> pa.Array:
    """Read back what `from_arrow` gave, as an array of a type."""
    if not pa.types.is_decimal128(kind):
        return pa.array(values, pa.int64(), mask=None if valid is None else ~valid).cast(kind)
    halves = np.stack([values, values >> 63], axis=1)
    there = None if valid is None else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(kind, len(values), [there, pa.py_buffer(halves)])
