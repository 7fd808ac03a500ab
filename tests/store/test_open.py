"""Opening, locking, reading beside a writer, damage."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

import backtestr as bt
from backtestr import machine
from backtestr.errors import (
    DataCorruptError,
    NetworkFilesystemError,
    StoreClosedError,
    StoreFormatError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from backtestr.storage import session
from tests.store.test_merge import trades


def write_elsewhere(path: str, answer: multiprocessing.Queue[str]) -> None:
    try:
        with bt.open(path) as store:
            store.ingest(trades([(0, "1", "1")]), feed="f")
            answer.put("wrote")
    except StoreLockedError as error:
        answer.put(str(error))


def test_one_writer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with bt.open(tmp_path / "s") as store:
        store.ingest(trades([(0, "1", "1")]), feed="f")
        answer: multiprocessing.Queue[str] = context.Queue()
        process = context.Process(target=write_elsewhere, args=(str(tmp_path / "s"), answer))
        process.start()
        assert str(os.getpid()) in answer.get(timeout=60)
        process.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = bt.open(path)
    store.ingest(trades([(0, "1", "1")]), feed="f")
    ready, started = os.pipe()
    stop, go_on = os.pipe()
    child = os.fork()
    if child == 0:
        refused = False
        try:
            store.symbols()
        except StoreClosedError:
            refused = True
        os.write(started, b"1" if refused else b"0")
        os.read(stop, 1)
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"1"
        # The child's close is not the parent's: the lock still stands.
        assert (path / "LOCK.json").exists()
        context = multiprocessing.get_context("spawn")
        answers = []
        for _ in range(2):
            answer: multiprocessing.Queue[str] = context.Queue()
            process = context.Process(target=write_elsewhere, args=(str(path), answer))
            process.start()
            answers.append(answer.get(timeout=60))
            process.join()
            store.close()
        assert f"process {os.getpid()}" in answers[0]
        assert answers[1] == "wrote"
    finally:
        os.write(go_on, b"1")
        os.waitpid(child, 0)
        for end in (ready, started, stop, go_on):
            os.close(end)


def test_a_reader_beside_the_writer(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s") as writer:
        writer.ingest(trades([(0, "1", "1")]), feed="f")
        with bt.open(tmp_path / "s", read_only=True) as reader:
            writer.ingest(trades([(5, "2", "1")]), feed="f")
            assert reader.ticks("A").num_rows == 1
            reader.refresh()
            assert reader.ticks("A").num_rows == 2
            with pytest.raises(StoreReadOnlyError):
                reader.delete("A")


def test_reopening_finds_everything(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s") as store:
        store.ingest(trades([(0, "1", "1"), (70, "2", "3")]), feed="f")
        before = store.ticks().to_pylist(), store.bars("A", "1m").to_pylist(), store.info().lsn
    with bt.open(tmp_path / "s") as store:
        assert before == (store.ticks().to_pylist(), store.bars("A", "1m").to_pylist(), store.info().lsn)
        copy = pickle.loads(pickle.dumps(store))
        assert copy.ticks().to_pylist() == before[0]
        copy.close()


def test_a_new_store_is_durable_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, synced = tmp_path / "s", list[tuple[str, bool]]()

    def note(path: Path) -> None:
        synced.append((str(Path(path).relative_to(tmp_path)), (root / "STORE.json").exists()))

    monkeypatch.setattr(session, "sync_file", note)
    monkeypatch.setattr(session, "sync_folder", note)
    bt.open(root).close()
    files = sorted((root / "data" / "empty").iterdir())
    assert files
    assert all((f"s/data/empty/{path.stem}.new", False) in synced for path in files)
    assert synced[-1] == ("s/data/empty", False)


def test_what_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        bt.open(tmp_path / "none", read_only=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    for name in ("file", "full"):
        with pytest.raises(StoreFormatError):
            bt.open(tmp_path / name)
        with pytest.raises(StoreNotFoundError):
            bt.open(tmp_path / name, read_only=True)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "x"


def test_use_after_close(tmp_path: Path) -> None:
    store = bt.open(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(StoreClosedError):
        store.symbols()


def test_a_damaged_file_is_never_read(tmp_path: Path) -> None:
    with bt.open(tmp_path / "s") as store:
        store.ingest(trades([(i, str(i + 1), "1") for i in range(2000)]), feed="f")
        right = store.ticks().to_pylist()
    (path,) = (tmp_path / "s" / "data" / "ticks").rglob("*.parquet")
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with bt.open(tmp_path / "s", read_only=True) as store:
            with pytest.raises(DataCorruptError):
                store.sql("select sum(price) from ticks")
            with contextlib.suppress(DataCorruptError):
                assert store.ticks().to_pylist() == right


def test_network_file_systems_are_refused_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path / "our share"
    octal = str(shared).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/data {octal} nfs4 rw 0 0\n", encoding="utf-8")
    assert machine.filesystem(tmp_path, mounts) == "ext4"
    assert machine.filesystem(shared / "store", mounts) == "nfs4"
    assert machine.filesystem(shared, tmp_path / "none") is None
    monkeypatch.setattr(machine, "filesystem", lambda _: "nfs4")
    with pytest.raises(NetworkFilesystemError, match="nfs4"):
        bt.open(shared / "store")
    assert not shared.exists()
    bt.open(shared / "store", network_fs="allow").close()
