"""A worker killed at random moments, many times on one store: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.crash.forks import Forks
from tests.crash.operations import OPERATIONS, Plan, State, draw_plan, states_of
from tests.crash.oracle import Diary, judge
from tests.crash.worker import Order

KILLS_PER_STORE = 30
DEEP_EVERY = 10
LONGEST_S = 0.25
LONGEST_CREATING_S = 1.5
_MOST = 40
"""Operations in a plan: more than a worker gets done before it is killed."""


def test_sigkill(tmp_path: Path, forks: Forks, count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    random = Random(seed)
    figures.update(kills=0, acknowledged=0, in_doubt=0, kept=0, lost=0, duplicated=0)
    for kill in range(count("kills")):
        if kill % KILLS_PER_STORE == 0:
            shutil.rmtree(tmp_path / "store", ignore_errors=True)
            state, again = State(), Plan()
        state, again = _round(random, tmp_path, forks, state, again, kill, figures)


def _round(
    random: Random, folder: Path, forks: Forks, state: State, again: Plan, kill: int, figures: Counter[str]
) -> tuple[State, Plan]:
    """Kill once and judge; gives the state the store is in, and what to ask for again."""
    states = states_of(state, again)
    plan = again + draw_plan(random, states[-1], _MOST)
    states = states_of(state, plan)
    diary_path = folder / "diary"
    diary_path.unlink(missing_ok=True)
    is_there = (folder / "store" / "STORE.json").exists()
    pid = forks.start(Order(str(folder / "store"), str(diary_path), plan))
    if not forks.has_ended(random.uniform(0, LONGEST_S if is_there else LONGEST_CREATING_S)):
        os.kill(pid, signal.SIGKILL)
    forks.wait(pid)
    diary = Diary.read(diary_path)
    assert not diary.broken, diary.broken
    assert not diary.failed, diary.failed
    figures.update(kills=1, acknowledged=diary.acknowledged, in_doubt=diary.in_doubt)
    if not (is_there or diary.done or (folder / "store" / "STORE.json").exists()):
        return state, []
    at = diary.acknowledged
    place = judge(folder / "store", states[at : at + 1 + diary.in_doubt], is_deep=kill % DEEP_EVERY == DEEP_EVERY - 1)
    figures["kept"] += diary.in_doubt and place
    if not diary.in_doubt or not OPERATIONS[plan[at][0]].can_be_retried:
        return states[at + place], []
    # whoever was not told that it succeeded asks again
    return states[at + place], [plan[at]]
