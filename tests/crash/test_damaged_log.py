"""A real log cut off at every byte, and with every byte changed; the same for a snapshot."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from backtestr._native import LogReader, crc32c
from backtestr.errors import LogCorruptError
from backtestr.storage import journal
from backtestr.storage.checkpoint import read_snapshot
from backtestr.storage.layout import Layout
from tests.crash.operations import OPERATIONS, Plan, State, states_of
from tests.crash.oracle import judge

_HEADER, _TRAILER, _LENGTH_AT = 64, 4, 44
_STORE_EVERY = 97
"""Of how many damages one is also shown to a whole store; the others to the log's reader alone."""
_PLAN: Plan = [
    ("tag", {"name": "one"}),
    ("set_bar_spec", {"excludes": ["W"]}),
    ("tag", {"name": "two"}),
    ("migrate", {"to": 1}),
    ("tag", {"name": "three"}),
]
_RECORDS = 1 + len(_PLAN)
_FIRST_OF_LAST_SEGMENT = 4


@dataclass(frozen=True)
class Frame:
    """Where a record is; each record of this log has one frame."""

    lsn: int
    path: Path
    start: int
    end: int


@dataclass(frozen=True)
class Log:
    """A store's log of two segments, and what its reader must say."""

    store: Path
    frames: list[Frame]
    records: list[tuple[int, int, bytes]]
    states: list[State]

    @property
    def folder(self) -> Path:
        return self.store / "log"

    @property
    def segments(self) -> list[Path]:
        return sorted({frame.path for frame in self.frames})

    def frame_at(self, path: Path, offset: int) -> Frame:
        return next(frame for frame in self.frames if frame.path == path and frame.start <= offset < frame.end)

    def read(self) -> list[tuple[int, int, bytes]]:
        return records_of(LogReader(self.folder, 0))


def records_of(log: LogReader) -> list[tuple[int, int, bytes]]:
    return [record for records in iter(log.read_segment, []) for record in records]


def frames_of(path: Path, first_lsn: int) -> list[Frame]:
    """The frames of a segment, by FORMAT.md."""
    data, at, frames = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + _LENGTH_AT)
        end = at + _HEADER + length + _TRAILER
        frames.append(Frame(first_lsn + len(frames), path, at, end))
        at = end
    return frames


@pytest.fixture(params=["closed", "not closed"])
def log(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(journal, "_PAUSE_S", 0.0)
    store = tmp_path / "store"
    with bt.open(store) as opened:
        for name, given in _PLAN:
            OPERATIONS[name].run(opened, given)
    first = store / "log" / f"{1:020}.log"
    frames = frames_of(first, 1)
    assert len(frames) == _RECORDS
    cut = frames[_FIRST_OF_LAST_SEGMENT - 1]
    # segments grow to 64 MiB: the second begins earlier here, where the format lets any segment begin
    second = store / "log" / f"{cut.lsn:020}.log"
    data = first.read_bytes()
    second.write_bytes(data[cut.start :])
    first.write_bytes(data[: cut.start])
    mark = store / "log" / "CLOSED"
    if request.param == "closed":
        whole = mark.read_bytes()
        mark.write_bytes(_marked(whole, cut.lsn))
    else:
        mark.unlink()
    frames = [*frames_of(first, 1), *frames_of(second, cut.lsn)]
    made = Log(store, frames, records_of(LogReader(store / "log", 0)), states_of(State(), _PLAN))
    assert [record[0] for record in made.records] == list(range(1, _RECORDS + 1))
    return made


def _marked(mark: bytes, first_lsn: int) -> bytes:
    body = mark[:8] + struct.pack("<Q", first_lsn) + mark[16:28]
    return body + struct.pack("<I", crc32c(body))


@contextmanager
def cut_off(path: Path) -> Iterator[Callable[[int], None]]:
    """Cut a file shorter and shorter, and restore it in the end."""
    whole = path.read_bytes()
    with path.open("r+b") as file:
        yield lambda size: os.truncate(file.fileno(), size)
    path.write_bytes(whole)


@contextmanager
def changed(path: Path, offset: int, bit: int) -> Iterator[None]:
    """Change a bit, and restore it in the end."""
    with path.open("r+b", buffering=0) as file:
        (byte,) = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), offset)
        yield
        os.pwrite(file.fileno(), bytes([byte]), offset)


