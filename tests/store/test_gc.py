"""What clean-ups remove, what they keep, and that neither a kill nor a full disk loses anything."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    LogCorruptError,
    StoreIOError,
    StoreReadOnlyError,
    VersionNotFoundError,
)
from backtestr.persist import gc
from backtestr.storage import journal
from backtestr.storage.checkpoint import write_snapshot
from backtestr.storage.commit import Commit
from tests.store.test_history import change, state, trades

DAY_NS = 86_400 * 10**9
START_NS = 1_700_000_000 * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time, in days."""
    now = [START_NS]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])

    def set_days(days: float) -> None:
        now[0] = START_NS + int(days * DAY_NS)

    return set_days


def listed(store: bt.Store) -> set[str]:
    return {file.path for file in store._version().file_by_id.values()}


def on_disk(path: Path) -> set[str]:
    files = (path / "data").rglob("*.parquet")
    return {str(file.relative_to(path)) for file in files if file.parent.name != "empty"}


def contents(path: Path) -> dict[str, str]:
    """Everything in the folder but what comes and goes with an open store."""
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "readers"]
    digests = {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {name: digest for name, digest in digests.items() if not name.startswith("LOCK")}


def daily(
    store: bt.Store, clock: Callable[[float], None], days: int
) -> dict[int, tuple[float, dict[str, Any], set[str]]]:
    """A commit on most days; when each was made, its state and its files, by LSN."""
    made = {}
    for day in range(days):
        clock(day)
        lsn = change(store, day)
        if lsn not in made:
            made[lsn] = (day, state(store), listed(store))
    return made


@pytest.mark.parametrize("retention_days", [0, 2.5, 40])
def test_what_is_within_retention_or_tagged_stays_and_nothing_else(
    tmp_path: Path, clock: Callable[[float], None], retention_days: float
) -> None:
    path, now = tmp_path / "s", 12.25
    with bt.open(path) as store:
        made = daily(store, clock, 12)
        lsns = sorted(made)
        clock(now)
        store.tag("early", lsns[1])
        newest = store.info().lsn
        # a version is kept until the one after it is older than the retention
        ends = [*(made[lsn][0] for lsn in lsns[1:]), now]
        left = [lsn for lsn, end in zip(lsns, ends, strict=True) if end > now - retention_days]
        kept = {*left, lsns[1]}
        plan = store.gc(retention=dt.timedelta(days=retention_days), dry_run=True)
        assert on_disk(path) == set().union(*(files for *_, files in made.values()))
        report = store.gc(retention=f"{retention_days}d")
        assert plan.to_dict() == report.to_dict() | {"dry_run": True}
        assert on_disk(path) == listed(store).union(*(made[lsn][2] for lsn in kept))
        assert (report.lsn, report.files > 0) == (newest, retention_days < 10)
        for lsn, (day, expected, _) in made.items():
            at = START_NS + int((day + 0.5) * DAY_NS)
            instant = dt.datetime.fromtimestamp(at // 10**9, dt.UTC)
            if lsn in kept:
                assert state(store.at(lsn)) == expected
            else:
                for when in (lsn, instant):
                    with pytest.raises(VersionNotFoundError, match=f"older than .* oldest is {report.oldest_lsn}"):
                        store.at(when)
            if lsn in left:
                assert state(store.at(instant)) == expected
        assert state(store.at("early")) == made[lsns[1]][1]
        assert store.verify(deep=True).ok
        # what went stays gone, whatever is asked for later
        for later in (1, 99):
            assert store.gc(retention=f"{retention_days + later}d").oldest_lsn == report.oldest_lsn
        with bt.open(path, read_only=True) as reader:
            assert state(reader.at("early")) == made[lsns[1]][1]


def test_a_tag_holds_its_version_until_it_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        store.ingest(trades("A", [(0, "1")]), feed="f")
        expected, files = state(store), listed(store)
        store.tag("mine")
        store.delete("A")
        report = store.gc(retention=0)
        assert (report.files, report.held_by_tags, report.held_by_retention) == (0, 2, 0)
        assert on_disk(path) == files
        assert state(store.at("mine")) == expected
        with pytest.raises(VersionNotFoundError, match="'yours' is no tag"):
            store.untag("yours")
        store.untag("mine")
        assert store.gc(retention=0).files == 2
        assert on_disk(path) == set()
        for when in ("mine", 2):
            with pytest.raises(VersionNotFoundError):
                store.at(when)
        assert store.tag("mine") == store.info().lsn - 1


def bulky(store: bt.Store, megabytes: int = 34) -> int:
    """A commit that takes that much of the log, and changes nothing."""
    assert store._storage is not None
    journal = store._storage.journal
    journal.begin()
    return journal.commit(Commit("bulky", note={"ballast": os.urandom(megabytes << 19).hex()})).lsn


def segments(path: Path) -> list[int]:
    return sorted(int(file.stem) for file in (path / "log").glob("*.log"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, Any]]]:
    """A store whose log has several segments, and its states by LSN."""
    path, states = tmp_path_factory.mktemp("gc") / "s", {}
    with bt.open(path) as store:
        for number in range(7):
            lsn = change(store, number)
            states[lsn] = state(store)
            if number == 1:
                store.tag("early", lsn)
            if number in {1, 3, 5}:
                states[bulky(store)] = states[lsn]
            if number == 4:
                store.checkpoint()
    assert len(segments(path)) >= 3
    return path, states


@pytest.fixture
def copied(long: tuple[Path, dict[int, dict[str, Any]]], tmp_path: Path) -> tuple[Path, dict[int, dict[str, Any]]]:
    return Path(shutil.copytree(long[0], tmp_path / "s")), long[1]


def test_the_log_is_trimmed_behind_a_snapshot_that_reads_back(copied: tuple[Path, dict[int, Any]]) -> None:
    path, states = copied
    before = segments(path)
    with bt.open(path) as store:
        early = next(row["lsn"] for row in store.history().to_pylist() if row["tags"])
        newest = store.info().lsn
        plan = store.gc(retention=0, dry_run=True)
        report = store.gc(retention=0)
        assert plan.segments == report.segments == len(before) - 1
        assert segments(path) == before[-1:]
        assert {int(file.stem) for file in (path / "snapshots").iterdir()} >= {early, newest}
        assert [row["lsn"] for row in store.history().to_pylist()] == list(range(before[-1], newest + 1))
        assert store.verify(deep=True).ok
        assert store.repair(grace_s=0).removed == ()
        lsn = change(store, 8)
        after = state(store)
        for _ in range(4):
            change(store, 9)
            store.checkpoint()
        assert store.migrations.plan().steps == ()
    for read_only in (True, False):
        with bt.open(path, read_only=read_only) as store:
            assert state(store.at("early")) == states[early]
            assert state(store.at(newest)) == states[newest]
            assert state(store.at(lsn)) == after
            assert store.verify(deep=True).ok
    with bt.open(path) as store:
        store.revert("early")
        assert state(store) == states[early]
        store.revert(lsn)
        store.untag("early")
        assert store.gc(retention=0).files > 0
        assert store.verify(deep=True).ok
        assert not (path / "snapshots" / f"{early:020}.snapshot").exists()
        assert state(store.at(store.info().lsn)) == state(store)


@pytest.mark.parametrize("is_tagged", [False, True])
@pytest.mark.parametrize("pinned", [None, 4])
def test_a_dry_run_foretells_what_goes(
    copied: tuple[Path, dict[int, Any]], is_tagged: bool, pinned: int | None
) -> None:
    path, states = copied
    for lsn in list(states)[::2]:
        with bt.open(path, read_only=True) as reader, reader.at(lsn) as then:
            write_snapshot(reader._readable().layout, then._version())
    with bt.open(path) as store:
        if not is_tagged:
            store.untag("early")
        with contextlib.ExitStack() as reading:
            if pinned is not None:
                reading.enter_context(store.at(pinned))
            plan = store.gc(retention=0, dry_run=True)
            report = store.gc(retention=0)
        assert plan.to_dict() == report.to_dict() | {"dry_run": True}
        assert report.snapshots > 0
        assert store.verify(deep=True).ok


@pytest.mark.parametrize(("segment", "gone"), [(0, 0), (1, 1)])
def test_the_log_stays_for_a_reader_behind(copied: tuple[Path, dict[int, Any]], segment: int, gone: int) -> None:
    path, states = copied
    before = segments(path)
    # a snapshot is at the first version of the second segment, and none but the tag's before
    with bt.open(path, read_only=True) as reader, bt.open(path) as writer:
        lsn = before[segment + 1] - 1
        past = reader.at(lsn)
        report = writer.gc(retention=0)
        assert (report.segments, report.readers) == (gone, 1)
        assert state(past) == states[lsn]
        past.close()
        assert reader.refresh() == writer.info().lsn
        change(writer, 8)
        bulky(writer)
        writer.gc(retention=0)
        assert len(segments(path)) == 2
        assert reader.refresh() == writer.info().lsn
        assert state(reader) == state(writer)


def test_a_reader_without_a_lease_goes_on_from_a_snapshot(copied: tuple[Path, dict[int, Any]]) -> None:
    path, _ = copied
    with bt.open(path) as writer, bt.open(path, read_only=True) as reader:
        # as on a mount that takes no lease
        lease = reader._readable().lease.path
        assert lease is not None
        lease.unlink()
        for number in (8, 9):
            change(writer, number)
            bulky(writer)
        assert writer.gc(retention=0).segments > 1
        assert segments(path)[0] > reader.info().lsn + 1
        assert reader.refresh() == writer.info().lsn
        assert state(reader) == state(writer)


def test_the_log_stays_for_a_reader_at_the_end_of_a_segment(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as writer:
        lsn = bulky(writer)
        writer.checkpoint()
        with bt.open(path, read_only=True) as reader:
            following = bulky(writer)
            assert segments(path) == [1, following]
            assert writer.gc(retention=0).segments == 0
            assert (reader.info().lsn, reader.refresh()) == (lsn, following)
            assert writer.gc(retention=0).segments == 1


def test_the_log_stays_for_a_store_that_opens_meanwhile(
    copied: tuple[Path, dict[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read a snapshot when the clean-up writes the one that the trimmed log would begin at."""
    path, states = copied
    loaded, cleaned = threading.Event(), threading.Event()
    found: list[dict[str, Any]] = []

    def read() -> None:
        with bt.open(path, read_only=True) as reader:
            found.append(state(reader))

    thread, load, write = threading.Thread(target=read), journal.load_snapshot, gc.write_snapshot

    def load_slowly(*arguments: Any, **options: Any) -> Any:
        version = load(*arguments, **options)
        if threading.current_thread() is thread:
            loaded.set()
            cleaned.wait(60)
        return version

    def write_then(*arguments: Any) -> Path:
        if not thread.ident:
            thread.start()
            loaded.wait(60)
        return write(*arguments)

    monkeypatch.setattr(journal, "load_snapshot", load_slowly)
    monkeypatch.setattr(gc, "write_snapshot", write_then)
    with bt.open(path) as writer:
        report = writer.gc(retention=0)
        cleaned.set()
        thread.join()
        assert found == [states[max(states)]]
        assert report.segments == 0
        assert writer.gc(retention=0).segments == len(segments(path)) + 1


def test_a_snapshot_that_does_not_read_back_keeps_the_log(
    copied: tuple[Path, dict[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = copied
    before = segments(path)
    write = gc.write_snapshot

    def badly(*arguments: Any) -> Path:
        written = write(*arguments)
        written.write_bytes(written.read_bytes()[:-1])
        return written

    monkeypatch.setattr(gc, "write_snapshot", badly)
    with bt.open(path) as store:
        expected = state(store)
        with pytest.raises(StoreIOError, match="does not read back"):
            store.gc(retention=0)
        assert segments(path) == before
    with bt.open(path, read_only=True) as store:
        assert state(store) == expected


def test_a_damaged_snapshot_under_a_trimmed_log_is_reported_and_left(copied: tuple[Path, dict[int, Any]]) -> None:
    path, _ = copied
    with bt.open(path) as store:
        early = store.at("early").info().lsn
        store.gc(retention=0)
        file = path / "snapshots" / f"{early:020}.snapshot"
        good = file.read_bytes()
        file.write_bytes(good[:50] + b"x" + good[51:])
        stray = path / "data/ticks/stray.parquet"
        stray.write_bytes(b"x")
        report = store.repair(grace_s=0)
        assert [problem.kind for problem in report.problems] == ["snapshot"]
        assert (report.removed, file.exists(), stray.exists()) == ((), True, True)
        with pytest.raises(LogCorruptError, match="gone"):
            store.at("early")
        with pytest.raises(LogCorruptError, match="gone"):
            store.gc(retention=0, grace_s=0)
        file.write_bytes(good)
        assert store.gc(retention=0, grace_s=0).orphans == 1
        assert store.verify(deep=True).ok


def linked(path: Path, copy: Path) -> Path:
    """A copy of the folder that shares the files, none of which is written to again, but no locks."""
    ignored = shutil.ignore_patterns("LOCK*", "readers", "reserve")
    return Path(shutil.copytree(path, copy, copy_function=os.link, ignore=ignored))


class Killed(BaseException):
    """The process ends here."""


class Death:
    """Comes before the n-th call of the functions that it was given."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return step(*arguments, **options)

        return run


@pytest.fixture
def short(tmp_path: Path) -> tuple[Path, dict[int, dict[str, Any]]]:
    """A store with a tag and more snapshots than it needs."""
    path, states = tmp_path / "short", {}
    with bt.open(path) as store:
        for number in range(5):
            lsn = change(store, number)
            states[lsn] = state(store)
            if number == 1:
                store.tag("early", lsn)
            shutil.copytree(path / "snapshots", tmp_path / "kept", dirs_exist_ok=True) if number > 1 else None
            store.checkpoint()
    shutil.copytree(tmp_path / "kept", path / "snapshots", dirs_exist_ok=True)
    return path, states


@pytest.mark.parametrize(
    ("made", "steps", "least"),
    [
        ("short", [(Path, "unlink"), (Path, "replace")], 5),
        ("long", [(gc, "write_snapshot"), (gc, "remove_segments"), (gc, "unneeded_snapshots")], 4),
    ],
)
def test_a_kill_at_any_step_loses_nothing(
    made: str,
    steps: list[tuple[Any, str]],
    least: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, states = request.getfixturevalue(made)
    killed, was_killed = 0, True
    while was_killed:
        work, dying = linked(path, tmp_path / "work"), Death(killed)
        with monkeypatch.context() as patch:
            store = bt.open(work)
            for room, name in steps:
                patch.setattr(room, name, dying(getattr(room, name)))
            try:
                store.gc(retention=0)
            except Killed:
                killed += 1
            else:
                was_killed = False
        image = linked(work, tmp_path / "image")
        store.close()
        with bt.open(image) as again:
            newest = again.info().lsn
            assert state(again) == states.get(newest, states[max(states)])
            early = again.at("early")
            assert state(early) == states[early.info().lsn]
            early.close()
            assert again.verify().ok
            again.gc(retention=0)
            assert on_disk(image) == listed(again) | listed(again.at("early"))
            assert segments(image) == segments(path)[-1:]
        for folder in (image, work):
            shutil.rmtree(folder)
    assert killed >= least


def test_strays_go_when_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        change(store, 0)
        young, old = path / "data/ticks/x.parquet", path / "data/bars/y.parquet"
        for stray in (young, old):
            stray.write_bytes(b"stray")
        os.utime(old, (0, time.time() - 7_200))
        assert (store.gc().orphans, old.exists(), young.exists()) == (1, False, True)
        assert (store.gc(grace_s=0).orphans, young.exists()) == (1, False)


def test_a_load_that_fails_leaves_no_files(tmp_path: Path, numbered_feed: Callable[..., Any]) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        rows = trades("A", [(0, "1"), (1, "2")]).append_column("sequence", [[1, 2]])
        numbered_feed(store, rows)
        before = on_disk(path)
        wrong = trades("A", [(0, "3"), (2, "2")]).append_column("sequence", [[1, 3]])
        with pytest.raises(bt.errors.SequenceConflictError):
            numbered_feed(store, wrong)
        assert on_disk(path) == before


def test_a_dry_run_changes_nothing_and_needs_no_lock(copied: tuple[Path, dict[int, Any]]) -> None:
    path, _ = copied
    before = contents(path)
    with bt.open(path, read_only=True) as reader:
        plan = reader.gc(retention=0, dry_run=True)
        assert plan.files > 0
        assert str(plan).startswith(f"store {path}, commit {plan.lsn}: would remove ")
        assert json.loads(json.dumps(plan.to_dict()))["dry_run"] is True
        with pytest.raises(StoreReadOnlyError):
            reader.gc()
        with pytest.raises(StoreReadOnlyError):
            reader.at(2).gc()
    assert contents(path) == before


def test_the_published_catalog_moves_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        store.ingest(trades("A", [(0, "1")]), feed="f")
        store.checkpoint()
        store.ingest(trades("A", [(1, "2")]), feed="f", mode="replace", start=0)
        assert store.gc(retention=0).files == 2
    with contextlib.closing(duckdb.connect(str(path / "catalog.duckdb"), read_only=True)) as client:
        assert client.execute("select count(*), max(close) from financial_data.bars").fetchall()[0][0] > 0


def test_info_tells_live_from_retained_bytes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bt.open(path) as store:
        store.ingest(trades("A", [(0, "1")]), feed="f")
        size = sum((path / file).stat().st_size for file in on_disk(path))
        assert (store.info().live_bytes, store.info().retained_bytes) == (size, 0)
        store.delete("A")
        assert (store.info().live_bytes, store.info().retained_bytes) == (0, size)
        assert f"{size / 1024:.1f} KiB of other versions" in str(store.info())
        report = store.gc(retention=0)
        assert report.bytes == size
        assert store.info().retained_bytes == 0


@pytest.mark.parametrize(
    "options", [{"retention": "soon"}, {"retention": -1}, {"grace_s": -1}, {"grace_s": float("nan")}]
)
def test_arguments_that_are_not_taken(tmp_path: Path, options: dict[str, Any]) -> None:
    with bt.open(tmp_path / "s") as store, pytest.raises(ArgumentError):
        store.gc(**options)
