"""Row groups that were read before anybody asked for them, until those that they were read for are past."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from backtestr.config import Settings

Place = tuple[str, int]
"""A row group: the id of its file, and its number there."""

_SHARE: Final = 8

_LONGEST_S: Final = 0.05
"""How long a group that is being read is waited for; it takes a few ms."""
_QUICK: Final = 8
"""Of more groups that are read at once, none is waited for."""


def waiting_bytes(settings: Settings) -> int:
    """What may wait of a walk, or of what is foretold: an eighth of the memory for rows."""
    return settings.hot_cache_bytes // _SHARE


@dataclass(slots=True)
class _Waiting:
    held: Any
    bytes: int
    owners: set[int]
    is_used: bool = False


class WaitingGroups:
    """Row groups apart from the cache, within a budget of bytes, each with the numbers of those it waits for.

    Safe to share between threads.

    Args:
        max_bytes: the budget; what came first goes first where there is no room.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = self.read_bytes = self.used_bytes = self.wasted_bytes = 0
        self._groups: OrderedDict[Place, _Waiting] = OrderedDict()
        self._coming: set[Place] = set()
        self.being_read: set[Place] = set()
        """Groups that somebody asked for and is reading."""
        self._mutex = threading.Lock()
        self._arrived = threading.Condition(self._mutex)

    def put(self, place: Place, held: Any, size: int, owner: int) -> None:
        """Have a group wait that so many bytes were decoded for."""
        with self._mutex:
            before = self._groups.get(place)
            owners = before.owners if before else set()
            self._drop(place)
            self._coming.discard(place)
            self._arrived.notify_all()
            self._groups[place] = _Waiting(held, size, owners | {owner})
            self.bytes += size
            self.read_bytes += size
            while self.bytes > self.max_bytes:
                self._drop(next(iter(self._groups)))

    def share(self, place: Place, owner: int) -> Any:
        """A group that waits for one owner more from now on; None if it is not there."""
        with self._mutex:
            if (waiting := self._groups.get(place)) is None:
                return None
            waiting.owners.add(owner)
            return waiting.held

    def expect(self, places: Collection[Place] = ()) -> None:
        """Just these groups are being read now: who asks for one waits for it, instead of reading it once more."""
        with self._mutex:
            self._coming = set(places if len(places) <= _QUICK else ())
            self._arrived.notify_all()

    def arrived(self, place: Place) -> Any:
        """A group that waits, if need be as soon as it is read, or None."""
        if place in self._coming:
            with self._mutex:
                self._arrived.wait_for(lambda: place not in self._coming, _LONGEST_S)
        return self.peek(place)

    def peek(self, place: Place) -> Any:
        """A group that waits, or None."""
        waiting = self._groups.get(place)
        return None if waiting is None else waiting.held

    def use(self, place: Place) -> None:
        """A group was asked for; it goes on waiting for its owners."""
        with self._mutex:
            waiting = self._groups.get(place)
            if waiting is not None and not waiting.is_used:
                waiting.is_used = True
                self.used_bytes += waiting.bytes

    def drop(self, owner: int | None = None) -> None:
        """Let go what waits for one owner alone, or all."""
        with self._mutex:
            for place, waiting in list(self._groups.items()):
                waiting.owners.discard(owner or 0)
                if owner is None or not waiting.owners:
                    self._drop(place)

    def _drop(self, place: Place) -> None:
        if (waiting := self._groups.pop(place, None)) is not None:
            self.bytes -= waiting.bytes
            self.wasted_bytes += 0 if waiting.is_used else waiting.bytes
