"""Readers of every kind beside a writer and clean-ups: each answer is one version's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.crash.soak import soak

MOST_LOCK_MS = 50
"""What the writer may wait for a lock that a reader holds."""


def test_soak(tmp_path: Path, count: Callable[[str], int], figures: Counter[str]) -> None:
    seconds = count("soak_seconds")
    found = soak(tmp_path / "s", seconds=seconds, readers=8)
    assert found["commits"] > seconds / 10
    assert sum(found["answers"].values()) > seconds
    assert found["longest_lock_ms"] <= MOST_LOCK_MS
    figures["seconds"] = round(found["seconds"])
    figures["commits"] = found["commits"]
    figures["answers"] = sum(found["answers"].values())
    figures["readers killed"] = found["killed"]
    figures["files removed beside them"] = found["removed"]["files"]
    figures["µs for the longest lock"] = round(1e3 * found["longest_lock_ms"])