def test_cut_off_at_every_byte(log: Log, figures: Counter[str]) -> None:
    figures.update(cuts=0)
    is_closed = (log.folder / "CLOSED").exists()
    for path in log.segments:
        is_torn_tail = path == log.segments[-1] and not is_closed
        with cut_off(path) as cut:
            for size in reversed(range(path.stat().st_size)):
                cut(size)
                figures["cuts"] += 1
                whole = [frame.lsn for frame in log.frames if frame.path < path or frame.end <= size]
                is_shown = figures["cuts"] % _STORE_EVERY == 0
                if is_torn_tail:
                    # a write that was not acknowledged, for all that is on disk
                    assert log.read() == log.records[: len(whole)]
                    if is_shown:
                        judge(log.store, [log.states[len(whole) - 1]])
                else:
                    named = {str(log.folder), str(path)}
                    assert _refusal(log.read)[0] in named
                    if is_shown:
                        _refusal(lambda: bt.open(log.store, read_only=True))
    assert log.read() == log.records


def test_every_byte_changed(log: Log, count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    random = Random(seed)
    figures.update(flips=0)
    bits = count("log_bits")
    for path in log.segments:
        for offset in range(path.stat().st_size):
            for bit in random.sample(range(8), bits):
                figures["flips"] += 1
                with changed(path, offset, bit):
                    frame = log.frame_at(path, offset)
                    assert _refusal(log.read) == (str(path), frame.start, frame.lsn - 1), f"bit {bit} of {offset}"
                    if figures["flips"] % _STORE_EVERY == 0:
                        _refusal(lambda: bt.open(log.store, read_only=True))
    assert log.read() == log.records


@pytest.mark.parametrize("log", ["closed"], indirect=True)
def test_every_byte_of_the_mark_changed_or_cut_off(log: Log, figures: Counter[str]) -> None:
    mark = log.folder / "CLOSED"
    for offset in range(mark.stat().st_size):
        for bit in range(8):
            with changed(mark, offset, bit):
                assert _refusal(log.read)[0] == str(mark)
            figures["flips"] += 1
    with cut_off(mark) as cut:
        for size in reversed(range(mark.stat().st_size)):
            cut(size)
            assert _refusal(log.read)[0] == str(mark)
            figures["cuts"] += 1


def test_a_snapshot_changed_or_cut_off_is_passed_over(
    tmp_path: Path, count: Callable[[str], int], seed: int, figures: Counter[str]
) -> None:
    random = Random(seed)
    plan: Plan = [("tag", {"name": "one"}), ("checkpoint", {}), ("set_bar_spec", {"excludes": ["W"]})]
    store = tmp_path / "store"
    with bt.open(store) as opened:
        for name, given in plan:
            OPERATIONS[name].run(opened, given)
    state = states_of(State(), plan)[-1]
    (path,) = (store / "snapshots").iterdir()
    layout = Layout(store)
    assert read_snapshot(layout, path) is not None
    figures.update(flips=0, cuts=0)

    def check() -> None:
        assert read_snapshot(layout, path) is None
        if figures.total() % _STORE_EVERY == 0:
            judge(store, [state])

    for offset in range(path.stat().st_size):
        for bit in random.sample(range(8), count("log_bits")):
            with changed(path, offset, bit):
                check()
            figures["flips"] += 1
    with cut_off(path) as cut:
        for size in reversed(range(path.stat().st_size)):
            cut(size)
            check()
            figures["cuts"] += 1
    judge(store, [state], is_deep=True)


_REFUSAL = re.compile(r"log (\S+): .* at offset (\d+); last good LSN is (\d+)", re.DOTALL)


def _refusal(act: Callable[[], object]) -> tuple[str, int, int]:
    """Path, offset and last good LSN that an act names when it finds the log damaged."""
    with pytest.raises(LogCorruptError) as raised:
        act()
    found = _REFUSAL.fullmatch(str(raised.value))
    assert found is not None, raised.value
    return found[1], int(found[2]), int(found[3])
