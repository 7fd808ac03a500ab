"""Bars the slow, obvious way: exact fractions over lists of rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

UNIT_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


@dataclass(frozen=True)
class Spec:
    tick_types: tuple[int, ...] = (0,)
    price_excludes: tuple[str, ...] = ()
    high_low_excludes: tuple[str, ...] = ()
    volume_excludes: tuple[str, ...] = ()


def length_ns(label: str) -> int:
    digits = "".join(c for c in label if c.isdigit())
    return int(digits) * UNIT_NS[label[len(digits) :]]


def tick_type(row: dict[str, Any]) -> int:
    if row.get("tick_type") is not None:
        return row["tick_type"]
    if row.get("price") is not None and row.get("volume"):
        return 0
    return {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}[
        row.get("bid") is not None, row.get("ask") is not None
    ]


def basis_price(row: dict[str, Any], basis: str, spec: Spec) -> Fraction | None:
    kind = tick_type(row)
    if basis == "trade":
        return Fraction(row["price"]) if kind in spec.tick_types else None
    if basis == "bid":
        return Fraction(row["bid"]) if kind in (1, 3) else None
    if basis == "ask":
        return Fraction(row["ask"]) if kind in (2, 3) else None
    # Fraction.__round__ ties to even.
    return Fraction(round((row["bid"] + row["ask"]) * Fraction(10**8) / 2), 10**8) if kind == 3 else None


def bars(
    rows: list[dict[str, Any]], timeframes: list[str], *, price: str = "trade", spec: Spec | None = None
) -> list[tuple[Any, ...]]:
    """Rows have Fraction values and ``ts`` in ns; order is (ts, sequence, values) or (ts, input order)."""
    spec = spec or Spec()
    out = []
    low = Fraction(-(10**30))

    def order(numbered: tuple[int, dict[str, Any]]) -> tuple[Any, ...]:
        at, row = numbered
        if "sequence" not in row:
            return (row["ts"], at)
        ties = (
            row.get(name) if row.get(name) is not None else low
            for name in ("tick_type", "price", "volume", "bid", "ask")
        )
        return (row["ts"], row["sequence"], *ties)

    ordered = [row for _, row in sorted(enumerate(rows), key=order)]
    for label in sorted(set(timeframes), key=length_ns):
        buckets: dict[tuple[bytes, int], list[dict[str, Any]]] = defaultdict(list)
        for row in ordered:
            buckets[row["symbol"].encode(), row["ts"] // length_ns(label) * length_ns(label)].append(row)
        for (symbol, start), members in sorted(buckets.items()):
            bar = one_bar(members, price, spec)
            if bar is not None:
                out.append((symbol.decode(), label, price, start, *bar))
    return out


def one_bar(members: list[dict[str, Any]], basis: str, spec: Spec) -> tuple[Any, ...] | None:
    prices, ranged, counted = [], [], []
    for row in members:
        value = basis_price(row, basis, spec)
        if value is None:
            continue
        codes = {code.strip() for code in (row.get("conditions") or "").split(",")} if basis == "trade" else set()
        if not codes & set(spec.price_excludes):
            prices.append(value)
        if not codes & set(spec.high_low_excludes):
            ranged.append(value)
        if not codes & set(spec.volume_excludes):
            counted.append((value, Fraction(row["volume"]) if basis == "trade" else Fraction(0)))
    if not (prices or ranged or counted):
        return None
    volume = sum((v for _, v in counted), Fraction(0))
    turnover = sum((p * v for p, v in counted), Fraction(0))
    vwap = Fraction(round(turnover / volume * 10**8), 10**8) if volume else None
    return (
        prices[0] if prices else None,
        max(ranged) if ranged else None,
        min(ranged) if ranged else None,
        prices[-1] if prices else None,
        volume,
        turnover,
        vwap,
        len(counted),
    )
