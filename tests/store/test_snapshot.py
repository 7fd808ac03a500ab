"""Snapshots: opening without replaying, and passing over what is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr.errors import LogCorruptError, StoreReadOnlyError
from backtestr.storage import journal
from backtestr.storage.commit import INDEX, Commit
from backtestr.storage.listing import Listing
from backtestr.storage.snapshot import Version
from tests.store.test_history import change, state


def snapshots(path: Path) -> list[Path]:
    return sorted((path / "snapshots").iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a snapshot at its sixth commit and three commits behind it."""
    path = tmp_path / "s"
    with bt.open(path) as store:
        for number in range(5):
            change(store, number)
        assert store.checkpoint() == store.info().lsn == store.checkpoint()
        for number in range(5, 8):
            change(store, number)
    return path


def replayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the commits that are decoded from now on."""
    kinds: list[str] = []
    decode_all = Commit.decode_all

    def noting(payloads: Sequence[bytes]) -> list[Commit]:
        commits = decode_all(payloads)
        kinds.extend(commit.kind for commit in commits)
        return commits

    monkeypatch.setattr(journal.Commit, "decode_all", noting)
    return kinds


def without_snapshots(path: Path, tmp_path: Path) -> dict[str, object]:
    bare = tmp_path / "bare"
    shutil.copytree(path, bare)
    shutil.rmtree(bare / "snapshots")
    with bt.open(bare, read_only=True) as store:
        return state(store)


def test_a_store_opens_from_its_snapshot(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = without_snapshots(path, tmp_path)
    kinds = replayed(monkeypatch)
    with bt.open(path, read_only=True) as store:
        assert len(kinds) == store.info().lsn - int(snapshots(path)[0].stem) < store.info().lsn
        assert state(store) == expected


@pytest.mark.parametrize("read_only", [False, True])
def test_any_damage_to_a_snapshot_is_passed_over(path: Path, tmp_path: Path, *, read_only: bool) -> None:
    expected = without_snapshots(path, tmp_path)
    (file,) = snapshots(path)
    good = file.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 40)):
        for bad in (good[:at], good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]):
            file.write_bytes(bad)
            with bt.open(path, read_only=read_only) as store:
                assert state(store)["ticks"] == expected["ticks"]
    file.unlink()
    with bt.open(path, read_only=read_only) as store:
        assert state(store) == expected


def test_a_snapshot_of_another_store_is_passed_over(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with bt.open(other) as store:
        change(store, 0)
        expected = state(store)
    shutil.copytree(path / "snapshots", other / "snapshots")
    with bt.open(other) as store:
        assert state(store) == expected


def test_a_log_that_ends_before_the_snapshot_is_refused(path: Path, tmp_path: Path) -> None:
    early = tmp_path / "early"
    with bt.open(early) as store:
        change(store, 0)
    identity = json.loads((path / "STORE.json").read_text(encoding="utf-8"))
    (early / "STORE.json").write_text(json.dumps(identity), encoding="utf-8")
    shutil.copytree(path / "snapshots", early / "snapshots")
    with pytest.raises(LogCorruptError, match="ends before record"):
        bt.open(early)


def test_the_past_is_read_from_the_snapshot_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bt.open(path, read_only=True) as store:
        newest = store.info().lsn
        kinds = replayed(monkeypatch)
        before, after = store.at(3), store.at(newest - 1)
        assert len(kinds) == 3 + (newest - 1 - int(snapshots(path)[0].stem))
        assert (before.info().lsn, after.info().lsn) == (3, newest - 1)
        assert [row["lsn"] for row in store.history().to_pylist()] == list(range(1, newest + 1))


def test_closing_writes_one_after_many_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SNAPSHOT_EVERY", 3)
    path = tmp_path / "s"
    written = []
    for number in range(8):
        with bt.open(path) as store:
            change(store, number)
        if (path / "snapshots").exists():
            written.append(snapshots(path)[-1].name)
    assert len(set(written)) > 2
    assert len(snapshots(path)) == 2
    with bt.open(path, read_only=True) as store, pytest.raises(StoreReadOnlyError):
        store.checkpoint()


KEY = st.tuples(st.sampled_from("ABC"), st.sampled_from([None, "1m", "1d"]), st.sampled_from([None, "trade", "mid"]))


@given(st.lists(st.tuples(KEY, st.integers(-5, 5)), max_size=30))
def test_spans_are_those_of_their_key_by_time(rows: list[tuple[tuple[str, str | None, str | None], int]]) -> None:
    made = [
        {
            "file_id": "f",
            "symbol": symbol,
            "timeframe": timeframe,
            "price_basis": basis,
            "min_ns": low,
            "max_ns": low + 1,
            "first_row": number,
            **dict.fromkeys(("rows", "first_group", "groups", "min_sequence", "max_sequence"), 1),
            **dict.fromkeys(("trades", "bids", "asks", "composites"), 0),
        }
        for number, ((symbol, timeframe, basis), low) in enumerate(rows)
    ]
    files = pa.Table.from_pylist([{"file_id": "f", **FILE}], Version().files.schema)
    version = Version(1, 0, Listing.of(files, pa.Table.from_pylist(made, INDEX)))
    for key in {key for key, _ in rows} | {("A", None, None), ("Z", "1m", "mid")}:
        expected = sorted((low, number) for number, (other, low) in enumerate(rows) if other == key)
        found = version.listing.spans(key[0], timeframe=key[1], basis=key[2])
        assert [(span.min_ns, span.first_row) for span in found] == expected


FILE = {
    "table": "ticks",
    "interval": "2024-01",
    "path": "p",
    "bytes": 1,
    "rows": 1,
    "sha256": b"x" * 32,
    "footer_crc32c": 1,
}
