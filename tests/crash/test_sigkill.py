"""A worker killed at random moments, many times on one store: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tests.crash.forks import Forks
from tests.crash.operations import OPERATIONS, Plan, State, draw_plan, states_of
from tests.crash.oracle import Diary, judge
from tests.crash.worker import Order

_STORES = 2
"""Killed side by side."""
_KILLS_PER_STORE = 30
_DEEP_EVERY = 25
_MOST = 40
"""Operations in a plan: more than a worker gets done before it is killed."""
_CREATING = 5
"""How many times longer than one operation it may take to create a store."""


def test_sigkill(tmp_path: Path, count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    with ThreadPoolExecutor(_STORES) as pool:
        share = functools.partial(_kill_many, tmp_path, count("kills") // _STORES)
        for found in pool.map(share, range(seed, seed + _STORES)):
            figures.update(found)


def _kill_many(folder: Path, kills: int, seed: int) -> Counter[str]:
    mine = folder / str(seed)
    mine.mkdir()
    with Forks(mine / "workers.log") as forks:
        rig = _Rig(mine, forks, Random(seed))
        for number in range(1, kills + 1):
            rig.kill(is_deep=number % _DEEP_EVERY == 0)
            if number % _KILLS_PER_STORE == 0:
                rig.begin_anew()
    return rig.figures


class _Rig:
    """A store that is killed again and again, and what must be in it."""

    def __init__(self, folder: Path, forks: Forks, random: Random) -> None:
        self.figures = Counter[str](dict.fromkeys(("kills", "acknowledged", "in doubt", "of which kept"), 0))
        self._store, self._diary = folder / "store", folder / "diary"
        self._forks, self._random = forks, random
        self._state, self._again, self._longest_s = State(), Plan(), 0.1

    def begin_anew(self) -> None:
        """Forget the store."""
        shutil.rmtree(self._store, ignore_errors=True)
        self._state, self._again = State(), Plan()

    def kill(self, *, is_deep: bool) -> None:
        """Let a worker go on with the store, kill it, and judge what it leaves."""
        plan = self._again + draw_plan(self._random, states_of(self._state, self._again)[-1], _MOST)
        states = states_of(self._state, plan)
        diary = self._run(plan)
        assert not diary.broken, diary.broken
        assert not diary.failed, diary.failed
        if not self._is_there():
            assert not diary.done
            return
        at = diary.acknowledged
        place = judge(self._store, states[at : at + 1 + diary.in_doubt], is_deep=is_deep)
        self._state = states[at + place]
        # whoever was not told that it succeeded asks again
        self._again = [plan[at]] if diary.in_doubt and OPERATIONS[plan[at][0]].can_be_retried else []
        self.figures.update({"acknowledged": at, "in doubt": diary.in_doubt, "of which kept": place})

    def _run(self, plan: Plan) -> Diary:
        self._diary.unlink(missing_ok=True)
        is_there = self._is_there()
        pid = self._forks.start(Order(str(self._store), str(self._diary), plan))
        if not self._forks.has_ended(self._random.uniform(0, self._longest_s * (1 if is_there else _CREATING))):
            self._forks.kill(pid)
        self._forks.wait(pid)
        self.figures["kills"] += 1
        diary = Diary.read(self._diary)
        if is_there:
            # as many kills before the first acknowledgement as after it, however fast the machine is
            self._longest_s *= 0.95 if diary.acknowledged else 1.05
        return diary

    def _is_there(self) -> bool:
        return (self._store / "STORE.json").exists()
