"""How much the rigs do (CRASH_PROFILE=ci or long), and their figures at the end of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.forks import Forks

COUNTS = {
    "kills": {"ci": 300, "long": 10_000},
    "points": {"ci": 500, "long": 1_000_000},
    "log_bits": {"ci": 1, "long": 8},
    "flips": {"ci": 1_000, "long": 10_000},
    "short_writes": {"ci": 3, "long": 200},
    "fills": {"ci": 4, "long": 300},
    "cuts": {"ci": 20, "long": 200},
    "soak_seconds": {"ci": 15, "long": 1_800},
    "versions": {"ci": 25, "long": 2_000},
}
"""What each rig does, by profile; CRASH_KILLS=500 and the like override one."""
_FIGURES: dict[str, Counter[str]] = {}


@pytest.fixture
def count() -> Callable[[str], int]:
    """How many of something to do."""
    profile = os.environ.get("CRASH_PROFILE", "ci")
    return lambda what: int(os.environ.get(f"CRASH_{what.upper()}", COUNTS[what][profile]))


@pytest.fixture
def seed() -> int:
    """The seed of what is drawn; the same seed draws the same plans."""
    return int(os.environ.get("CRASH_SEED", "7"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Counter[str]:
    """What a rig did and found; printed at the end of the run."""
    return _FIGURES.setdefault(request.node.name, Counter())


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    """Where workers come from."""
    with Forks(tmp_path / "workers.log") as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FIGURES:
        terminalreporter.section("crash rigs")
    for rig, found in _FIGURES.items():
        terminalreporter.write_line(f"{rig}: " + ", ".join(f"{count:,} {what}" for what, count in found.items()))
