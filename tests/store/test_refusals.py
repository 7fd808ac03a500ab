"""What the operating system refuses: a typed error, the lock let go, and nothing acknowledged lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

import backtestr as bt
from backtestr.errors import StoreIOError, StorePoisonedError
from backtestr.storage.journal import Journal
from backtestr.storage.layout import Layout
from backtestr.storage.snapshot import Version
from tests.store.test_merge import trades


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_store_that_cannot_be_made_can_be_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Layout, "name", refuse)
        with pytest.raises(StoreIOError, match=r"opening store .*Input/output error") as first:
            bt.open(tmp_path / "s")
    # the first error still holds its frames, and they may not hold the lock
    with bt.open(tmp_path / "s") as store:
        assert store.ingest(trades([(0, "1", "1")]), feed="f").accepted == 1
    assert first.value.__cause__ is not None


def test_a_writer_that_could_not_begin_begins_at_the_last_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bt.open(tmp_path / "s").close()
    with bt.open(tmp_path / "s") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "_sweep", refuse)
            with pytest.raises(StoreIOError, match="writing to store"):
                store.ingest(trades([(0, "1", "1")]), feed="f")
        with bt.open(tmp_path / "s") as other:
            other.ingest(trades([(0, "1", "1")]), feed="f")
        report = store.ingest(trades([(0, "1", "1"), (5, "2", "1")]), feed="f")
        assert (report.accepted, report.duplicate) == (1, 1)
        assert store.ticks("A").num_rows == 2


def test_a_commit_that_cannot_be_followed_stops_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bt.open(tmp_path / "s") as store:
        store.ingest(trades([(0, "1", "1")]), feed="f")
        with monkeypatch.context() as patch:
            apply = Version.apply
            patch.setattr(
                Version, "apply", lambda held, lsn, *rest: apply(held, lsn, *rest) if lsn == held.lsn else refuse()
            )
            with pytest.raises(StorePoisonedError):
                store.ingest(trades([(5, "2", "1")]), feed="f")
        # it is durable: another load from the version before would store the row twice
        with pytest.raises(StorePoisonedError):
            store.ingest(trades([(5, "2", "1")]), feed="f")
    with bt.open(tmp_path / "s") as store:
        assert store.ingest(trades([(5, "2", "1")]), feed="f").duplicate == 1
        assert store.ticks("A").num_rows == 2


def test_the_note_beside_the_lock_may_fail(tmp_path: Path) -> None:
    bt.open(tmp_path / "s").close()
    (tmp_path / "s" / "LOCK.json").mkdir()
    with bt.open(tmp_path / "s") as store:
        assert store.ingest(trades([(0, "1", "1")]), feed="f").accepted == 1
    with bt.open(tmp_path / "s") as store:
        assert store.ingest(trades([(0, "1", "1")]), feed="f").duplicate == 1
