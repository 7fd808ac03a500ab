"""A disk that fills up: a typed error, and nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from tests.crash.forks import Forks
from tests.crash.mounts import small_tmpfs, why_not
from tests.crash.operations import State, draw_plan, states_of
from tests.crash.oracle import POISONED, Diary, judge
from tests.crash.worker import Order

_DISK_BYTES = 24 << 20
_FREE = [(16 << 10, 1 << 20), (1 << 20, 1_300 << 10), (2 << 20, 2_300 << 10)]
"""Bytes left free, from and to: too few for the log to grow, and enough for some commits before the disk is full."""
_FILLS_PER_STORE = 6
_OPERATIONS = 60


def test_disk_full(tmp_path: Path, forks: Forks, count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    if (reason := why_not("tmpfs")) is not None:
        pytest.skip(reason)
    random, state = Random(seed), State()
    figures.update(fills=0, acknowledged=0, refused=0)
    with small_tmpfs(tmp_path, _DISK_BYTES) as disk:
        for fill in range(count("fills")):
            store, ballast = disk / "store", disk / "ballast"
            if fill % _FILLS_PER_STORE == 0:
                shutil.rmtree(store, ignore_errors=True)
                state = State()
            free = random.randint(*random.choice(_FREE))
            ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))
            state = _fill(random, tmp_path, store, forks, state, ballast, figures)


def _fill(
    random: Random, folder: Path, store: Path, forks: Forks, state: State, ballast: Path, figures: Counter[str]
) -> State:
    """Work until the disk is full, make room, and judge; gives the state the store is in."""
    plan = draw_plan(random, state, _OPERATIONS)
    states = states_of(state, plan)
    diary_path = folder / "diary"
    diary_path.unlink(missing_ok=True)
    assert forks.wait(forks.start(Order(str(store), str(diary_path), plan))) == 0
    diary = Diary.read(diary_path)
    assert not diary.broken, diary.broken
    for error in diary.failed.values():
        assert error.startswith(("StoreIOError", *POISONED)), error
    figures.update(fills=1, acknowledged=diary.acknowledged, refused=len(diary.failed))
    ballast.unlink()
    if not diary.done:
        bt.open(store).close()
    at = diary.acknowledged
    with bt.open(store) as opened:
        opened.checkpoint()
    # what was refused before it came to the log is not in doubt
    is_in_doubt = any(error.startswith(POISONED) for error in diary.failed.values())
    allowed = states[at : at + 1 + is_in_doubt]
    return allowed[judge(store, allowed, is_deep=True)]
