"""Leases: what open stores read stays, and no longer than they read it."""

from __future__ import annotations

import fcntl
import gc as collector
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import backtestr as bt
from backtestr.errors import StoreIOError, VersionNotFoundError
from backtestr.persist import gc, history
from backtestr.storage import lease
from tests.crash.soak import soak
from tests.store.test_history import state, trades


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store whose every commit but the first takes files of the one before away."""
    with bt.open(tmp_path / "s") as store:
        replace(store, 1)
        replace(store, 2)
    return tmp_path / "s"


def replace(store: bt.Store, number: int) -> int:
    """Have one trade instead of all before; returns the LSN."""
    return int(store.ingest(trades("A", [(number, "1"), (0, "2")]), feed="f", mode="replace").lsn or 0)


def said(path: Path) -> list[int]:
    return sorted(json.loads(file.read_text())["lsn"] for file in (path / "readers").iterdir())


def test_a_lease_lasts_as_long_as_its_store(path: Path) -> None:
    with bt.open(path, read_only=True) as store:
        assert said(path) == [store.info().lsn]
        with bt.open(path) as writer:
            replace(writer, 3)
            writer.symbols()
            assert said(path) == [3, 3]
            writer.ticks("A")
            assert said(path) == [3, 4]
            assert store.refresh() == 4
            assert said(path) == [4, 4]
        assert said(path) == [4]
    assert said(path) == []


def test_an_open_store_reads_what_it_did_until_it_refreshes(path: Path) -> None:
    with bt.open(path, read_only=True) as reader, bt.open(path) as writer:
        expected = state(reader)
        replace(writer, 3)
        report = writer.gc(retention=0)
        assert (report.held_by_leases, report.readers, report.oldest_lsn) == (2, 1, 4)
        assert state(reader) == expected
        reader.refresh()
        assert writer.gc(retention=0).files == 2
        assert state(reader) == state(writer)


def test_a_call_under_way_holds_its_version_while_others_move_on(path: Path) -> None:
    with bt.open(path, read_only=True) as reader, bt.open(path) as writer:
        expected = reader.ticks("A").to_pylist()
        with reader._reading() as (storage, version):
            replace(writer, 3)
            reader.refresh()
            assert said(path)[0] == version.lsn == 3
            assert writer.gc(retention=0).held_by_leases == 2
            assert storage.reader.ticks(version, ["A"]).num_rows == len(expected)
        assert said(path)[0] == 4


def test_a_store_of_the_past_holds_it_until_it_is_let_go(path: Path) -> None:
    with bt.open(path) as writer:
        replace(writer, 3)
        held, other = writer.at(3), writer.at(2)
        expected = state(held)
        assert said(path) == [2]
        other.close()
        assert said(path) == [3]
        assert writer.gc(retention=0).held_by_leases == 2
        with pytest.raises(VersionNotFoundError, match="older than what the retention keeps; the oldest is 4"):
            writer.at(3)
    # a store of the past outlives the one it came from
    assert said(path) == [3]
    with bt.open(path) as writer:
        writer.gc(retention=0)
        assert state(held) == expected
        del held
        collector.collect()
        assert said(path) == [4]
        assert writer.gc(retention=0).files == 2


def test_a_store_that_nobody_closed_lets_go(path: Path) -> None:
    store = bt.open(path, read_only=True)
    assert len(said(path)) == 1
    del store
    collector.collect()
    assert said(path) == []


def test_a_store_that_cannot_be_opened_leaves_no_lease(path: Path) -> None:
    (log,) = (path / "log").glob("*.log")
    log.write_bytes(b"x" * 200)
    with pytest.raises(bt.errors.LogCorruptError):
        bt.open(path, read_only=True)
    assert said(path) == []


def test_the_lease_of_a_killed_process_is_dead(path: Path) -> None:
    code = "import backtestr as bt, sys; s = bt.open(sys.argv[1], read_only=True); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        with bt.open(path) as writer:
            replace(writer, 3)
            assert writer.gc(retention=0).held_by_leases == 2
            reader.send_signal(signal.SIGKILL)
            reader.wait()
            assert len(said(path)) == 2
            assert writer.gc(retention=0, dry_run=True).leases == 1
            assert len(said(path)) == 2
            report = writer.gc(retention=0)
            assert (report.leases, report.files, report.readers) == (1, 2, 0)
            assert len(said(path)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_its_parents_lease(path: Path) -> None:
    reader = bt.open(path, read_only=True)
    (mine,) = (path / "readers").iterdir()
    pinned = reader.at(2)
    ready, started = os.pipe()
    stop, go_on = os.pipe()
    child = os.fork()
    if child == 0:
        del pinned
        collector.collect()
        reader.close()
        os.write(started, b"1")
        os.read(stop, 1)
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"1"
        assert said(path) == [2]
        with mine.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with mine.open("rb") as file:
            pinned.close()
            reader.close()
            # the child still runs
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not mine.exists()
    finally:
        os.write(go_on, b"1")
        os.waitpid(child, 0)
        for end in (ready, started, stop, go_on):
            os.close(end)


def test_without_a_place_for_leases_retention_protects(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path / "readers").rmdir()
    (path / "readers").write_text("no folder")
    with caplog.at_level(logging.WARNING), bt.open(path, read_only=True) as reader:
        assert [record.message.count("only retention keeps") for record in caplog.records] == [1]
        assert reader.at(2).ticks("A").num_rows == reader.refresh() - 1
    assert (path / "readers").read_text() == "no folder"


def test_a_lease_that_is_half_written_holds_everything(path: Path) -> None:
    with bt.open(path, read_only=True) as reader, bt.open(path) as writer:
        replace(writer, 3)
        assert reader._storage is not None
        file = reader._storage.lease.path
        assert file is not None
        good = file.read_bytes()
        for bad in (b"", good[:20], good.replace(b'"lsn": 3', b'"lsn": 4'), b"x" * 96):
            file.write_bytes(bad)
            report = writer.gc(retention=0)
            assert (report.files, report.readers) == (0, 1)
        file.write_bytes(good)
        reader.refresh()
        assert writer.gc(retention=0).files == 4


def test_a_lease_that_cannot_go_back_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "no space")

    with bt.open(path, read_only=True) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            with pytest.raises(StoreIOError, match="no space"):
                reader.at(2)
        assert reader.at(2).ticks("A").num_rows == 2
        assert said(path) == [3]


def test_a_lease_taken_for_dead_before_it_is_locked_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, victims = fcntl.flock, []

    def hinder(file: Any, how: int) -> None:
        if len(victims) < 2:
            (new,) = (path / "readers").iterdir()
            victims.append(new)
            if len(victims) == 1:
                new.unlink()
            else:
                raise BlockingIOError
        flock(file, how)

    monkeypatch.setattr(lease.fcntl, "flock", hinder)
    with bt.open(path, read_only=True):
        (made,) = (path / "readers").iterdir()
        assert made not in victims
        assert said(path) == [3]


STEPS = [
    (gc, "read_retained"),
    (gc, "write_retained"),
    (gc, "read_leases"),
    (gc, "known_files"),
    (gc, "aged_orphans"),
    (gc, "unneeded_snapshots"),
]


@pytest.mark.parametrize("place", range(2 * len(STEPS)))
def test_readers_that_come_at_any_step_are_safe(path: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open a store, and stores of the past, right before or after one step; all read on, or are refused."""
    with bt.open(path) as writer:
        for number in range(3, 6):
            replace(writer, number)
            writer.checkpoint()
        expected = {lsn: state(writer.at(lsn)) for lsn in range(2, 7)}
        room, name = STEPS[place // 2]
        step, opened = getattr(room, name), dict[int, list[bt.Store]]()

        def come() -> None:
            if opened:
                return
            reader = bt.open(path, read_only=True)
            opened[reader.info().lsn] = [reader]
            for lsn in range(2, 6):
                try:
                    opened[lsn] = [reader.at(lsn)]
                except VersionNotFoundError:
                    opened[lsn] = []

        def between(*arguments: Any, **options: Any) -> Any:
            if place % 2 == 0:
                come()
            done = step(*arguments, **options)
            come()
            return done

        monkeypatch.setattr(room, name, between)
        report = writer.gc(retention=0)
        monkeypatch.undo()
        assert sorted(opened) == [2, 3, 4, 5, 6]
        assert len(opened[6]) == 1
        for lsn, stores in opened.items():
            assert [state(store) for store in stores] == [expected[lsn] for _ in stores]
        # before it says what is left, all can be had and so all stays; afterwards nothing old can be had
        early = {lsn for lsn, stores in opened.items() if stores}
        assert early == {2, 3, 4, 5, 6} if place <= 2 else early == {6}
        assert (report.files == 0) == (place <= 2)
        for stores in opened.values():
            for store in stores:
                store.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_clean_up_while_a_version_is_looked_for(path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean up right before or after a reader looks whether the version is still there."""
    with bt.open(path) as writer, bt.open(path, read_only=True) as reader:
        replace(writer, 3)
        reader.refresh()
        expected = state(reader.at(2))
        look, reports = history.read_retained, []

        def between(layout: Any) -> Any:
            reports.extend([writer.gc(retention=0)] if moment == "before" else [])
            found = look(layout)
            reports.extend([writer.gc(retention=0)] if moment == "after" else [])
            return found

        with monkeypatch.context() as patch:
            patch.setattr(history, "read_retained", between)
            if moment == "before":
                with pytest.raises(VersionNotFoundError, match="older than"):
                    reader.at(2)
            else:
                assert state(reader.at(2)) == expected
        # its lease was there before it looked, so either way nothing was removed under it
        assert reports[0].files == 0
        assert writer.gc(retention=0).files == 4


def test_a_clean_up_while_a_store_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version was read, and the lease does not say so yet."""
    settle, reports = lease.Lease.settle, []

    def between(mine: lease.Lease) -> None:
        if not reports:
            replace(writer, 3)
            reports.append(writer.gc(retention=0))
        settle(mine)

    with bt.open(path) as writer:
        expected = state(writer)
        monkeypatch.setattr(lease.Lease, "settle", between)
        with bt.open(path, read_only=True) as reader:
            assert state(reader) == expected
        assert [report.files for report in reports] == [0]


def test_a_version_is_taken_and_held_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread refreshes just when another one takes the version; it must wait, or the lease moves past it."""
    with bt.open(path, read_only=True) as reader, bt.open(path) as writer:
        replace(writer, 3)
        held = reader._storage.lease  # type: ignore[union-attr]
        other = threading.Thread(target=reader.refresh)

        class Slow(Counter[int]):
            def __setitem__(self, key: int, value: int) -> None:
                if not other.ident:
                    other.start()
                    other.join(0.2)
                super().__setitem__(key, value)

        held._in_use = Slow(held._in_use)
        with reader._reading() as (_, version):
            other.join()
            assert (version.lsn, reader.info().lsn, json.loads(held.path.read_text())["lsn"]) == (3, 4, 3)


def test_every_answer_is_one_version_beside_a_writer_that_cleans_up(tmp_path: Path) -> None:
    figures = soak(tmp_path / "s", seconds=3, readers=3)
    assert figures["removed"]["files"] > 0
    assert figures["answers"]["now"] > 0


@pytest.fixture(autouse=True)
def no_children() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
