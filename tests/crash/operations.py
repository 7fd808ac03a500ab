"""What the rigs do to a store, and what each operation makes of the state that the oracle holds.

A new operation is one class here and one line in `OPERATIONS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import pyarrow as pa

import backtestr as bt

SECOND = 1_000_000_000
FIRST = 1_706_572_800 * SECOND
"""2024-01-30; the rows of three days lie in files of two months."""
SPAN = 3 * 86_400 * SECOND
SYMBOLS = ("AAA", "BB", "C")
SCHEMAS = (1, 2)

Arguments = dict[str, Any]
"""What an operation is called with: plain JSON, so that a plan can be handed to another process and read by people."""
Plan = list[tuple[str, Arguments]]


class Row(NamedTuple):
    """A trade, in plain integers; price and volume are of 1e-8."""

    symbol: str
    ts_ns: int
    price: int
    volume: int
    condition: str | None


@dataclass(frozen=True)
class State:
    """What a store holds: rows and how often, quantities of orders by number (both of 1e-8), the conditions whose ticks
    add no volume, schema, and named states."""

    rows: Counter[Row] = field(default_factory=Counter)
    orders: Mapping[int, int] = field(default_factory=dict)
    excludes: tuple[str, ...] = ()
    schema: int = SCHEMAS[-1]
    tags: Mapping[str, State] = field(default_factory=dict)

    def times(self, symbol: str) -> list[int]:
        return sorted({row.ts_ns for row in self.rows if row.symbol == symbol})


class Operation(Protocol):
    """One verb of the store."""

    can_be_retried: bool
    """Whether asking again, not knowing whether the first time succeeded, is safe."""

    def draw(self, random: Random, state: State) -> Arguments | None:
        """Arguments for a call that makes sense in a state; None where there is none."""

    def run(self, store: bt.Store, given: Arguments) -> None:
        """Do it to a store."""

    def apply(self, state: State, given: Arguments) -> State:
        """What the store must hold afterwards."""


class Ingest:
    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        symbol = random.choice(SYMBOLS)
        taken = set(state.times(symbol))
        width = random.choice([10, 600, 20_000]) * SECOND
        begin = FIRST + random.randrange(SPAN - width)
        rows = []
        for _ in range(random.randint(1, 25)):
            ts_ns = begin + random.randrange(width)
            if ts_ns in taken:
                continue
            taken.add(ts_ns)
            row = Row(symbol, ts_ns, *_numbers(random), random.choice([None, None, "W"]))
            rows += [row] * random.choice([1, 1, 1, 2])
        known = [row for row in state.rows if row.symbol == symbol]
        again = random.sample(known, min(len(known), random.choice([0, 5])))
        mode = random.choice(["merge", "merge", "merge", "replace"])
        return {"rows": rows if mode == "replace" else rows + again, "mode": mode}

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.ingest(frame(Row(*row) for row in given["rows"]), feed="crash", mode=given["mode"])

    def apply(self, state: State, given: Arguments) -> State:
        came = Counter(Row(*row) for row in given["rows"])
        if given["mode"] == "replace":
            first, last = min(row.ts_ns for row in came), max(row.ts_ns for row in came)
            (symbol,) = {row.symbol for row in came}
            return replace(state, rows=_without(state, symbol, first, last + 1) + came)
        return replace(state, rows=state.rows | came)


class Append:
    """A live batch, whose id lets it be sent again."""

    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        rows = [row for row in Ingest().draw(random, state)["rows"] if row not in state.rows]  # type: ignore[index]
        return {"rows": rows, "batch_id": f"{random.getrandbits(64):016x}"} if rows else None

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.append(frame(Row(*row) for row in given["rows"]), feed="crash", batch_id=given["batch_id"])

    def apply(self, state: State, given: Arguments) -> State:
        # none of the rows were there, unless the batch was
        return replace(state, rows=state.rows | Counter(Row(*row) for row in given["rows"]))


class AppendOrders:
    """Rows of a relational table, some in the place of others."""

    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        numbers = [random.randrange(12) for _ in range(random.randint(1, 6))]
        return {"orders": [(number, random.randrange(1, 10**12)) for number in numbers]}

    def run(self, store: bt.Store, given: Arguments) -> None:
        rows = [{"order_id": UUID(int=number), "quantity": decimal(units)} for number, units in given["orders"]]
        store.append(rows, table="orders")

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, orders={**state.orders, **dict(given["orders"])})


class Delete:
    # a symbol whose last rows went is not known the second time
    can_be_retried = False

    def draw(self, random: Random, state: State) -> Arguments | None:
        symbol = random.choice(SYMBOLS)
        times = state.times(symbol)
        if not times:
            return None
        start = random.choice(times)
        width = random.choice([1, 600 * SECOND, 40_000 * SECOND, SPAN])
        return {"symbol": symbol, "start": start, "end": start + width}

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.delete(given["symbol"], start=given["start"], end=given["end"])

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, rows=_without(state, given["symbol"], given["start"], given["end"]))


class Correct:
    """Give all rows of an instant another price."""

    can_be_retried = False

    def draw(self, random: Random, state: State) -> Arguments | None:
        at = Cancel().draw(random, state)
        return at and {**at, "price": _numbers(random)[0]}

    def run(self, store: bt.Store, given: Arguments) -> None:
        old = _stored(store, given)
        price = pa.array([decimal(given["price"])] * old.num_rows, pa.decimal128(18, 8))
        new = old.set_column(old.schema.get_field_index("price"), "price", price)
        store.correct(new, replacing=old)

    def apply(self, state: State, given: Arguments) -> State:
        rows: Counter[Row] = Counter()
        for row, count in state.rows.items():
            is_meant = (row.symbol, row.ts_ns) == (given["symbol"], given["ts_ns"])
            rows[row._replace(price=given["price"]) if is_meant else row] += count
        return replace(state, rows=rows)


class Cancel:
    """Take all rows of an instant back."""

    can_be_retried = False

    def draw(self, random: Random, state: State) -> Arguments | None:
        symbol = random.choice(SYMBOLS)
        times = state.times(symbol)
        return {"symbol": symbol, "ts_ns": random.choice(times)} if times else None

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.cancel(_stored(store, given))

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, rows=_without(state, given["symbol"], given["ts_ns"], given["ts_ns"] + 1))


class SetBarSpec:
    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        return {"excludes": [] if state.excludes else ["W"]}

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.set_bar_spec(bt.BarSpec(volume_excludes=tuple(given["excludes"])))

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, excludes=tuple(given["excludes"]))


class Tag:
    can_be_retried = False

    def draw(self, random: Random, state: State) -> Arguments | None:
        return {"name": f"t{random.getrandbits(32):08x}"} if len(state.tags) < 8 else None

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.tag(given["name"])

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, tags={**state.tags, given["name"]: state})


class Revert:
    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        return {"name": random.choice(sorted(state.tags))} if state.tags else None

    def run(self, store: bt.Store, given: Arguments) -> None:
        store.revert(given["name"])

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state.tags[given["name"]], tags=state.tags)


class Migrate:
    can_be_retried = False

    def draw(self, random: Random, state: State) -> Arguments | None:
        return {"to": SCHEMAS[0] if state.schema == SCHEMAS[-1] else SCHEMAS[-1]}

    def run(self, store: bt.Store, given: Arguments) -> None:
        migrations = store.migrations
        (migrations.up if given["to"] == SCHEMAS[-1] else migrations.down)(given["to"])

    def apply(self, state: State, given: Arguments) -> State:
        return replace(state, schema=given["to"])


class _Upkeep:
    """A verb that leaves what the store holds as it is."""

    can_be_retried = True

    def draw(self, random: Random, state: State) -> Arguments | None:
        return {}

    def apply(self, state: State, given: Arguments) -> State:
        return state


class Checkpoint(_Upkeep):
    def run(self, store: bt.Store, given: Arguments) -> None:
        store.checkpoint()


class Repair(_Upkeep):
    def run(self, store: bt.Store, given: Arguments) -> None:
        report = store.repair(grace_s=0)
        assert not report.problems, str(report)


OPERATIONS: dict[str, Operation] = {
    "ingest": Ingest(),
    "append": Append(),
    "append_orders": AppendOrders(),
    "delete": Delete(),
    "correct": Correct(),
    "cancel": Cancel(),
    "set_bar_spec": SetBarSpec(),
    "tag": Tag(),
    "revert": Revert(),
    "migrate": Migrate(),
    "checkpoint": Checkpoint(),
    "repair": Repair(),
}
WEIGHTS = {"ingest": 10, "append": 10, "append_orders": 4, "delete": 3, "checkpoint": 4}
"""How often an operation is drawn, where it is not 1."""


def draw_plan(random: Random, state: State, length: int) -> Plan:
    """Operations that make sense one after the other, from a state on."""
    names = list(OPERATIONS)
    weights = [WEIGHTS.get(name, 1) for name in names]
    plan: Plan = []
    while len(plan) < length:
        (name,) = random.choices(names, weights)
        given = OPERATIONS[name].draw(random, state)
        if given is not None:
            plan.append((name, given))
            state = OPERATIONS[name].apply(state, given)
    return plan


def states_of(state: State, plan: Plan) -> list[State]:
    """The state before a plan, and after each of its operations."""
    states = [state]
    for name, given in plan:
        states.append(OPERATIONS[name].apply(states[-1], given))
    return states


def frame(rows: Iterable[Row]) -> pa.Table:
    """Rows as data to ingest."""
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {
            "symbol": pa.array(columns[0], pa.string()),
            "timestamp_utc": pa.array(columns[1], pa.timestamp("ns")),
            "price": pa.array(map(decimal, columns[2]), pa.decimal128(18, 8)),
            "volume": pa.array(map(decimal, columns[3]), pa.decimal128(18, 8)),
            "conditions": pa.array(columns[4], pa.string()),
        }
    )


def decimal(units: int) -> Decimal:
    """A number of 1e-8 as a decimal."""
    return Decimal(units).scaleb(-8)


def _numbers(random: Random) -> tuple[int, int]:
    """A price and a volume, some of them with all 8 decimals."""
    price = random.choice([random.randrange(1, 10**5) * 10**6, random.randrange(1, 10**12)])
    return price, random.choice([0, random.randrange(1, 100) * 10**8, random.randrange(1, 10**10)])


def _without(state: State, symbol: str, start: int, end: int) -> Counter[Row]:
    return Counter(
        {row: n for row, n in state.rows.items() if row.symbol != symbol or not start <= row.ts_ns < end},
    )


def _stored(store: bt.Store, given: Arguments) -> pa.Table:
    return store.ticks(given["symbol"], start=given["ts_ns"], end=given["ts_ns"] + 1).to_arrow()
