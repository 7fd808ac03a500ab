"""Appended rows: as ingested ones to whoever reads, durable when acknowledged, in files after a flush."""

from __future__ import annotations

import contextlib
import datetime as dt
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError, FeedConflictError, SequenceConflictError, StoreReadOnlyError
from backtestr.ingest import append as appending
from backtestr.ingest import flush as flushing
from backtestr.storage.checkpoint import write_snapshot

START = dt.datetime(2024, 1, 30, 22, tzinfo=dt.UTC)
STORED, COMPUTED = ("1m", "1h", "1d"), ("30s", "2h")
BARS = "select * exclude (vwap), vwap::varchar as vwap from bars order by timeframe, symbol, price_basis, timestamp_utc"


def trades(count: int, *, seed: int = 0, names: tuple[str, ...] = ("A", "B"), minutes: int = 3_000) -> pa.Table:
    """Trades over three days and the end of a month, in order of time, some at one instant."""
    draw = random.Random(seed)
    times = sorted(START + dt.timedelta(seconds=draw.randrange(minutes * 60)) for _ in range(count))
    return pa.table(
        {
            "symbol": [draw.choice(names) for _ in times],
            "timestamp_utc": pa.array(times, pa.timestamp("ns", "UTC")),
            "price": [Decimal(draw.randrange(100, 200)) / 8 for _ in times],
            "volume": [Decimal(draw.randrange(1, 9)) for _ in times],
            "exchange": [draw.choice(["N", "Q", "P"]) for _ in times],
        }
    )


def quotes(count: int, *, name: str = "A") -> pa.Table:
    times = [START + dt.timedelta(minutes=7 * row) for row in range(count)]
    return pa.table(
        {
            "symbol": [name] * count,
            "timestamp_utc": pa.array(times, pa.timestamp("ns", "UTC")),
            "bid": [Decimal(row + 100) / 4 for row in range(count)],
            "ask": [Decimal(row + 102) / 4 for row in range(count)],
        }
    )


def seen(store: bt.Store) -> dict[str, object]:
    """Everything that can be read of a store, whatever is live."""
    frames: dict[str, object] = {"symbols": store.symbols()}
    frames["ticks"] = store.ticks().to_pylist()
    for timeframe in (*STORED, *COMPUTED):
        frames[timeframe] = store.bars(None, timeframe).to_pylist() if store.symbols() else []
        frames[f"{timeframe} from noon"] = (
            store.bars(None, timeframe, start="2024-01-31T12:00", end="2024-02-01T03:30").to_pylist()
            if store.symbols()
            else []
        )
    frames["sql ticks"] = store.sql("select * from ticks order by all").to_pylist()
    frames["sql bars"] = store.sql(BARS).to_pylist()
    frames["sql 20s"] = store.sql("select * from bars where timeframe = '20s' order by all").to_pylist()
    frames["quarantine"] = [row["raw"] for row in store.quarantine().to_pylist()]
    info = store.info()
    frames["info"] = (info.ticks, info.symbols, info.quarantined, info.first, info.last)
    return frames


def flush(store: bt.Store) -> None:
    flushing.flush(store._writable())  # there is no verb for it: it happens by itself


@contextlib.contextmanager
def expected(folder: Path, *tables: pa.Table) -> Iterator[bt.Store]:
    """A store with the rows ingested, by one load as the order of appends is that of its rows."""
    with bt.open(folder / "expected") as store:
        store.ingest(pa.concat_tables(tables, promote_options="default"), feed="f")
        yield store


def test_appended_rows_read_as_ingested_ones(tmp_path: Path) -> None:
    rows = trades(400)
    with expected(tmp_path, rows) as other:
        wanted = seen(other)
    with bt.open(tmp_path / "s") as store, bt.open(tmp_path / "s", read_only=True) as reader:
        for first in range(0, 400, 80):
            report = store.append(rows.slice(first, 80), feed="f")
            assert (report.rows_in, report.accepted, report.is_reconciled) == (80, 80, True)
        assert store.info().files == 0
        assert seen(store) == wanted
        assert reader.symbols() == []
        assert reader.refresh() == store.info().lsn
        assert seen(reader) == wanted
        flush(store)
        assert store.info().files > 0
        assert seen(store) == wanted
        assert seen(reader) == wanted
        reader.refresh()
        assert seen(reader) == wanted
        assert store.verify(deep=True).ok


