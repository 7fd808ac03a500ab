"""The power cut at random moments on real file systems; and without syncs, where data must be lost.

What a kill cannot show: a killed process leaves its writes in the system's memory, and a power cut does not.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from backtestr.errors import BacktestrError
from tests.crash.forks import Forks
from tests.crash.mounts import Image, why_not
from tests.crash.operations import FIRST, Plan, Row, State, draw_plan, states_of
from tests.crash.oracle import Diary, judge
from tests.crash.worker import Order

_CUTS_PER_STORE = 20
_DEEP_EVERY = 10
_CUTS_FOR_XFS = 50
_LONGEST_S = 0.3
_LONGEST_CREATING_S = 1.5
_MOST = 40
_PAUSE_S = 0.002
_GRACE_S = 0.05
"""For the worker to meet the errors of a file system that is gone."""


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cut(
    tmp_path: Path, forks: Forks, kind: str, count: Callable[[str], int], seed: int, figures: Counter[str]
) -> None:
    if (reason := why_not(kind)) is not None:
        pytest.skip(reason)
    cuts = count("cuts")
    if kind == "xfs" and cuts < _CUTS_FOR_XFS:
        pytest.skip("the short run cuts ext4's power only; make crash cuts that of xfs, too")
    random, state = Random(seed), State()
    figures.update({"cuts": 0, "acknowledged": 0, "in doubt": 0})
    with Image(tmp_path, kind) as disk:
        for cut in range(cuts):
            if cut % _CUTS_PER_STORE == 0:
                shutil.rmtree(disk.place / "store", ignore_errors=True)
                state = State()
            state = _cut(random, tmp_path, disk, forks, state, cut, figures)


def _cut(
    random: Random, folder: Path, disk: Image, forks: Forks, state: State, cut: int, figures: Counter[str]
) -> State:
    """Cut the power once and judge; gives the state the store is in."""
    store, diary_path = disk.place / "store", folder / "diary"
    plan = draw_plan(random, state, _MOST)
    states = states_of(state, plan)
    diary_path.unlink(missing_ok=True)
    is_there = (store / "STORE.json").exists()
    pid = forks.start(Order(str(store), str(diary_path), plan))
    forks.has_ended(random.uniform(0, _LONGEST_S if is_there else _LONGEST_CREATING_S))
    # from here on an acknowledgement may come when the power is gone
    diary = Diary.read(diary_path)
    disk.cut_power()
    late = Diary.read(diary_path)
    if not forks.has_ended(_GRACE_S):
        forks.kill(pid)
    forks.wait(pid)
    assert not (broken := Diary.read(diary_path).broken), broken
    disk.restart()
    figures.update({"cuts": 1, "acknowledged": diary.acknowledged, "in doubt": diary.in_doubt})
    if "open" not in diary.done:
        bt.open(store).close()
    allowed = states[diary.acknowledged : late.acknowledged + 2]
    with bt.open(store) as opened:
        opened.checkpoint()
    return allowed[judge(store, allowed, is_deep=cut % _DEEP_EVERY == _DEEP_EVERY - 1)]


_CONTROL: Plan = [("ingest", {"rows": [Row("AAA", FIRST, 10**8, 10**8, None)], "mode": "merge"})]
_ROUNDS = 3


@pytest.mark.parametrize(
    ("left_out", "plan"), [("nothing", []), ("nothing", _CONTROL), ("folders", []), ("all", _CONTROL)]
)
def test_syncs_left_out_lose_what_was_acknowledged(
    tmp_path: Path, left_out: str, plan: Plan, figures: Counter[str]
) -> None:
    """The control: if it lost nothing without syncs, a run that loses nothing with them would prove nothing."""
    if (reason := why_not("ext4")) is not None:
        pytest.skip(reason)
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed")
    shim = tmp_path / "no_fsync.so"
    source = Path(__file__).with_name("no_fsync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    environment = {} if left_out == "nothing" else {"LD_PRELOAD": str(shim), "LEAVE_OUT": left_out}
    figures.update(cuts=0, lost=0)
    with Forks(tmp_path / "workers.log", environment) as forks, Image(tmp_path, "ext4") as disk:
        for number in range(_ROUNDS):
            store, diary = disk.place / f"store{number}", tmp_path / f"diary{number}"
            pid = forks.start(Order(str(store), str(diary), plan, wait_before="close"))
            while not (diary.exists() and "wait close" in diary.read_text(encoding="utf-8")):
                time.sleep(_PAUSE_S)
            disk.cut_power()
            forks.kill(pid)
            forks.wait(pid)
            disk.restart()
            figures.update(cuts=1, lost=_is_lost(store, states_of(State(), plan)[-1]))
    assert figures["lost"] == (0 if left_out == "nothing" else _ROUNDS)


def _is_lost(store: Path, state: State) -> bool:
    try:
        judge(store, [state])
    except (AssertionError, BacktestrError):
        return True
    return False
