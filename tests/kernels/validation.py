"""The validator's rules, slow and plain, over rows of units of 1e-8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from backtestr.instants import END_NS, MIN_NS
from backtestr.models import ValidationRules
from backtestr.models.rules import DEFAULT_FLAG, DEFAULT_REJECT, UNSTORABLE

MAX = 10**18 - 1
Row = dict[str, Any]


def kind_of(row: Row) -> int:
    if row["tick_type"] is not None:
        return row["tick_type"]
    if row["price"] is not None and row["volume"]:
        return 0
    return {(True, True): 3, (True, False): 1, (False, True): 2, (False, False): 0}[
        row["bid"] is not None, row["ask"] is not None
    ]


def price_of(row: Row) -> int | None:
    bid, ask = row["bid"], row["ask"]
    mid = None if bid is None or ask is None else round(Fraction(bid + ask, 2))
    return {1: bid, 2: ask, 3: mid}.get(kind_of(row), row["price"])


def own_reasons(row: Row, now_ns: int) -> set[str]:
    found = set()
    if not row["symbol"]:
        found.add("symbol_missing")
    if kind_of(row) not in range(4):
        found.add("tick_type_unknown")
    if price_of(row) is None:
        found.add("price_missing")
    judged = [row["bid"], row["ask"]] + [row["price"]] * (kind_of(row) == 0)
    for price in judged:
        if price is not None:
            found |= {"price_zero"} if price == 0 else {"price_negative"} if price < 0 else set()
    if any(row[name] is not None and row[name] < 0 for name in ("volume", "bid_size", "ask_size")):
        found.add("volume_negative")
    if row["bid"] is not None and row["ask"] is not None:
        found |= {"quote_crossed"} if row["bid"] > row["ask"] else set()
        found |= {"quote_locked"} if row["bid"] == row["ask"] else set()
    time = row["timestamp_utc"]
    if time is None:
        found.add("timestamp_missing")
    elif not MIN_NS <= time < END_NS:
        found.add("timestamp_out_of_range")
    elif time > now_ns:
        found.add("timestamp_future")
    return found


def judge(rows: Iterable[Row], rules: ValidationRules) -> tuple[list[Row], list[tuple[int, set[str]]], Counter[str]]:
    """Accepted rows as stored, rejected ordinals with their reasons, and counts."""
    accepted, rejected, counts = [], [], Counter()
    last: dict[str, tuple[int, int | None, int]] = {}
    for number, row in enumerate(rows):
        own = rules.per_symbol.get(row["symbol"], rules)
        flag = DEFAULT_FLAG - (own.reject or set()) if own.flag is None else own.flag
        reject = (DEFAULT_REJECT - flag if own.reject is None else own.reject) | UNSTORABLE
        if own.max_jump is not None and "price_jump" not in reject:
            flag = flag | {"price_jump"}
        found = own_reasons(row, own.now_ns + own.max_future_ns)
        if not found & reject:
            time, sequence, price = row["timestamp_utc"], row["sequence"], price_of(row)
            if row["symbol"] in last:
                before, number_before, price_before = last[row["symbol"]]
                numbered = sequence is not None and number_before is not None
                if time < before or (time == before and numbered and sequence < number_before):
                    found.add("out_of_order")
                change = abs(price - price_before)
                jumped = own.max_jump is not None and change > abs(price_before) * Fraction(own.max_jump)
                if jumped and not found & reject:
                    found.add("price_jump")
            if not found & reject:
                last[row["symbol"]] = (time, sequence, price)
        found &= reject | flag
        counts.update(found)
        if found & reject:
            rejected.append((number, found))
        else:
            kind = kind_of(row)
            made = {"tick_type": kind, "price": price_of(row), "volume": 0 if kind else row["volume"] or 0}
            accepted.append(row | made)
    return accepted, rejected, counts
