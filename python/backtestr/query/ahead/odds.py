"""Counts of what followed on what, and of how often predictions came true."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, Final

_TRIALS: Final = 64.0
"""Beyond so many, all counts are halved: what was lately matters most."""
_CONTEXTS: Final = 512
_FOLLOWERS: Final = 8
_PRIOR: Final = 2.0
"""So many imagined outcomes, at the share that a rule claims, stand before those that were seen."""


class Followers:
    """What followed on each of many things, and how often: of the things asked for lately, the most frequent ones."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, tuple[float, dict[Hashable, float]]] = OrderedDict()

    def met(self, what: Hashable) -> None:
        """It happened once more."""
        trials, found = self._counts.pop(what, (0.0, {}))
        trials += 1
        if trials > _TRIALS:
            trials, found = trials / 2, {name: count / 2 for name, count in found.items() if count > 1}
        self._counts[what] = trials, found
        if len(self._counts) > _CONTEXTS:
            self._counts.popitem(last=False)

    def followed(self, what: Hashable, other: Hashable) -> None:
        """Something followed on it, once for each time that it is `met`."""
        trials, found = self._counts.get(what, (0.0, {}))
        if trials:
            found[other] = found.get(other, 0.0) + 1
            if len(found) > _FOLLOWERS:
                del found[min(found, key=lambda name: (found[name], name != other))]

    def shares(self, what: Hashable) -> Iterator[tuple[Any, float]]:
        """What may follow on what was just `met`, with the share of the times before, by the rule of succession."""
        trials, found = self._counts.get(what, (1.0, {}))
        for other, count in found.items():
            yield other, (count + 1) / (trials + 1)

    def to_list(self) -> list[Any]:
        """All counts as plain values."""
        return [[what, trials, list(found.items())] for what, (trials, found) in self._counts.items()]

    @classmethod
    def from_list(cls, rows: list[Any]) -> Followers:
        """Read back what `to_list` gave, through JSON or not."""
        made = cls()
        for what, trials, found in rows[-_CONTEXTS:]:
            counts = {hashed(other): float(count) for other, count in found[:_FOLLOWERS]}
            made._counts[hashed(what)] = float(trials), counts
        return made


class Odds:
    """How often what a rule claims came true, for claims of about the same share."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}

    def confidence(self, rule: str, share: float) -> float:
        """The share as it turned out so far; the rule's own where nothing did."""
        hits, trials = self._seen.get((rule, _bin(share)), (0.0, 0.0))
        return (hits + _PRIOR * share) / (trials + _PRIOR)

    def settle(self, rule: str, share: float, *, is_true: bool) -> None:
        """A claim came true, or did not."""
        key = rule, _bin(share)
        hits, trials = self._seen.get(key, (0.0, 0.0))
        if trials >= _TRIALS:
            hits, trials = hits / 2, trials / 2
        self._seen[key] = hits + is_true, trials + 1

    def to_list(self) -> list[Any]:
        """All counts as plain values."""
        return [[*key, *seen] for key, seen in self._seen.items()]

    @classmethod
    def from_list(cls, rows: list[Any]) -> Odds:
        """Read back what `to_list` gave."""
        made = cls()
        for rule, place, hits, trials in rows[:_CONTEXTS]:
            if not 0 <= hits <= trials <= _TRIALS:
                raise ValueError("counts that cannot be")
            made._seen[str(rule), int(place)] = float(hits), float(trials)
        return made


def hashed(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(hashed, value)) if isinstance(value, list) else value


def _bin(share: float) -> int:
    return int(share * 10)
