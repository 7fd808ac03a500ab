"""A kill, and an error, at every system call that a store makes: it is as before or as after, and nothing between."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

import backtestr as bt
from tests.crash.forks import Forks
from tests.crash.operations import OPERATIONS
from tests.crash.oracle import POISONED, Diary, judge
from tests.crash.scenarios import SCENARIOS, lay_out
from tests.crash.strace import Call, inject, record, why_not
from tests.crash.worker import Order

_MOST_MISSED = 0.05
"""Share of the calls that may not come, because a run took another way than the one recorded."""
LIMITS = range(1_000, 40_000)
"""Bytes that no file may pass: fewer and more than what a scenario writes to one."""


@dataclass(frozen=True)
class Point:
    """One fault at one call of a scenario."""

    scenario: str
    call: Call
    fault: str


@dataclass(frozen=True)
class Bench:
    """Where points are run."""

    folder: Path
    forks: Forks

    def order(self, name: str) -> Order:
        """A worker's order for a scenario, on a fresh store."""
        scenario, diary = SCENARIOS[name], self.folder / "diary"
        diary.unlink(missing_ok=True)
        store = lay_out(scenario, self.folder)
        return Order(str(store), str(diary), scenario.plan, scenario.step, is_serial=True, retries=True)

    @classmethod
    @contextlib.contextmanager
    def made(cls, folder: Path) -> Iterator[Bench]:
        """A bench in a new folder."""
        folder.mkdir()
        with Forks(folder / "workers.log") as forks:
            yield cls(folder, forks)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench.made(tmp_path / "bench") as made:
        yield made


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[list[Bench]]:
    """Two, to run points at side by side."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Bench.made(tmp_path / "one") as one, Bench.made(tmp_path / "other") as other:
        yield [one, other]


def test_a_fault_at_every_system_call(
    benches: list[Bench], count: Callable[[str], int], seed: int, figures: Counter[str]
) -> None:
    calls = {name: record(benches[0].forks, benches[0].order(name), benches[0].folder / "trace") for name in SCENARIOS}
    assert all(calls.values())
    points = [Point(name, call, fault) for name in calls for call in calls[name] for fault in call.faults()]
    chosen = sampled(points, count("points"), Random(seed))
    shares = [chosen[number :: len(benches)] for number in range(len(benches))]
    wrong = []
    with ThreadPoolExecutor(len(benches)) as pool:
        for found, failed in pool.map(run_all, benches, shares):
            figures.update(found)
            wrong += failed
    figures["points known"] = len(points)
    assert not wrong, "\n".join(wrong)
    missed = sum(number for what, number in figures.items() if what.endswith("not met"))
    assert missed <= len(chosen) * _MOST_MISSED, f"{missed} of {len(chosen)} calls did not come as recorded"


def run_all(bench: Bench, points: list[Point]) -> tuple[Counter[str], list[str]]:
    """Run points; gives how they went, and what went wrong."""
    found: Counter[str] = Counter()
    wrong = []
    for point in points:
        try:
            found[f"{'kills' if point.fault == 'KILL' else 'errors'}, {run(bench, point)}"] += 1
        except AssertionError as error:
            wrong.append(f"{point}: {error}")
        found["points run"] += 1
    return found, wrong


def test_short_writes(bench: Bench, count: Callable[[str], int], seed: int, figures: Counter[str]) -> None:
    """A write that comes to the size that files may have is cut short there; the next one fails."""
    random = Random(seed)
    scenarios = [name for name, one in SCENARIOS.items() if one.start != "full" and one.step != "close"]
    for scenario, _ in itertools.product(scenarios, range(count("short_writes"))):
        limit = random.choice(LIMITS)
        order = dataclasses.replace(bench.order(scenario), retries=False, max_file_bytes=limit)
        Path(f"{order.diary}.go").touch()
        assert bench.forks.wait(bench.forks.start(order)) == 0
        diary = Diary.read(Path(order.diary))
        assert not diary.broken, diary.broken
        is_in_doubt = any(error.startswith(POISONED) for error in diary.failed.values())
        allowed = SCENARIOS[scenario].states[diary.acknowledged :][: 1 + is_in_doubt]
        figures["failed" if diary.failed else "succeeded"] += 1
        bt.open(order.store).close()
        judge(Path(order.store), allowed)


def sampled(points: list[Point], number: int, random: Random) -> list[Point]:
    """A choice that has every kind of call with every fault, and every scenario with every fault, before others."""
    points = random.sample(points, len(points))
    kinds = {(point.call.name, point.fault): point for point in points}
    scenarios = {(point.scenario, point.fault): point for point in points}
    return list(dict.fromkeys([*kinds.values(), *scenarios.values(), *points]))[:number]


def run(bench: Bench, point: Point) -> str:
    """Run a point and judge the store; says in which of its states it is."""
    order = bench.order(point.scenario)
    status, is_met = inject(bench.forks, order, point.call, point.fault, bench.folder / "trace")
    diary = Diary.read(Path(order.diary))
    assert not diary.broken, diary.broken
    states = SCENARIOS[point.scenario].states
    if not (is_met and point.fault == "KILL"):
        assert status == 0, f"ended with {status}"
        _check_failures(diary)
        if not diary.failed:
            assert "close" in diary.done
    allowed = states[diary.acknowledged : diary.acknowledged + 1 + diary.in_doubt]
    with bt.open(order.store) as store:
        # the next writer comes to terms with what it finds, and goes on
        store.tag("after")
    tag = [OPERATIONS["tag"].apply(state, {"name": "after"}) for state in allowed]
    place = judge(Path(order.store), tag)
    if not is_met:
        return "not met"
    return ("in doubt and kept" if place else "in doubt and gone") if diary.in_doubt else "acknowledged"


def _check_failures(diary: Diary) -> None:
    """A step that failed poisoned the writer, or changed nothing and succeeds when it is done again."""
    for step, error in diary.failed.items():
        if step.startswith("retry-"):
            assert error.startswith(POISONED), error
        elif error.startswith(POISONED) and step.isdecimal():
            assert f"retry-{step}" in diary.failed, f"a poisoned writer went on after: {error}"
        else:
            assert step in diary.done, f"not done again after: {error}"
