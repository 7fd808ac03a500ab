"""What is settled in the store's log: bar specification, stored timeframes, how a feed numbers its rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import backtestr as bt
from backtestr.errors import ArgumentError, SequenceConflictError, SourceStructureError, SymbolNotFoundError
from backtestr.sources import OpenedSource, TickBatch, register
from tests.kernels import model
from tests.kernels.ticks import rows_of
from tests.store.test_merge import START, assert_bars_in_step, trades


@pytest.fixture
def store(tmp_path: Path):
    with bt.open(tmp_path / "store") as opened:
        yield opened


def conditioned(rows: list[tuple[int, str, str, str | None]]) -> pa.Table:
    plain = trades([(second, price, volume) for second, price, volume, _ in rows])
    return plain.append_column("conditions", pa.array([code for *_, code in rows], pa.string()))


class TestBarSpec:
    ROWS = [
        (0, "10", "1", None),
        (1, "99", "5", "W"),
        (61, "11", "2", "W"),
        (62, "12", "3", None),
        (3700, "7", "1", "W"),
    ]

    @pytest.mark.parametrize("timeframe", ["1m", "1h", "1d", "20s"])
    def test_bars_follow_the_specification_at_once(self, store: bt.Store, timeframe: str) -> None:
        store.ingest(conditioned(self.ROWS), feed="f")
        spec = bt.BarSpec(high_low_excludes=("W",), volume_excludes=("W",))
        before = store.info().lsn
        report = store.set_bar_spec(spec)
        assert (report.symbols, report.lsn) == (("A",), before + 1)
        assert store.set_bar_spec(spec).lsn == before + 1, "the same specification is no commit"
        ticks = store.ticks("A").to_arrow()
        want = rows_of(bt.aggregate_bars(ticks, [timeframe], bar_spec=spec))
        assert rows_of(store.bars("A", timeframe).to_arrow()) == want
        rows = [
            {
                "symbol": "A",
                "ts": START + s * 10**9,
                "price": model.Fraction(p),
                "volume": model.Fraction(v),
                "conditions": c,
            }
            for s, p, v, c in self.ROWS
        ]
        assert want == model.bars(rows, [timeframe], spec=spec)

    def test_later_loads_and_other_openings_use_it(self, store: bt.Store, tmp_path: Path) -> None:
        spec = bt.BarSpec(price_excludes=("W",))
        store.set_bar_spec(spec)
        store.ingest(conditioned(self.ROWS), feed="f")
        with bt.open(tmp_path / "store", read_only=True) as other:
            assert other.bar_spec == spec
            day = other.bars("A", "1d").to_pylist()[0]
            assert (day["open"], day["close"], day["high"]) == (10, 12, 99)
        store.set_bar_spec(bt.BarSpec())
        assert store.bar_spec == bt.BarSpec()
        assert_bars_in_step(store)
        known = {row["spec_id"] for row in store.sql("select spec_id from bar_specs").to_pylist()}
        assert known == {spec.spec_id, "default"}


def test_stored_timeframes_are_those_of_the_store(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s", materialized_timeframes="1m 1d") as store:
        store.ingest(trades([(0, "1", "1"), (61, "2", "1")]), feed="f")
        made = store.bars("A", "1h").to_pylist()
    with bt.open(tmp_path / "s", materialized_timeframes="5m 1h") as store:
        store.ingest(trades([(3700, "3", "1")]), feed="f")
        frames = store.sql("select distinct timeframe from bars order by 1").to_pylist()
        assert [row["timeframe"] for row in frames] == ["1d", "1m"]
        assert store.bars("A", "1h").num_rows == 2
        assert store.bars("A", "1h").to_pylist()[0] == made[0]
        assert_bars_in_step(store, "1m 1d")


def test_a_key_that_comes_twice_far_apart_is_a_conflict(store: bt.Store, numbered_feed) -> None:
    rows = trades([(0, "1", "1"), (86_400 * 40, "2", "1")], sequence=[7, 7])
    with pytest.raises(SequenceConflictError, match="sequence 7"):
        numbered_feed(store, rows)
    assert store.symbols() == []


def test_replace_merges_what_comes(store: bt.Store, numbered_feed) -> None:
    numbered_feed(store, trades([(0, "1", "1"), (1, "2", "1")], sequence=[1, 2]))
    again = trades([(0, "1", "1"), (0, "1", "1"), (1, "3", "1")], sequence=[1, 1, 2])
    report = numbered_feed(store, again, mode="replace")
    assert (report.accepted, report.duplicate, report.replaced) == (2, 1, 2)
    assert store.ticks("A").to_arrow()["price"].to_pylist() == [1, 3]
    assert_bars_in_step(store)


def test_correct_and_cancel_try_first(store: bt.Store, numbered_feed) -> None:
    numbered_feed(store, trades([(0, "1", "1"), (1, "2", "1")], sequence=[1, 2]))
    before = store.ticks().to_pylist()
    assert store.correct(trades([(1, "5", "1")], sequence=[2]), dry_run=True).removed == 1
    assert store.cancel(trades([(1, "2", "1")], sequence=[2]), dry_run=True).removed == 1
    assert store.ticks().to_pylist() == before


def test_a_symbol_named_twice_is_deleted_once(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1"), (86_400, "2", "1")]), feed="f")
    assert store.delete(["A", "A"], end=START + 10**9).removed == 1
    assert_bars_in_step(store)


def test_delete_names_what_it_deletes(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1")]), feed="f")
    with pytest.raises(SymbolNotFoundError, match="nearest are 'A'"):
        store.delete("a")
    with pytest.raises(ArgumentError, match="name the symbols"):
        store.delete(None)
    assert store.symbols() == ["A"]


def test_readers_do_not_wait_for_a_load(store: bt.Store) -> None:
    store.ingest(trades([(0, "1", "1")]), feed="f")
    halfway, go_on = threading.Event(), threading.Event()

    def slow(data: pa.Table, /, **_: object) -> OpenedSource:
        def batches() -> Iterator[TickBatch]:
            batch = data.to_batches()[0]
            symbol = batch.column(0).dictionary_encode()
            halfway.set()
            assert go_on.wait(30)
            yield TickBatch(batch.set_column(0, "symbol", symbol), "slow", lambda rows: [(0, "") for _ in rows])

        return OpenedSource("slow", "f", batches(), "slow rows")

    register("slow", slow)
    loading = threading.Thread(target=store.ingest, args=(trades([(5, "2", "1")]),), kwargs={"source": "slow"})
    loading.start()
    assert halfway.wait(30)
    assert store.sql("select count(*) n from ticks").to_pylist() == [{"n": 1}]
    assert store.refresh() == store.info().lsn
    go_on.set()
    loading.join()
    assert store.ticks("A").num_rows == 2


@pytest.mark.parametrize("broken", ["source", "progress", "write"])
def test_a_load_that_fails_leaves_the_store_as_it_was(
    store: bt.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store.ingest(trades([(0, "1", "1")]), feed="f")
    before = store.ticks().to_pylist(), store.bars("A", "1m").to_pylist(), store.info().lsn
    path = tmp_path / "more.csv"
    path.write_text("symbol,timestamp,price,volume\nA,2024-01-02T14:30:09Z,2,1\n" + 'A,"x\n' * (broken == "source"))
    if broken == "source":
        with pytest.raises(SourceStructureError):
            store.ingest(path, feed="f")
    elif broken == "progress":

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.ingest(path, feed="f", progress=interrupt)
    else:

        def refuse(*_: object, **__: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr("backtestr.storage.write.encode", refuse)
        with pytest.raises(OSError, match="no space"):
            store.ingest(path, feed="f")
        monkeypatch.undo()
    assert before == (store.ticks().to_pylist(), store.bars("A", "1m").to_pylist(), store.info().lsn)
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    report = store.ingest(trades([(9, "2", "1")]), feed="f")
    assert report.accepted == 1
    assert_bars_in_step(store)


def test_a_file_holds_no_more_bytes_than_allowed(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s", max_file_bytes=15_000) as store:
        rows = [(n // 50, f"{100 + (n * 7919) % 9973 / 100:.2f}", str(1 + (n * 104_729) % 997)) for n in range(60_000)]
        store.ingest(trades(rows), feed="f")
        paths = list((tmp_path / "s" / "data" / "ticks").rglob("*.parquet"))
        assert len(paths) > 1
        assert store.ticks("A").num_rows == 60_000
        window = store.ticks("A", start=START + 300 * 10**9, end=START + 310 * 10**9)
        assert window.num_rows == 500
        assert store.sql("select count(*) n from ticks").to_pylist() == [{"n": 60_000}]
        assert_bars_in_step(store)


def test_progress_is_told_or_shown(store: bt.Store, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int | None, str]] = []
    store.ingest(trades([(0, "1", "1")]), feed="f", progress=lambda *facts: told.append(facts))
    assert told == [(1, None, "reading Table"), (1, 1, "writing 2024-01")]
    store.ingest(trades([(1, "1", "1")]), feed="f", progress=True)
    assert capsys.readouterr() == ("", ""), "nothing is drawn where nobody watches"
    with pytest.raises(ArgumentError, match="progress="):
        store.ingest(trades([(2, "1", "1")]), feed="f", progress="yes")
