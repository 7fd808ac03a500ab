"""Arrow columns from numpy integers, without touching rows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtestr.schema import FIXED, INSTANT

_NONE = pa.array(np.zeros(8_192, dtype=np.int32))
"""Codes of small batches, which a live feed has many of."""


def fixed(values: npt.NDArray[np.int64], absent: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Units of 1e-8 as ``decimal128(18, 8)``."""
    wide = np.empty((len(values), 2), dtype="<i8")
    wide[:, 0] = values
    wide[:, 1] = values >> 63
    validity = None if absent is None or not absent.any() else np.packbits(~absent, bitorder="little").tobytes()
    buffers: list[Any] = [None if validity is None else pa.py_buffer(validity), pa.py_buffer(wide)]
    return pa.Array.from_buffers(FIXED, len(values), buffers)


def instants(values: npt.NDArray[np.int64]) -> pa.Array:
    """Nanoseconds since 1970 as ``timestamp[ns, UTC]``."""
    return pa.array(values, pa.int64()).cast(INSTANT)


def constant(name: str, rows: int) -> pa.Array:
    """One text for all rows, as a dictionary."""
    codes = _NONE.slice(0, rows) if rows <= len(_NONE) else pa.array(np.zeros(rows, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(codes, _text(name))


@lru_cache
def _text(name: str) -> pa.Array:
    return pa.array([name], pa.string())
