"""A clock that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterable


class Clock:
    """Gives ns: every second reading is later than the one before by the next of some durations."""

    def __init__(self, took: Iterable[int]) -> None:
        self._took = list(took)[::-1]
        self._runs = False
        self.at = 0

    @property
    def is_done(self) -> bool:
        """Whether all durations were taken."""
        return not self._took

    def __call__(self) -> int:
        if self._runs and self._took:
            self.at += self._took.pop()
        self._runs = not self._runs
        return self.at