@pytest.mark.parametrize("checkpoint", [False, True])
def test_appended_rows_are_there_after_reopening(tmp_path: Path, checkpoint: bool) -> None:
    rows = trades(100)
    with bt.open(tmp_path / "s") as store:
        for first in range(0, 100, 10):
            store.append(rows.slice(first, 10), feed="f", batch_id=str(first))
        before = seen(store)
        if checkpoint:
            store.checkpoint()
            assert store.info().files > 0
    with bt.open(tmp_path / "s") as store:
        assert seen(store) == before
        again = store.append(rows.slice(0, 10), feed="f", batch_id="0")
        assert (again.accepted, again.duplicate, again.rows_in) == (0, 10, 10)
        store.append(trades(50, seed=1), feed="f")
        both = seen(store)
        flush(store)
        assert seen(store) == both
        assert store.verify(deep=True).ok


def test_a_snapshot_holds_live_rows_and_batches(tmp_path: Path) -> None:
    rows = trades(70)
    with bt.open(tmp_path / "s") as store:
        for row in range(70):
            store.append(rows.slice(row, 1), feed="f", batch_id=str(row))
        store.append(quotes(3, name="Q"), feed="f")
        before = seen(store)
    assert list((tmp_path / "s" / "snapshots").glob("*.snapshot"))
    with bt.open(tmp_path / "s") as store:
        assert store.info().files == 0
        assert seen(store) == before
        assert store.verify().ok
        assert store.append(rows.slice(69, 1), feed="f", batch_id="69").duplicate == 1


def test_a_snapshot_between_a_flush_and_its_commit_keeps_rows_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, commit = trades(60), flushing.commit_change
    with bt.open(tmp_path / "s") as store:
        store.append(rows.slice(0, 20), feed="f")
        store.append(rows.slice(20, 20), feed="f")
        between = 0

        def beside(*given: Any) -> Any:
            nonlocal between
            between = store.append(rows.slice(40), feed="f").lsn
            return commit(*given)

        monkeypatch.setattr(flushing, "commit_change", beside)
        flush(store)
        monkeypatch.undo()
        before = seen(store)
        assert store.info().ticks == 60
        version = store._readable().journal.past(lsn=between)
        write_snapshot(store._readable().layout, version)
        assert store.verify().ok
    with bt.open(tmp_path / "s", read_only=True) as store:
        assert seen(store) == before
        assert store.verify(deep=True).ok


def test_late_rows_mend_the_bars_they_are_in(tmp_path: Path) -> None:
    rows, late = trades(300), trades(40, seed=5)
    with expected(tmp_path, rows, late) as other:
        wanted = seen(other)
    with bt.open(tmp_path / "s") as store:
        store.ingest(rows, feed="f")
        for first in range(0, 40, 8):
            store.append(late.slice(first, 8), feed="f")
        live = seen(store)
        flush(store)
        assert seen(store) == live
    # ordinals go on behind those of the load, whatever the time
    assert unnumbered(live) == unnumbered(wanted)


