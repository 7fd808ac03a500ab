"""Synthetic trades: random walks in cents, U-shaped intensity over a session, sizes mostly of one lot."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

DAY_US = 86_400_000_000
SESSION_US = 23_400_000_000
FIRST_DAY_US = 19_724 * DAY_US
OPEN_US = 52_200_000_000


def decimals(units: np.ndarray) -> pa.Array:
    """Integers of 1e-8 as ``decimal128(18, 8)``."""
    words = np.zeros((len(units), 2), "int64")
    words[:, 0] = units
    return pa.Array.from_buffers(pa.decimal128(18, 8), len(units), [None, pa.py_buffer(words)])


def trades(rows: int, *, symbols: int, days: int, interleaved: bool = False, session_us: int = SESSION_US) -> pa.Table:
    """Trades sorted by symbol and time, or by time alone."""
    rng = np.random.default_rng(11)
    each = rows // (symbols * days)
    opens = FIRST_DAY_US + OPEN_US + DAY_US * np.arange(days)
    offsets = np.sort((rng.beta(0.7, 0.7, (symbols, days, each)) * session_us).astype("int64"), axis=2)
    time = (offsets + opens[None, :, None]).ravel()
    steps = rng.choice(np.array([-1, 0, 0, 0, 1]), (symbols, days * each))
    cents = np.maximum(10_000 + 500 * np.arange(symbols)[:, None] + np.cumsum(steps, axis=1), 100).ravel()
    sizes = np.where(rng.random(len(time)) < 0.5, 100, rng.integers(1, 2000, len(time)))
    names = np.repeat(np.arange(symbols, dtype="int32"), days * each)
    if interleaved:
        order = np.argsort(time, kind="stable")
        time, cents, sizes, names = time[order], cents[order], sizes[order], names[order]
    symbol = pa.DictionaryArray.from_arrays(pa.array(names), pa.array([f"SYM{n}" for n in range(symbols)]))
    return pa.table(
        {
            "symbol": symbol.cast(pa.string()),
            "timestamp_utc": pa.array(time, pa.timestamp("us")),
            "price": decimals(cents * 10**6),
            "volume": decimals(sizes * 10**8),
        }
    )
