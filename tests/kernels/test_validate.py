"""`validate_ticks` against a slow model, and every kind of input it takes."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr import _native
from backtestr.errors import ArgumentError, SchemaError
from backtestr.instants import END_NS, MIN_NS
from backtestr.models import ValidationRules
from backtestr.models.rules import ALL_REASONS, UNSTORABLE
from tests.kernels.validation import MAX, Row, judge

FIXED = pa.decimal128(18, 8)
NOW = 1_700_000_000 * 10**9
NUMBERS = ("price", "volume", "bid", "ask", "bid_size", "ask_size")
KINDS = {
    "symbol": pa.string(),
    "timestamp_utc": pa.timestamp("ns", "UTC"),
    "sequence": pa.int64(),
    "tick_type": pa.int8(),
    **dict.fromkeys(NUMBERS, FIXED),
}


def units(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value).scaleb(-8)


def table(rows: list[Row]) -> pa.Table:
    def column(name: str, kind: pa.DataType) -> pa.Array:
        values = [row.get(name) for row in rows]
        return pa.array([units(v) for v in values] if name in NUMBERS else values, kind)

    return pa.table({name: column(name, kind) for name, kind in KINDS.items()})


def rows_of(ticks: pa.Table) -> list[Row]:
    plain = ticks.set_column(
        ticks.column_names.index("timestamp_utc"), "timestamp_utc", ticks["timestamp_utc"].cast(pa.int64())
    )
    rows = plain.to_pylist()
    return [
        {name: int(v.scaleb(8)) if isinstance(v, Decimal) else v for name, v in row.items() if name in KINDS}
        for row in rows
    ]


def names(mask: int) -> set[str]:
    return {name for name, bit in bt.REASONS.items() if mask & bit}


PRICES = st.one_of(st.none(), st.integers(-2, 4), st.sampled_from([MAX, -MAX, 10**8, 2 * 10**8, 2**59, 2**59 - 1]))
TICKS = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "A", "B", "", None]),
        "timestamp_utc": st.one_of(
            st.none(),
            st.integers(NOW - 3, NOW + 2),
            st.integers(NOW - 3, NOW + 2),
            st.sampled_from([MIN_NS, MIN_NS - 1, END_NS - 1, END_NS, -1, 0, -(2**63) + 1]),
        ),
        "sequence": st.one_of(st.none(), st.integers(-1, 2)),
        "tick_type": st.sampled_from([None, None, 0, 1, 2, 3, 4, -1]),
        **dict.fromkeys(NUMBERS, PRICES),
    }
)
PLAIN_TRADES = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B"]),
        "timestamp_utc": st.integers(NOW - 3, NOW + 1),
        "sequence": st.integers(0, 2),
        "tick_type": st.just(0),
        "price": st.integers(-1, 4),
        "volume": st.integers(-1, 4),
        **dict.fromkeys(NUMBERS[2:], st.none()),
    }
)
PLAIN_QUOTES = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B"]),
        "timestamp_utc": st.integers(NOW - 3, NOW + 1),
        "sequence": st.integers(0, 2),
        "tick_type": st.just(3),
        "price": st.none(),
        "volume": st.none(),
        **dict.fromkeys(NUMBERS[2:], st.integers(-1, 4)),
    }
)
BATCHES = st.one_of(*(st.lists(kind, max_size=12) for kind in (TICKS, PLAIN_TRADES, PLAIN_QUOTES)))


@st.composite
def rule_sets(draw: st.DrawFn, nested: bool = False) -> ValidationRules:
    free = sorted(ALL_REASONS - UNSTORABLE)
    reject = draw(st.one_of(st.none(), st.frozensets(st.sampled_from(sorted(ALL_REASONS)))))
    flag = draw(st.one_of(st.none(), st.frozensets(st.sampled_from(free)).map(lambda f: f - (reject or frozenset()))))
    return ValidationRules(
        reject=reject,
        flag=flag,
        max_jump=draw(st.sampled_from([None, None, Decimal(0), Decimal("0.5")])),
        now_ns=draw(st.sampled_from([NOW, NOW, NOW + 5, END_NS])),
        max_future_ns=draw(st.integers(0, 1)),
        per_symbol={} if nested else draw(st.dictionaries(st.sampled_from("AB"), rule_sets(nested=True), max_size=2)),
    )


@given(BATCHES, rule_sets(), st.data())
def test_rows_are_judged_as_the_model_does_for_any_cut(rows: list[Row], rules: ValidationRules, data: Any) -> None:
    accepted, rejected, counts = judge(rows, rules)
    ticks = table(rows)
    got, refused, counted = bt.validate_ticks(ticks, rules=rules)
    assert rows_of(got) == accepted
    assert [
        (r, names(m)) for r, m in zip(*(refused[n].to_pylist() for n in ("row", "reasons")), strict=True)
    ] == rejected
    assert counted == counts
    assert got.num_rows + refused.num_rows == len(rows)

    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    validator, parts, total = _native.TickValidator(rules=rules), [], Counter()
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        part = validator.validate(ticks.slice(start, stop - start))
        parts.append(part)
        total.update(part[2])
    assert pa.concat_tables([p[0] for p in parts]).to_pylist() == got.to_pylist()
    assert [row for part in parts if part[1] is not None for row in part[1].to_pylist()] == refused.to_pylist()
    assert total == counts

    again, none, _ = bt.validate_ticks(got, rules=rules)
    assert none.num_rows == 0
    assert (again.schema, again.to_pylist()) == (got.schema, got.to_pylist())


@pytest.mark.parametrize("unit", ["us", "ns"])
@pytest.mark.parametrize("row", [0, 1, 4_095, 4_096, 4_097, 8_191, 8_192, 9_999])
def test_one_odd_instant_is_found_anywhere_in_a_long_batch(unit: str, row: int) -> None:
    start, second = 1_600_000_000, 1_000_000 if unit == "us" else 10**9
    for odd in (MIN_NS * second // 10**9, -second, 0, start * second, NOW * second // 10**9 + 1, 2**62):
        times = [(start + n // 3) * second for n in range(10_000)]
        times[row] = odd
        ticks = pa.table(
            {
                "symbol": ["A"] * 4_097 + ["B"] * 5_903,
                "timestamp_utc": pa.array(times, pa.timestamp(unit)),
                "price": pa.array([Decimal(1)] * 10_000, FIXED),
            }
        )
        rules = ValidationRules(now_ns=NOW, max_future_ns=0)
        accepted, rejected, counts = bt.validate_ticks(ticks, rules=rules)
        validator, total = _native.TickValidator(rules=rules), Counter()
        parts = [validator.validate(ticks.slice(at, 97)) for at in range(0, 10_000, 97)]
        for part in parts:
            total.update(part[2])
        late = sum(a > b for n, (a, b) in enumerate(itertools.pairwise(times), 1) if n != 4_097)
        assert (total == counts, bool(counts)) == (True, late > 0 or odd > NOW * second // 10**9)
        assert pa.concat_tables([part[0] for part in parts]).combine_chunks().equals(accepted.combine_chunks())
        refused = [part[1] for part in parts if part[1] is not None]
        assert [row for part in refused for row in part.to_pylist()] == rejected.to_pylist()


GOOD = {"symbol": ["A"], "timestamp_utc": pa.array([0], pa.timestamp("s")), "price": ["1.5"], "volume": ["2"]}


def one(**columns: Any) -> tuple[list[dict[str, Any]], list[set[str]]]:
    accepted, rejected, _ = bt.validate_ticks(pa.table(GOOD | columns))
    return accepted.to_pylist(), [names(mask) for mask in rejected["reasons"].to_pylist()]


def wide(value: str, precision: int, scale: int) -> pa.Array:
    kind = pa.decimal256 if precision > 38 else pa.decimal128
    return pa.array([Decimal(value)], kind(precision, scale))


@pytest.mark.parametrize(
    ("given_price", "price"),
    [
        (pa.array([1.1]), "1.10000000"),
        (pa.array([1.1], pa.float32()), "1.10000000"),
        (pa.array([3], pa.int64()), "3.00000000"),
        (pa.array([3], pa.uint8()), "3.00000000"),
        (pa.array(["3.844E-5"]), "0.00003844"),
        (pa.array(["2"], pa.large_string()), "2.00000000"),
        (pa.array(["2"], pa.string_view()), "2.00000000"),
        (pa.array(["2"]).dictionary_encode(), "2.00000000"),
        (pa.array([2.5]).dictionary_encode(), "2.50000000"),
        (pa.array([Decimal("1.25")], pa.decimal32(5, 2)), "1.25000000"),
        (pa.array([Decimal("1.25")], pa.decimal64(12, 2)), "1.25000000"),
        (wide("1.25", 38, 30), "1.25000000"),
        (wide("1.5", 76, 60), "1.50000000"),
        (wide("1.5", 76, 40), "1.50000000"),
        (pa.array([0.1 + 0.2]), "0.30000000"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_numbers_of_any_type(given_price: pa.Array, price: str) -> None:
    rows, _ = one(price=given_price)
    assert str(rows[0]["price"]) == price


@pytest.mark.parametrize(
    ("given_price", "reason"),
    [
        (pa.array([float("nan")]), "not_a_number"),
        (pa.array([float("-inf")]), "not_a_number"),
        (pa.array([""]), "not_a_number"),
        (pa.array(["1.123456789"]), "inexact"),
        (wide("1.123456789", 38, 9), "inexact"),
        (wide("1.123456789", 76, 60), "inexact"),
        (pa.array([1e11]), "out_of_range"),
        (wide("1e30", 76, 40), "out_of_range"),
        (wide("99999999999.000000001", 38, 9), "out_of_range"),
        (pa.array([2**63 - 1]), "out_of_range"),
        (pa.array([None], pa.string()), "price_missing"),
        (pa.nulls(1), "price_missing"),
        (pa.DictionaryArray.from_arrays([0], pa.array([None], pa.string())), "price_missing"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_numbers_that_do_not_fit(given_price: pa.Array, reason: str) -> None:
    assert one(price=given_price) == ([], [{reason}])


@pytest.mark.parametrize("name", ["volume", "bid", "ask", "bid_size", "ask_size"])
def test_an_unreadable_number_rejects_where_a_missing_one_would_not(name: str) -> None:
    assert one(**{name: pa.array([float("nan")])}) == ([], [{"not_a_number"}])
    rows, _ = one(**{name: pa.array([None], pa.float64())})
    assert len(rows) == 1


def test_a_missing_volume_is_zero_in_any_company() -> None:
    rows, _ = one(volume=pa.array([None], FIXED))
    assert rows[0]["volume"] == 0


def test_floats_are_rounded_only_beyond_eight_decimals() -> None:
    ticks = pa.table(GOOD | {"price": [0.123456785], "volume": [0.1]})
    accepted, _, counts = bt.validate_ticks(ticks)
    assert (str(accepted["price"][0]), counts) == ("0.12345678", {"rounded": 1})


@pytest.mark.parametrize(
    "times",
    [
        pa.array([86_400], pa.timestamp("s", "America/New_York")),
        pa.array([86_400_000], pa.timestamp("ms")),
        pa.array([86_400 * 10**6], pa.timestamp("us", "Asia/Tokyo")),
        pa.array([86_400 * 10**9], pa.timestamp("ns", "+05:30")),
        pa.array([86_400 * 10**9], pa.int64()),
        pa.array([1], pa.date32()),
        pa.array([86_400_000], pa.date64()),
        pa.array([86_400], pa.timestamp("s")).dictionary_encode(),
    ],
    ids=lambda times: str(times.type),
)
def test_instants_of_any_type(times: pa.Array) -> None:
    accepted, _, _ = bt.validate_ticks(pa.table(GOOD | {"timestamp_utc": times}))
    assert accepted["timestamp_utc"].cast(pa.int64()).to_pylist() == [86_400 * 10**9]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_ends_of_time_are_the_same_in_every_unit(unit: str) -> None:
    per = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    step = [MIN_NS // per - 1, MIN_NS // per, END_NS // per - 1, END_NS // per, 2**63 - 1]
    ticks = pa.table({"symbol": ["A"] * 5, "timestamp_utc": pa.array(step, pa.timestamp(unit)), "price": [1] * 5})
    accepted, rejected, _ = bt.validate_ticks(ticks, rules=ValidationRules(now_ns=END_NS))
    assert accepted["timestamp_utc"].cast(pa.int64()).to_pylist() == [MIN_NS, END_NS // per * per - per]
    assert rejected["row"].to_pylist() == [0, 3, 4]


@pytest.mark.parametrize("rules", [None, ValidationRules(), ValidationRules(per_symbol={"A": ValidationRules()})])
def test_the_future_is_judged_by_the_clock(rules: ValidationRules | None) -> None:
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    _, rejected, counts = bt.validate_ticks(pa.table(GOOD | {"timestamp_utc": [ahead]}), rules=rules)
    assert (rejected.num_rows, counts) == (1, {"timestamp_future": 1})


def test_a_rejected_row_does_not_make_the_next_one_late() -> None:
    rules = ValidationRules(now_ns=NOW, reject={"out_of_order", "timestamp_future"})
    rows = [{"symbol": "A", "timestamp_utc": t, "price": 1} for t in (5, NOW * 2, 6, 4, 5, 7)]
    _, rejected, counts = bt.validate_ticks(table(rows), rules=rules)
    assert rejected["row"].to_pylist() == [1, 3, 4]
    assert counts == {"timestamp_future": 1, "out_of_order": 2}


class OnlyArray:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self._batch.__arrow_c_array__(requested_schema)


def test_every_container_gives_the_same_rows() -> None:
    rows = [{"symbol": s, "timestamp_utc": NOW + i, "price": i + 1, "volume": 1} for i, s in enumerate("ABAB")]
    ticks = table(rows)
    batch = ticks.combine_chunks().to_batches()[0]
    expected = bt.validate_ticks(ticks)[0].to_pylist()
    padded = pa.concat_tables([ticks, ticks, ticks]).combine_chunks().slice(4, 4)
    for given_as in (
        batch,
        OnlyArray(batch),
        pa.RecordBatchReader.from_batches(batch.schema, [batch.slice(0, 1), batch.slice(1)]),
        pa.StructArray.from_arrays(batch.columns, batch.schema.names),
        pa.Table.from_batches([batch.slice(0, 2), batch.slice(2, 0), batch.slice(2)]),
        padded,
        ticks.append_column("note", [["x"] * 4]),
    ):
        assert bt.validate_ticks(given_as)[0].to_pylist() == expected


def test_no_rows_have_the_schema_of_some() -> None:
    some = bt.validate_ticks(table([{"symbol": "A", "timestamp_utc": 0, "price": 1}]))
    for empty in (table([]), pa.Table.from_batches([], table([]).schema)):
        got = bt.validate_ticks(empty)
        assert (got[0].num_rows, got[1].num_rows, got[2]) == (0, 0, {})
        assert (got[0].schema, got[1].schema) == (some[0].schema, some[1].schema)


@pytest.mark.parametrize("missing", ["symbol", "timestamp_utc", "price"])
def test_a_missing_column_is_named(missing: str) -> None:
    with pytest.raises(SchemaError, match=missing):
        bt.validate_ticks(pa.table(GOOD).drop_columns(missing))


def test_unusable_columns_are_named() -> None:
    with pytest.raises(SchemaError, match="several columns price"):
        bt.validate_ticks(pa.table(GOOD).append_column("price", [["1"]]))
    for name, column in {"symbol": [1], "timestamp_utc": ["x"], "price": [b"1"], "tick_type": ["trade"]}.items():
        with pytest.raises(SchemaError, match=f"column {name}"):
            bt.validate_ticks(pa.table(GOOD | {name: column}))


@pytest.mark.parametrize("thing", [None, 1, [1], {"price": [1]}, object()])
def test_what_is_no_arrow_data_is_a_type_error(thing: object) -> None:
    with pytest.raises(TypeError, match="Arrow"):
        bt.validate_ticks(thing)


@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_symbols_of_any_text_type(text: pa.DataType) -> None:
    symbols = pa.array(["é", None, "", "a symbol longer than twelve"], pa.string()).cast(text)
    ticks = pa.table({"symbol": symbols, "timestamp_utc": pa.array([0] * 4, pa.timestamp("ns")), "price": [1] * 4})
    accepted, rejected, _ = bt.validate_ticks(ticks)
    assert accepted["symbol"].to_pylist() == ["é", "a symbol longer than twelve"]
    assert rejected["row"].to_pylist() == [1, 2]


def test_a_dictionary_may_hold_nulls_and_repeats() -> None:
    symbols = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None]), pa.array(["A", None, "A"]))
    ticks = pa.table({"symbol": symbols, "timestamp_utc": pa.array([0] * 4, pa.timestamp("ns")), "price": [1] * 4})
    accepted, rejected, _ = bt.validate_ticks(ticks)
    assert accepted["symbol"].to_pylist() == ["A", "A"]
    assert rejected["row"].to_pylist() == [1, 3]


def test_reasons_that_cannot_be_waived_say_so() -> None:
    for reason in UNSTORABLE:
        with pytest.raises(ArgumentError, match=reason):
            ValidationRules(flag={reason})
        with pytest.raises(ArgumentError, match=reason):
            ValidationRules().allowing(reason)


@given(rule_sets(), st.sets(st.sampled_from(sorted(ALL_REASONS - UNSTORABLE)), min_size=1))
def test_allowing_leaves_the_other_reasons_alone(rules: ValidationRules, reasons: set[str]) -> None:
    eased = rules.allowing(*reasons)
    assert not (eased.reject | eased.flag) & reasons
    assert hash(rules) == hash(ValidationRules(*rules.__reduce__()[1]))
