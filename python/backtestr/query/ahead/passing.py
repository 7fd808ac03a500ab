"""Row groups that a walk passes: kept from one read to the next, and not in the store's cache."""

from __future__ import annotations

from typing import Any

from backtestr._native import GroupCache


class StoppedError(Exception):
    """What is being read is not to be read, or no more."""


def add_cached(found: list[Any], cache: GroupCache | None, file_id: str, first: int) -> None:
    """Fill the gaps in groups of a file from ``first`` on with what the cache has, without counting that as demand."""
    if cache is None or all(held is not None for held in found):
        return
    for place, is_held in enumerate(cache.holds(file_id, first, first + len(found))):
        if is_held and found[place] is None:
            at = first + place
            found[place] = cache.get(file_id, at, at + 1, counted=False)[0]


class Passing:
    """The row groups of the last two reads; others come from the store's cache if they are there.

    A read often ends within a group, which the next one begins with.

    Args:
        cache: the store's, which is left as it is; None for none.
    """

    def __init__(self, cache: GroupCache | None) -> None:
        self._cache = cache
        self._now: dict[tuple[str, int], Any] = {}
        self._before: dict[tuple[str, int], Any] = {}

    def turn(self) -> None:
        """The next read begins."""
        self._before, self._now = self._now, {}

    def get(self, file_id: str, first: int, stop: int) -> list[Any]:
        """What is held of each group of a file from ``first`` to before ``stop``, or None."""
        found = [self._held((file_id, group)) for group in range(first, stop)]
        add_cached(found, self._cache, file_id, first)
        return found

    def put(self, file_id: str, group: int, rows: Any, bytes: int) -> None:  # noqa: A002, ARG002 - as a cache's
        """Hold a group until the read behind the next."""
        self._now[file_id, group] = rows

    def trim(self) -> None:
        """A turn drops what is of no more use."""

    def _held(self, place: tuple[str, int]) -> Any:
        held = self._now.get(place) or self._before.get(place)
        if held is not None:
            self._now[place] = held
        return held