def unnumbered(found: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the ordinals of rows that their feed does not number."""
    rows = [{k: v for k, v in row.items() if k != "sequence"} for row in found["ticks"]]
    return {"ticks": Counter(map(str, rows)), **{name: found[name] for name in ("symbols", "info")}}


def test_bars_of_late_rows_are_those_of_a_load(tmp_path: Path) -> None:
    rows = trades(500)
    mask = [row % 7 == 3 for row in range(500)]
    late, early = rows.filter(pa.array(mask)), rows.filter(pa.array([not one for one in mask]))
    places = pa.array([row for row in range(500) if mask[row]]), pa.array([row for row in range(500) if not mask[row]])
    with bt.open(tmp_path / "a") as one, bt.open(tmp_path / "b") as other:
        one.ingest(rows.append_column("sequence", pa.array(range(500))), feed="f")
        other.append(early.append_column("sequence", places[1]), feed="f")
        flush(other)
        other.append(late.append_column("sequence", places[0]), feed="f")
        assert seen(other) == seen(one)
        flush(other)
        assert seen(other) == seen(one)


def test_the_first_trades_of_a_symbol_with_quotes_make_its_bars_of_trades(tmp_path: Path) -> None:
    both = [quotes(60), trades(50, names=("A",))]
    with bt.open(tmp_path / "a") as one, bt.open(tmp_path / "b") as other:
        for table in both:
            one.ingest(table, feed="f")
        other.ingest(both[0], feed="f")
        assert {bar["price_basis"] for bar in other.bars("A", "1h").to_pylist()} == {"mid"}
        other.append(both[1], feed="f")
        for _ in range(2):
            for timeframe in (*STORED, *COMPUTED):
                for price in (None, "trade", "mid", "bid"):
                    assert other.bars("A", timeframe, price=price).to_pylist() == (
                        one.bars("A", timeframe, price=price).to_pylist()
                    )
            assert other.sql(BARS).to_pylist() == one.sql(BARS).to_pylist()
            flush(other)


def test_exchanges_that_come_out_of_order_sort_by_name(tmp_path: Path) -> None:
    table = {"timestamp_utc": [START] * 3, "price": [1, 1, 1], "volume": [1, 1, 1], "sequence": [0, 0, 0]}
    with bt.open(tmp_path / "s") as store:
        store.append({**{k: v[:1] for k, v in table.items()}, "exchange": ["Z"]}, symbol="A", feed="g")
        for code in ("B", "A"):
            with pytest.raises(SequenceConflictError, match="exchange_id"):
                store.append({**{k: v[:1] for k, v in table.items()}, "exchange": [code]}, symbol="A", feed="g")
        del table["sequence"]
        store.append({**table, "exchange": ["Z", "B", "A"]}, symbol="B", feed="f")
        rows = store.sql("select exchange, sequence from ticks where symbol = 'B'").to_pylist()
        assert rows == [{"exchange": code, "sequence": row} for row, code in enumerate("ZBA")]


def test_a_batch_that_is_sent_again_adds_nothing(tmp_path: Path) -> None:
    rows = trades(10)
    with bt.open(tmp_path / "s") as store:
        first = store.append(rows, feed="f", batch_id="a")
        again = store.append(rows, feed="f", batch_id="a")
        assert (again.lsn, again.accepted, again.duplicate, again.is_reconciled) == (first.lsn, 0, 10, True)
        assert store.append(rows, feed="g", batch_id="a", allow_mixed=True).accepted == 10
        assert store.append(rows, feed="f", batch_id="b").accepted == 10
        flush(store)
        assert store.append(rows, feed="f", batch_id="a").lsn == first.lsn
        assert store.info().ticks == 30
    with bt.open(tmp_path / "s") as store:
        assert store.append(rows, feed="f", batch_id="b").duplicate == 10
        assert store.info().ticks == 30


def test_a_batch_without_good_rows_is_known_too(tmp_path: Path) -> None:
    bad = {"timestamp_utc": [START], "price": ["-1"], "volume": ["1"]}
    with bt.open(tmp_path / "s") as store:
        report = store.append(bad, symbol="A", feed="f", batch_id="x")
        assert (report.rejected, report.accepted, report.reasons) == (1, 0, {"price_negative": 1})
        assert store.append(bad, symbol="A", feed="f", batch_id="x").duplicate == 1
        assert (store.info().quarantined, store.symbols()) == (1, [])
        (row,) = store.quarantine().to_pylist()
        assert (row["reasons"], row["line"], row["source"]) == (["price_negative"], 1, "arrow")
        flush(store)
        assert (store.info().quarantined, store.quarantine().to_pylist()) == (1, [row])
        assert store.verify().ok


def test_rejected_rows_are_told_apart_in_later_batches(tmp_path: Path) -> None:
    prices = ["1", "-5", "2"], ["3", "4", "-6"]
    with bt.open(tmp_path / "s") as store:
        for batch in prices:
            given = {"timestamp_utc": [START] * 3, "price": batch, "volume": ["1"] * 3}
            assert store.append(given, symbol="A", feed="f").rejected == 1
        rows = store.quarantine().to_pylist()
        assert [("-5" in row["raw"], "-6" in row["raw"], row["line"]) for row in rows] == [
            (True, False, 2),
            (False, True, 3),
        ]
        assert len(store.ticks("A").to_pylist()) == 4


def numbered(sequences: list[int], *, price: str = "1", minutes: int = 1) -> dict[str, list[Any]]:
    times = [START + dt.timedelta(minutes=minutes * sequence) for sequence in sequences]
    return {
        "timestamp_utc": times,
        "sequence": sequences,
        "price": [price] * len(sequences),
        "volume": ["1"] * len(sequences),
    }


@pytest.mark.parametrize("flushed", [False, True])
def test_numbered_rows_are_there_once(tmp_path: Path, flushed: bool) -> None:
    with bt.open(tmp_path / "s") as store:
        assert store.append(numbered([1, 2, 3]), symbol="A", feed="f").accepted == 3
        if flushed:
            flush(store)
        report = store.append(numbered([3, 4, 4]), symbol="A", feed="f")
        assert (report.accepted, report.duplicate, report.is_reconciled) == (1, 2, True)
        before = seen(store)
        for wrong in ([4], [2], [9, 3]):
            with pytest.raises(SequenceConflictError, match="price is 7"):
                store.append(numbered(wrong, price="7"), symbol="A", feed="f", batch_id="w")
        assert seen(store) == before
        # what was refused is not known
        assert store.append(numbered([9]), symbol="A", feed="f", batch_id="w").accepted == 1
        assert store.append(numbered([0, 5]), symbol="A", feed="f").accepted == 2
        assert [row["sequence"] for row in store.ticks("A").to_pylist()] == [0, 1, 2, 3, 4, 5, 9]
        with pytest.raises(FeedConflictError, match="numbers its rows"):
            store.append({k: v for k, v in numbered([10]).items() if k != "sequence"}, symbol="A", feed="f")
    with bt.open(tmp_path / "s") as store:
        assert store.append(numbered([5, 6]), symbol="A", feed="f").accepted == 1
        assert store.append(numbered([5, 6]), symbol="B", feed="f").accepted == 2


def test_what_is_wrong_is_refused_whole(tmp_path: Path) -> None:
    good = {"timestamp_utc": [START], "price": ["1"], "volume": ["1"]}
    with bt.open(tmp_path / "s") as store:
        store.append(good, symbol="A", feed="f")
        for given, options, error in (
            (good, {"symbol": "A", "feed": "g"}, FeedConflictError),
            (good, {"symbol": "A", "feed": ""}, ArgumentError),
            (good, {"symbol": "A", "feed": "f", "batch_id": 7}, ArgumentError),
            (good, {"symbol": "A", "feed": "f", "rules": "none"}, ArgumentError),
            ("rows.csv", {"symbol": "A", "feed": "f"}, ArgumentError),
            ({"price": ["1"]}, {"symbol": "A", "feed": "f"}, bt.errors.SourceStructureError),
        ):
            with pytest.raises(error):
                store.append(given, **options)
        assert store.info().lsn == 2
        with pytest.raises(StoreReadOnlyError):
            store.at(2).append(good, symbol="A", feed="f")


def test_versions_before_and_after_a_flush(tmp_path: Path) -> None:
    rows = trades(90)
    with bt.open(tmp_path / "s") as store:
        states = {}
        for first in range(0, 90, 30):
            lsn = store.append(rows.slice(first, 30), feed="f").lsn
            states[lsn] = seen(store)
            if first == 30:
                flush(store)
                states[store.info().lsn] = states[lsn]
        store.delete("A")
        for lsn, state in states.items():
            with store.at(lsn) as past:
                assert seen(past) == state
        first, *_, last = states
        assert store.diff(first, last).ticks_added == {
            name: sum(row["symbol"] == name for row in states[last]["ticks"][:])
            - sum(row["symbol"] == name for row in states[first]["ticks"][:])
            for name in ("A", "B")
        }
        store.append(trades(5, seed=9), feed="f")
        for lsn in (first, last):
            store.revert(lsn)
            assert seen(store) == states[lsn]
            flush(store)
            assert seen(store) == states[lsn]
        assert store.verify(deep=True).ok


def test_live_rows_can_be_taken_back(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s") as store:
        store.append(numbered([1, 2, 3, 4]), symbol="A", feed="f")
        assert store.cancel(store.ticks("A", end=START + dt.timedelta(minutes=2))).removed == 1
        store.append(numbered([5, 6]), symbol="A", feed="f")
        wrong = store.ticks("A", start=START + dt.timedelta(minutes=6)).to_arrow()
        at = wrong.schema.get_field_index("price")
        assert store.correct(wrong.set_column(at, "price", pa.array(["8"]))).added == 1
        store.append(numbered([7]), symbol="A", feed="f")
        assert store.delete("A", start=START + dt.timedelta(minutes=7)).removed == 1
        rows = [(row["sequence"], row["price"]) for row in store.ticks("A").to_pylist()]
        assert rows == [(2, 1), (3, 1), (4, 1), (5, 1), (6, 8)]
        assert store.append(numbered([6, 7], price="8"), symbol="A", feed="f").duplicate == 1
        assert store.set_bar_spec(bt.BarSpec(high_low_excludes=("W",))).lsn == store.info().lsn
        store.append(numbered([8]), symbol="A", feed="f")
        assert store.tag("now") == store.info().lsn - 1
        store.gc(retention=0, grace_s=0)
        assert len(store.ticks("A").to_pylist()) == 7
        assert store.verify(deep=True).ok


def append_in(path: str, first: int, done: Any) -> None:
    with bt.open(path, read_only=True) as store:
        done.put(([row["sequence"] for row in store.ticks("A").to_pylist()], first))


def test_another_process_sees_live_rows(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    with bt.open(tmp_path / "s") as store:
        store.append(numbered([1, 2]), symbol="A", feed="f")
        process = context.Process(target=append_in, args=(str(tmp_path / "s"), 7, done))
        process.start()
        assert done.get(timeout=60) == ([1, 2], 7)
        process.join()


def test_threads_append_at_once_beside_flushes(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    stop = threading.Event()

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with bt.open(tmp_path / "s", flush_rows=40) as store:

        def feed(name: str) -> None:
            for first in range(0, 120, 4):
                lsn = store.append(numbered(list(range(first, first + 4))), symbol=name, feed=name).lsn
                assert store.info().lsn >= lsn
                assert len(store.ticks(name).to_pylist()) == first + 4

        def look() -> None:
            while not stop.is_set():
                with store.at(store.refresh()) as past:
                    ticks = past.info().ticks
                    assert past.sql("select count(*) as n from ticks").to_pylist() == [{"n": ticks}]
                    assert sum(bar["trade_count"] for bar in past.bars(None, "1h").to_pylist()) == ticks

        writers = [guarded(lambda name=name: feed(name)) for name in "ABCD"]  # type: ignore[misc]
        looking = guarded(look)
        for thread in writers:
            thread.join()
        stop.set()
        looking.join()
        if failed:
            raise failed[0]
        kinds = Counter(row["kind"] for row in store.history().to_pylist())
        assert kinds["append"] == 120
        assert kinds["flush"] >= 1
        flush(store)
        assert store.info().ticks == 480
        assert store.verify(deep=True).ok


def until(is_true: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if is_true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def test_rows_are_flushed_when_they_are_old(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s", flush_seconds=0.05) as store:
        store.append(numbered([1]), symbol="A", feed="f")
        until(lambda: store.info().files > 0)
        store.append(numbered([2]), symbol="A", feed="f")
        until(lambda: sum(row["kind"] == "flush" for row in store.history().to_pylist()) == 2)
        store.append(numbered([3], price="-1"), symbol="A", feed="f")
        until(lambda: sum(row["kind"] == "flush" for row in store.history().to_pylist()) == 3)
        assert (store.info().ticks, store.info().quarantined) == (2, 1)


def test_a_flush_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = flushing.write_change

    def broken(*_: object) -> None:
        raise ValueError("no such luck")

    with bt.open(tmp_path / "s", flush_rows=3) as store:
        monkeypatch.setattr(flushing, "commit_change", broken)
        store.append(numbered([1, 2, 3]), symbol="A", feed="f")
        until(lambda: "no such luck" in caplog.text)
        assert store.info().files == 0
        monkeypatch.undo()
        assert flushing.write_change is whole
        until(lambda: store._appender is not None and store._appender._flusher._thread is None)
        store.append(numbered([4]), symbol="A", feed="f")
        until(lambda: store.info().files > 0)
        assert store.info().ticks == 4


def test_an_append_waits_where_far_too_many_rows_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending.Flusher, "appended", lambda *_: None)
    with bt.open(tmp_path / "s", flush_rows=2) as store:
        for sequence in range(20):
            store.append(numbered([sequence]), symbol="A", feed="f")
            assert store._readable().journal.version.live.ticks <= 9
        assert store.info().ticks == 20


def test_any_mix_of_changes_keeps_every_row(tmp_path: Path) -> None:
    draw = random.Random(11)
    model: Counter[tuple[object, ...]] = Counter()
    store = bt.open(tmp_path / "s", flush_rows=10**9)
    known: dict[str, pa.Table] = {}
    for step in range(40):
        action = draw.choice(["append"] * 6 + ["resend", "ingest", "delete", "flush", "reopen", "checkpoint", "gc"])
        rows = trades(draw.randrange(1, 30), seed=step, names=("A", "B", "C"), minutes=600)
        added = Counter(zip(*(rows[name].to_pylist() for name in ("symbol", "price", "volume")), strict=True))
        if action == "append":
            assert store.append(rows, feed="f", batch_id=str(step)).accepted == rows.num_rows
            known[str(step)] = rows
            model += added
        elif action == "resend" and known:
            name = draw.choice(list(known))
            assert store.append(known[name], feed="f", batch_id=name).duplicate == known[name].num_rows
        elif action == "ingest":
            # of another feed: one load counts rows that others brought once
            fresh = rows.set_column(0, "symbol", pa.array([f"{name}{step}" for name in rows["symbol"].to_pylist()]))
            store.ingest(fresh, feed="f")
            model += Counter(zip(*(fresh[name].to_pylist() for name in ("symbol", "price", "volume")), strict=True))
        elif action == "delete" and store.symbols():
            name = draw.choice(store.symbols())
            store.delete(name)
            model = Counter({key: count for key, count in model.items() if key[0] != name})
        elif action == "flush":
            flush(store)
        elif action == "reopen":
            store.close()
            store = bt.open(tmp_path / "s", flush_rows=10**9)
        elif action == "checkpoint":
            store.checkpoint()
        elif action == "gc":
            store.gc(retention=0, grace_s=0)
        ticks = store.ticks().to_pylist()
        assert Counter((row["symbol"], row["price"], row["volume"]) for row in ticks) == model
        assert ticks == sorted(ticks, key=lambda row: (row["symbol"], row["timestamp_utc"], row["sequence"]))
        bars = store.bars(None, "5m").to_pylist() if store.symbols() else []
        assert sum(bar["trade_count"] for bar in bars) == model.total()
        counted = store.sql("select symbol, count(*) as n from ticks group by all").to_pylist()
        assert {row["symbol"]: row["n"] for row in counted} == Counter(row["symbol"] for row in ticks)
    with store:
        assert store.verify(deep=True).ok
