"""A full disk stops the writer and loses nothing; a disk that cannot be written to is read."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import backtestr as bt
from backtestr.errors import StoreFullError, StorePoisonedError
from backtestr.storage import reserve
from tests.store.test_gc import on_disk
from tests.store.test_history import change, state, trades


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(["/bin/mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(place)], check=True)


def test_a_read_only_mount_is_read_without_a_lease(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = small_disk / "s"
    with bt.open(path) as store:
        change(store, 0)
        store.delete(store.symbols())
        expected, past = state(store), state(store.at(2))
    subprocess.run(["/bin/mount", "-o", "remount,ro", str(small_disk)], check=True)
    with bt.open(path, read_only=True) as reader:
        assert [("only retention keeps" in record.message) for record in caplog.records] == [True]
        assert state(reader) == expected
        assert state(reader.at(2)) == past
        assert reader.refresh() == reader.info().lsn
        assert reader.verify().ok
        assert reader.gc(retention=0, dry_run=True).files == 2


def fill(place: Path, left: int) -> Path:
    """Leave so many bytes of a disk free."""
    ballast = place / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - left)
    return ballast


@pytest.mark.parametrize("left", [0, 65_536])
@pytest.mark.parametrize("verb", ["ingest", "checkpoint", "delete"])
def test_a_full_disk_stops_the_writer_and_loses_nothing(small_disk: Path, left: int, verb: str) -> None:
    path = small_disk / "s"
    with bt.open(path) as store:
        rows = [(minute, f"{minute % 97 + 1}.{minute % 89:02}") for minute in range(40_000)]
        store.ingest(trades("A", rows), feed="f")
        store.ingest(trades("B", rows[:2_000]), feed="f")
        assert (path / "reserve").stat().st_blocks * 512 == reserve.BYTES
        expected, size = state(store), len(on_disk(path))
        fill(small_disk, left)
        assert shutil.disk_usage(small_disk).free <= left
        acts: dict[str, Callable[[], Any]] = {
            "ingest": lambda: store.ingest(trades("C", rows * 12), feed="f"),
            "checkpoint": store.checkpoint,
            "delete": lambda: store.delete("A", end=60_000_000_000),
        }
        try:
            acts[verb]()
        except StoreFullError as error:
            stopped = str(error)
        else:
            stopped = ""
            expected, size = state(store), len(on_disk(path))
        # what little is left can be enough
        assert stopped or left or verb == "checkpoint"
        if stopped:
            assert "the disk is full" in stopped
            assert not (path / "reserve").exists()
            with pytest.raises(StorePoisonedError, match="full"):
                store.delete("B")
        assert state(store) == expected
        assert len(on_disk(path)) == size
    assert (path / "log" / "CLOSED").exists()
    with bt.open(path) as store:
        assert state(store) == expected
        assert store.verify().ok
        store.delete("B")
        assert store.gc(retention=0).files > 0
        store.delete(store.symbols())
        assert store.gc(retention=0).files > 0
        assert store.info().live_bytes == 0
        assert on_disk(path) == set()
        (small_disk / "ballast").unlink()
    with bt.open(path) as store:
        store.ingest(trades("C", rows), feed="f")
        assert (path / "reserve").stat().st_blocks * 512 == reserve.BYTES


def test_there_is_no_reserve_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with bt.open(tmp_path / "s") as store:
        change(store, 0)
        assert not (tmp_path / "s" / "reserve").exists()
        monkeypatch.undo()
        monkeypatch.setattr(reserve.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 5 * reserve.BYTES))
    with bt.open(tmp_path / "s") as store:
        change(store, 1)
        assert not (tmp_path / "s" / "reserve").exists()
        monkeypatch.undo()
    with bt.open(tmp_path / "s") as store:
        change(store, 3)
        assert (tmp_path / "s" / "reserve").stat().st_size == reserve.BYTES


def test_appends_on_a_full_disk_keep_what_was_acknowledged(small_disk: Path) -> None:
    path, draw, acknowledged = small_disk / "s", random.Random(3), 0
    with bt.open(path) as store:
        change(store, 0)
        before = store.info().ticks
        fill(small_disk, 8 * 1024**2)
        for number in range(1_000):
            rows = [(minute, f"{draw.randrange(10**9)}.{draw.randrange(10**8)}") for minute in range(20_000)]
            try:
                acknowledged += store.append(trades("L", rows), feed="live", batch_id=str(number)).accepted
            except StoreFullError:
                break
        assert 0 < acknowledged < 20_000_000
        assert store.info().ticks == before + acknowledged
        with pytest.raises(StorePoisonedError, match="full"):
            store.append(trades("L", rows), feed="live")
    with bt.open(path) as store:
        assert store.info().ticks == before + acknowledged
        assert store.verify().ok
        (small_disk / "ballast").unlink()
    with bt.open(path) as store:
        assert store.append(trades("L", rows), feed="live", batch_id=str(number)).accepted == 20_000
        store.checkpoint()
        assert store.info().ticks == before + acknowledged + 20_000
        assert store.verify(deep=True).ok
