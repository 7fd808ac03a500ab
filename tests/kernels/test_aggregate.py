from __future__ import annotations

import itertools
import random
import threading
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import ArgumentError, BarOverflowError, InvalidTickError, SchemaError, StateError, TimeframeError
from tests.kernels import model
from tests.kernels.ticks import DAY, FIXED, instants, rows_of, table, trades

STANDARD = ["1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
LABELS = [*STANDARD, "20s", "2d", "7d", "1ms", "90m", "86400s"]
FRAMES = st.lists(st.sampled_from(LABELS), min_size=1, max_size=6)


def tick(ts: int, price: int | str, volume: int | str = 1, **other: object) -> dict[str, object]:
    return {"symbol": "A", "ts": ts, "price": Fraction(price), "volume": Fraction(volume), **other}


def ordered(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: row["ts"])


def stream(parts: list[pa.Table], frames: list[str], **options: object) -> list[tuple[object, ...]]:
    aggregator = bt.BarAggregator(frames, **options)
    found = [row for part in parts for row in rows_of(aggregator.update(part))] + rows_of(aggregator.finish())
    assert aggregator.late_rows == 0
    return by_order(found)


def by_order(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(rows, key=lambda row: (model.length_ns(row[1]), row[0].encode(), row[3]))


def labels(frames: list[str]) -> list[str]:
    return ["1d" if label == "86400s" else label for label in frames]


class TestConventions:
    def test_schema(self) -> None:
        bars = bt.aggregate_bars(table([tick(0, 1)]), ["1m"])
        text = pa.dictionary(pa.int32(), pa.string())
        assert bars.schema.types == [
            text, text, text, pa.timestamp("ns", "UTC"), FIXED, FIXED, FIXED, FIXED,
            pa.decimal128(38, 8), pa.decimal128(38, 16), FIXED, pa.int64(),
        ]  # fmt: skip

    def test_label_is_bucket_start_and_empty_buckets_have_no_row(self) -> None:
        rows = [tick(0, 10), tick(59_999_999_999, 12), tick(60 * 10**9, 9), tick(300 * 10**9, 8)]
        starts = [row[3] for row in rows_of(bt.aggregate_bars(table(rows), ["1m"]))]
        assert starts == [0, 60 * 10**9, 300 * 10**9]

    def test_before_1970_floors_down(self) -> None:
        (bar,) = rows_of(bt.aggregate_bars(table([tick(-1, 1)]), ["1m"]))
        assert bar[3] == -60 * 10**9

    def test_days_are_anchored_at_1970(self) -> None:
        rows = [tick(-1, 1), tick(DAY, 2), tick(2 * DAY, 3)]
        assert [r[3] for r in rows_of(bt.aggregate_bars(table(rows), ["2d"]))] == [-2 * DAY, 0, 2 * DAY]

    def test_vwap_is_half_even_and_null_without_volume(self) -> None:
        unit = Fraction(1, 10**8)
        rows = [tick(0, unit), tick(1, 2 * unit), tick(DAY, 2 * unit), tick(DAY, 3 * unit), tick(2 * DAY, 5, 0)]
        vwaps = bt.aggregate_bars(table(rows), ["1d"])["vwap"].to_pylist()
        assert vwaps == [Decimal("0.00000002"), Decimal("0.00000002"), None]

    def test_order_is_timeframe_symbol_time(self) -> None:
        rows = [tick(DAY, 1, symbol="é"), tick(0, 1, symbol="b"), tick(0, 1, symbol="B"), tick(DAY, 1, symbol="b")]
        found = [row[:2] for row in rows_of(bt.aggregate_bars(table(ordered(rows)), ["1d", "1h"]))]
        names = ["B", "b", "b", "é"]
        assert found == [(n, "1h") for n in names] + [(n, "1d") for n in names]

    def test_empty_input(self) -> None:
        assert bt.aggregate_bars(table([]), STANDARD).num_rows == 0
        assert bt.BarAggregator(["1m"]).finish().num_rows == 0

    def test_size_zero_counts(self) -> None:
        (bar,) = rows_of(bt.aggregate_bars(table([tick(0, 7, 0)]), ["1m"]))
        assert bar[4:] == (7, 7, 7, 7, 0, 0, None, 1)

    def test_all_ticks_at_one_nanosecond_keep_input_order(self) -> None:
        (bar,) = rows_of(bt.aggregate_bars(table([tick(5, 3), tick(5, 1), tick(5, 2)]), ["1ns"]))
        assert bar[4:8] == (3, 3, 1, 2)


class TestRefusals:
    @pytest.mark.parametrize("frames", [["7m"], ["x"], ["25h"]])
    def test_timeframe(self, frames: list[str]) -> None:
        with pytest.raises(TimeframeError):
            bt.aggregate_bars(table([tick(0, 1)]), frames)

    def test_arguments(self) -> None:
        with pytest.raises(ArgumentError, match="timeframes is empty"):
            bt.aggregate_bars(table([tick(0, 1)]), [])
        with pytest.raises(ArgumentError, match="last"):
            bt.aggregate_bars(table([tick(0, 1)]), ["1m"], price="last")

    def test_missing_column(self) -> None:
        with pytest.raises(SchemaError, match="volume"):
            bt.aggregate_bars(table([tick(0, 1)]).drop_columns("volume"), ["1m"])
        with pytest.raises(SchemaError, match="bid"):
            bt.aggregate_bars(table([tick(0, 1)]), ["1m"], price="bid")

    @pytest.mark.parametrize("name", ["symbol", "timestamp_utc", "price", "volume"])
    def test_missing_value_names_the_row(self, name: str) -> None:
        ticks = table([tick(i, 1) for i in range(5)])
        column = ticks[name].combine_chunks()
        kept = pa.array([i != 3 for i in range(5)])
        at = ticks.column_names.index(name)
        holed = ticks.set_column(at, name, pa.compute.if_else(kept, column, pa.scalar(None, column.type)))
        with pytest.raises(InvalidTickError, match="row 3"):
            bt.aggregate_bars(pa.concat_tables([holed]), ["1m"])

    @pytest.mark.parametrize("seconds", [-9_214_560_001, 9_214_646_400, 2**62, -(2**62)])
    def test_instants_outside_the_valid_ones(self, seconds: int) -> None:
        ticks = table([tick(0, 1)] * 3, "s")
        column = pa.array([0, seconds, 0], pa.timestamp("s"))
        with pytest.raises(InvalidTickError, match="row 1"):
            bt.aggregate_bars(ticks.set_column(1, "timestamp_utc", column), ["1m"])

    @pytest.mark.parametrize("name", ["price", "volume"])
    @pytest.mark.parametrize("raw", [10**18, -(10**18), 2**64, -(2**64), 2**127 - 1, 2**63])
    def test_more_than_18_digits(self, name: str, raw: int) -> None:
        ticks = table([tick(i, 1) for i in range(3)])
        words = b"".join(v.to_bytes(16, "little", signed=True) for v in (1, raw, 1))
        column = pa.Array.from_buffers(FIXED, 3, [None, pa.py_buffer(words)])
        ticks = ticks.set_column(ticks.column_names.index(name), name, column)
        for data in (ticks, ticks.take([2, 1, 0])):
            with pytest.raises(InvalidTickError, match="row 1"):
                bt.aggregate_bars(data, ["1m"])

    def test_overflow_names_the_bar(self) -> None:
        most = Fraction(10**18 - 1, 10**8)
        rows = [tick(60 * 10**9 + i, most, most) for i in range(101)]
        assert bt.aggregate_bars(table(rows[:100]), ["1m"]).num_rows == 1
        with pytest.raises(BarOverflowError, match=r"turnover of the 1m bar of \"A\" at 60000000000 ns"):
            bt.aggregate_bars(table(rows), ["1m"])
        apart = [tick(60 * 10**9 + i * 10**8, most, most) for i in range(101)]
        with pytest.raises(BarOverflowError, match="turnover of the 1h bar"):
            bt.aggregate_bars(table(apart), ["1s", "1h"])
        aggregator = bt.BarAggregator(["1m"])
        aggregator.update(table(rows[:100]))
        with pytest.raises(BarOverflowError, match="1m bar"):
            aggregator.update(table(rows[100:]))
        assert aggregator.finish()["trade_count"].to_pylist() == [100]


class TestModel:
    @given(trades(), FRAMES)
    def test_any_order(self, rows: list[dict[str, object]], frames: list[str]) -> None:
        assert rows_of(bt.aggregate_bars(table(rows), frames)) == model.bars(rows, labels(frames))

    @given(trades(), FRAMES)
    def test_grouped_by_symbol(self, rows: list[dict[str, object]], frames: list[str]) -> None:
        rows = [row for row in sorted(rows, key=lambda r: (r["symbol"], r["ts"])) for _ in range(40)]
        assert rows_of(bt.aggregate_bars(table(rows), frames)) == model.bars(rows, labels(frames))

    @given(trades(unit_ns=10**6), FRAMES, st.sampled_from(["ns", "us", "ms"]))
    def test_units(self, rows: list[dict[str, object]], frames: list[str], unit: str) -> None:
        assert rows_of(bt.aggregate_bars(table(rows, unit), frames)) == model.bars(rows, labels(frames))

    @given(trades(sequence=True), FRAMES, st.randoms())
    def test_sequences_make_any_permutation_alike(self, rows, frames, random) -> None:
        want = model.bars(rows, labels(frames))
        random.shuffle(rows)
        assert rows_of(bt.aggregate_bars(table(rows), frames)) == want

    @given(st.data(), FRAMES, st.sampled_from(["trade", "bid", "ask", "mid"]), st.booleans())
    def test_quotes_and_conditions(self, data: st.DataObject, frames: list[str], price: str, typed: bool) -> None:
        fixed = st.integers(-500, 500).map(lambda v: Fraction(v, 10**8))
        spec = model.Spec(
            tick_types=data.draw(st.sampled_from([(0,), (0, 3), (1,)])),
            price_excludes=data.draw(st.sampled_from([(), ("T",), ("T", "Z")])),
            high_low_excludes=data.draw(st.sampled_from([(), ("T",), ("I",)])),
            volume_excludes=data.draw(st.sampled_from([(), ("Z",)])),
        )
        rows = []
        for _ in range(data.draw(st.integers(0, 25))):
            bid, ask = data.draw(st.none() | fixed), data.draw(st.none() | fixed)
            kind = (3 if ask is not None else 1) if bid is not None else (2 if ask is not None else 0)
            rows.append(
                tick(data.draw(instants()), data.draw(fixed), data.draw(fixed.map(abs)), bid=bid, ask=ask)
                | {"symbol": data.draw(st.sampled_from("AB"))}
                | {"conditions": data.draw(st.sampled_from([None, "", "T", "I,Z", "T, Z", "TZ"]))}
                | ({"tick_type": data.draw(st.sampled_from([0, kind]))} if typed else {})
            )
        if not rows:
            rows = [tick(0, 1, bid=Fraction(1), ask=Fraction(1))]
        want = model.bars(rows, labels(frames), price=price, spec=spec)
        assert rows_of(bt.aggregate_bars(table(rows), frames, price=price, bar_spec=spec)) == want
        rows = ordered(rows)
        want = model.bars(rows, labels(frames), price=price, spec=spec)
        parts = [table(rows)[at : at + 3] for at in range(0, len(rows), 3)]
        assert stream(parts, frames, price=price, bar_spec=spec) == want


class TestUntypedRows:
    QUOTED = {"bid": Fraction(9), "ask": Fraction(12)}

    def test_a_traded_price_makes_a_trade_whatever_quotes_come_with_it(self) -> None:
        data = table([tick(0, 10, 2, **self.QUOTED), tick(1, 11, 0, **self.QUOTED)])
        (trade,) = rows_of(bt.aggregate_bars(data, ["1m"]))
        assert trade[4:] == (10, 10, 10, 10, 2, 20, 10, 1)
        (mid,) = rows_of(bt.aggregate_bars(data, ["1m"], price="mid"))
        assert mid[4:8] == (Fraction(21, 2),) * 4
        assert mid[11] == 1

    def test_validation_types_them_alike(self) -> None:
        rows = [
            tick(0, price, volume, bid=bid, ask=ask)
            for price, volume, bid, ask in itertools.product((10,), (0, 2), (None, 9), (None, 12))
        ]
        accepted, _, _ = bt.validate_ticks(table(rows))
        kinds = [model.tick_type(row) for row in rows]
        assert accepted["tick_type"].to_pylist() == kinds


class TestInputs:
    ROWS = [tick(i * 7 * 10**8, i % 9 + 1, i % 4, symbol="AB"[i // 30 % 2]) for i in range(200)]
    KINDS = [
        pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.uint32(), pa.large_string()),
    ]  # fmt: skip

    @pytest.mark.parametrize("kind", KINDS, ids=str)
    def test_symbol_types_slices_and_chunks(self, kind: pa.DataType) -> None:
        ticks = table(self.ROWS)
        ticks = ticks.set_column(0, "symbol", ticks["symbol"].cast(pa.string()))
        if pa.types.is_dictionary(kind):
            ticks = ticks.set_column(
                0, "symbol", ticks["symbol"].cast(kind.value_type).combine_chunks().dictionary_encode().cast(kind)
            )
        else:
            ticks = ticks.set_column(0, "symbol", ticks["symbol"].cast(kind))
        want = model.bars(self.ROWS[3:180], STANDARD)
        cut = ticks[3:180]
        assert rows_of(bt.aggregate_bars(cut, STANDARD)) == want
        chunked = pa.concat_tables([cut[at : at + 11] for at in range(0, 177, 11)])
        assert rows_of(bt.aggregate_bars(chunked, STANDARD)) == want
        assert rows_of(bt.aggregate_bars(chunked.combine_chunks().to_batches()[0], STANDARD)) == want

    def test_polars_frame_and_reader(self) -> None:
        want = model.bars(self.ROWS, ["1m"])
        ticks = table(self.ROWS)
        assert rows_of(bt.aggregate_bars(ticks.to_reader(7), ["1m"])) == want
        frame = pl.from_arrow(ticks).with_columns(pl.col("price", "volume").cast(pl.Decimal(18, 8)))
        with pytest.raises(SchemaError):
            bt.aggregate_bars(frame.with_columns(pl.col("price").cast(pl.Boolean)), ["1m"])

    def test_not_arrow(self) -> None:
        with pytest.raises(TypeError, match="Arrow"):
            bt.aggregate_bars([1, 2], ["1m"])


class TestAggregator:
    @given(trades(), FRAMES, st.lists(st.integers(0, 40), max_size=6))
    def test_any_cut_gives_the_same_bars(self, rows, frames, cuts) -> None:
        rows = ordered(rows)
        edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
        whole = table(rows)
        parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
        want = model.bars(rows, labels(frames))
        assert stream(parts, frames) == want
        assert rows_of(bt.aggregate_bars(whole, frames)) == want

    @given(trades(sequence=True), FRAMES, st.randoms(), st.integers(0, 40))
    def test_disorder_inside_the_running_bucket_is_merged(self, rows, frames, random, cut) -> None:
        for row in rows:
            row["ts"] %= 10**6
        random.shuffle(rows)
        frames = [f for f in frames if f != "1ms"] or ["1s"]
        whole = table(rows)
        assert stream([whole[:cut], whole[cut:]], frames) == model.bars(rows, labels(frames))

    @given(trades(), FRAMES, st.integers(0, 40))
    def test_state_round_trip_at_any_cut(self, rows, frames, cut) -> None:
        rows = ordered(rows)
        whole = table(rows)
        before = bt.BarAggregator(frames)
        found = rows_of(before.update(whole[:cut]))
        state = before.to_bytes()
        after = bt.BarAggregator.from_bytes(state)
        assert after.to_bytes() == state
        assert rows_of(after.peek()) == rows_of(before.peek())
        found += rows_of(after.update(whole[cut:])) + rows_of(after.finish())
        assert by_order(found) == model.bars(rows, labels(frames))

    @given(trades(), FRAMES)
    def test_peek_is_the_bars_so_far(self, rows, frames) -> None:
        rows = ordered(rows)
        aggregator = bt.BarAggregator(frames)
        done = rows_of(aggregator.update(table(rows)))
        assert by_order(done + rows_of(aggregator.peek())) == model.bars(rows, labels(frames))

    def test_a_bar_completes_with_the_first_tick_after_it(self) -> None:
        aggregator = bt.BarAggregator(["1s", "1m"])
        assert aggregator.update(table([tick(0, 1), tick(10**9 - 1, 2)])).num_rows == 0
        assert [r[1] for r in rows_of(aggregator.update(table([tick(10**9, 3)])))] == ["1s"]
        assert [r[1] for r in rows_of(aggregator.update(table([tick(60 * 10**9, 3)])))] == ["1s", "1m"]
        assert aggregator.update(table([tick(0, 3, symbol="other")])).num_rows == 0

    @pytest.mark.parametrize("rows", [127, 128, 129, 300, 1000])
    def test_a_row_between_many_of_an_earlier_batch_is_no_close(self, rows) -> None:
        first = [tick(10 * n, n + 1) for n in range(rows)] + [tick(10**9 + 10 * n, n + 7) for n in range(rows)]
        second = [tick(10**9 + 5, 3000), tick(10**9 + 10 * rows - 15, 4000)]
        assert stream([table(first), table(second)], ["1s"])[1:] == model.bars(ordered(first[rows:] + second), ["1s"])

    def test_late_rows_are_handed_back(self) -> None:
        aggregator = bt.BarAggregator(["1s"])
        aggregator.update(table([tick(0, 1), tick(5 * 10**9, 2)]))
        late = table([tick(4 * 10**9, 8), tick(5 * 10**9, 3), tick(1, 9)])
        assert aggregator.update(late).num_rows == 0
        assert aggregator.late_rows == 2
        with pytest.raises(StateError, match="late rows"):
            aggregator.to_bytes()
        assert aggregator.take_late() == late.take([0, 2])
        assert aggregator.take_late().num_rows == 0
        (bar,) = rows_of(aggregator.finish())
        assert bar[4:] == (2, 3, 2, 3, 2, 5, Fraction(5, 2), 2)
        assert aggregator.update(table([tick(5 * 10**9 + 1, 3)])).num_rows == 0
        assert aggregator.late_rows == 3
        assert bt.BarAggregator(["1s"]).take_late().num_rows == 0

    def test_no_bar_of_any_timeframe_comes_twice_after_finish(self) -> None:
        aggregator = bt.BarAggregator(["1s", "20s", "1m"])
        aggregator.update(table([tick(0, 1)]))
        assert [row[1] for row in rows_of(aggregator.finish())] == ["1s", "20s", "1m"]
        assert aggregator.update(table([tick(2 * 10**9, 2), tick(60 * 10**9, 3)])).num_rows == 0
        assert aggregator.late_rows == 1
        assert [row[3] for row in rows_of(aggregator.finish())] == [60 * 10**9] * 3

    def test_damaged_states(self) -> None:
        aggregator = bt.BarAggregator(["1s", "20s", "1m"], bar_spec=model.Spec(price_excludes=("T", "é")))
        aggregator.update(table([tick(0, 1, sequence=4), tick(5 * 10**9, 2, sequence=5)]))
        state = aggregator.to_bytes()
        for cut in range(len(state)):
            with pytest.raises(StateError):
                bt.BarAggregator.from_bytes(state[:cut])
        for bit in range(len(state) * 8):
            damaged = bytearray(state)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(StateError):
                bt.BarAggregator.from_bytes(bytes(damaged))
        with pytest.raises(StateError):
            bt.BarAggregator.from_bytes(state + b"\0")

    def test_columns_must_not_change(self) -> None:
        aggregator = bt.BarAggregator(["1s"])
        aggregator.update(table([tick(0, 1)]))
        with pytest.raises(SchemaError):
            aggregator.update(table([tick(0, 1, sequence=1)]))

    def test_a_refused_batch_leaves_no_trace(self) -> None:
        aggregator = bt.BarAggregator(["1s"])
        aggregator.update(table([tick(0, 1)]))
        before = aggregator.to_bytes()
        ticks = table([tick(1, 1), tick(1, 1)])
        ticks = ticks.set_column(2, "price", pa.array([Decimal(1), None], FIXED))
        with pytest.raises(InvalidTickError, match="row 1"):
            aggregator.update(ticks)
        assert aggregator.to_bytes() == before

    def test_a_refused_batch_leaves_no_symbol(self) -> None:
        aggregator, fresh = bt.BarAggregator(["1s"]), bt.BarAggregator(["1s"])
        huge = 10**10 - 1
        aggregator.update(table([tick(0, 1)]))
        fresh.update(table([tick(0, 1)]))
        before = aggregator.to_bytes()
        refused = [tick(1, 1, symbol="NEW"), *[tick(1, huge, huge, symbol="OTHER")] * 101]
        with pytest.raises(BarOverflowError):
            aggregator.update(table(refused))
        assert aggregator.to_bytes() == before
        rows = [tick(2, 5, symbol="OTHER"), tick(2, 6, symbol="NEW")]
        assert rows_of(aggregator.update(table(rows))) == rows_of(fresh.update(table(rows)))
        assert aggregator.to_bytes() == fresh.to_bytes()

    def test_threads(self) -> None:
        aggregator = bt.BarAggregator(["1d"])
        data = table([tick(0, 1)] * 100)
        threads = [threading.Thread(target=lambda: [aggregator.update(data) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert aggregator.finish()["trade_count"].to_pylist() == [20_000]


@given(trades())
def test_vwap_per_symbol(rows: list[dict[str, object]]) -> None:
    want = []
    for symbol in sorted({row["symbol"] for row in rows}, key=str.encode):
        volume = sum(r["volume"] for r in rows if r["symbol"] == symbol)
        turnover = sum(r["volume"] * r["price"] for r in rows if r["symbol"] == symbol)
        want.append((symbol, turnover, volume, Fraction(round(turnover / volume * 10**8), 10**8) if volume else None))
    found = [
        (
            r["symbol"],
            Fraction(r["turnover"]),
            Fraction(r["volume"]),
            None if r["vwap"] is None else Fraction(r["vwap"]),
        )
        for r in bt.vwap(table(rows)).to_pylist()
    ]
    assert found == want


class TestInterleaved:
    NAMES = ["A", "A\0", "B", "AB", "ABCDEFGH", "ABCDEFGHI", "ABCDEFG", "a symbol of many bytes", "é", "BA"]

    @given(st.integers(0, 2**32), st.integers(1, 10), st.sampled_from([10**6, 10**9, 10**11]), st.booleans())
    @settings(max_examples=25)
    def test_symbols_in_turns_equal_symbols_in_blocks(self, seed: int, count: int, gap: int, shuffled: bool) -> None:
        rng = random.Random(seed)
        rows = [
            tick(at * gap // 100, rng.randrange(1, 99), rng.randrange(5), symbol=rng.choice(self.NAMES[:count]))
            | {"sequence": at}
            for at in range(5_000)
        ]
        blocks = sorted(rows, key=lambda row: row["symbol"])
        want = bt.aggregate_bars(table(blocks), STANDARD)
        if shuffled:
            rows[100:160] = rng.sample(rows[100:160], 60)
        whole = table(rows)
        cut = rng.randrange(5_000)
        for data in (whole, pa.concat_tables([whole[:cut].combine_chunks(), whole[cut:].combine_chunks()])):
            for kind in (pa.string(), pa.large_string(), pa.string_view()):
                names = data["symbol"].cast(kind)
                assert bt.aggregate_bars(data.set_column(0, "symbol", names), STANDARD).equals(want)

    def test_a_refused_row_is_named(self) -> None:
        rows = [tick(at, 1, symbol="ABC"[at % 3]) for at in range(6_000)]
        for name in ("price", "volume"):
            data = table(rows)
            column = data[name].combine_chunks()
            holed = pa.compute.if_else(
                pa.array([at != 4_321 for at in range(6_000)]), column, pa.scalar(None, column.type)
            )
            with pytest.raises(InvalidTickError, match="row 4321"):
                bt.aggregate_bars(data.set_column(data.column_names.index(name), name, holed), ["1m"])
