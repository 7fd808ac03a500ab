"""What will be asked for next, by the requests so far: pure counts, without clock or chance.

Three rules make claims. *Run*: a symbol's windows have moved by the same stride again and again, so they go on. *Pair*:
on one symbol's window followed the same one of another symbol. *Habit*: on a window of one kind and length followed one
of another kind or place, whatever the symbol, such as an hour's ticks on the day's bars. How often each kind of claim
came true so far is its confidence.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Self

from backtestr.query.ahead.odds import Followers, Odds, hashed
from backtestr.query.ahead.strides import Stride

_STREAMS: Final = 256
_STEPS: Final = 3
"""Windows of a run that are foretold at once."""
_FAR: Final = 16
"""Windows that they are looked for in."""
_EMPTY: Final = 10
"""Windows without rows that a run passes over at most: a long weekend of days, a night of hours."""
_LEAST: Final = 0.3
"""Claims of less are of no use even to learn from."""
_SOON: Final = 4
"""Requests within which what follows must come; a run's next window may wait for other symbols' turn."""
_LATE: Final = 64
_NAMES: Final = 32
"""Requests for more symbols are not remembered between processes."""


class Asked(NamedTuple):
    """A request for rows: ticks, or bars of a timeframe, in [start, end) ns; no symbols are all of them."""

    kind: str
    symbols: tuple[str, ...]
    start: int
    end: int
    columns: tuple[str, ...] | None = None
    price: str | None = None

    @property
    def window(self) -> tuple[int, int]:
        """Start and end."""
        return self.start, self.end

    @property
    def stream(self) -> tuple[str, tuple[str, ...]]:
        """What it has in common with the windows before and after it."""
        return self.kind, self.symbols

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it the same request."""
        return *self.stream, *self.window

    def moved(self, window: tuple[int, int] | None) -> Asked | None:
        """The same for another window."""
        return None if window is None else self._replace(start=window[0], end=window[1])


Check = Callable[[Asked], bool]


class Prediction(NamedTuple):
    """A request that is likely to come, and how likely, from 0 to 1."""

    asked: Asked
    confidence: float


class _Run(NamedTuple):
    """The last window of a stream, the stride to it, and how often that was repeated."""

    last: Asked
    stride: Stride | None = None
    repeats: int = 0


class _Claim(NamedTuple):
    """What a rule says will be asked for."""

    asked: Asked
    rule: str
    share: float
    within: int


class Predictor:
    """Learns from requests in their order, and foretells the next ones.

    Args:
        has_rows: whether a request finds rows. A run passes over windows that have none.
        is_at_hand: whether they are in memory. A run's windows are foretold from the first one on that is not.

    Example:
        >>> model = Predictor()
        >>> for day in range(6):
        ...     found = model.observe(Asked("ticks", ("A",), day * 100, day * 100 + 100))
        >>> found[0].asked.window, found[0].confidence > 0.7
        ((600, 700), True)
    """

    def __init__(self, has_rows: Check = lambda _: True, is_at_hand: Check = lambda _: False) -> None:
        self._has_rows = has_rows
        self._is_at_hand = is_at_hand
        self._runs: OrderedDict[Any, _Run] = OrderedDict()
        self._pairs = Followers()
        self._habits = Followers()
        self._odds = Odds()
        self._lately: deque[tuple[Asked, set[Any]]] = deque(maxlen=_SOON)
        self._last_of: OrderedDict[tuple[str, ...], Asked] = OrderedDict()
        self._open: dict[Any, dict[str, _Claim]] = {}
        """Claims by the request that they claim, and by rule."""
        self._due: dict[int, list[Any]] = {}
        """The claims that are too late from a request on, by its number; some came true before."""
        self._count = 0

    def observe(self, asked: Asked) -> list[Prediction]:
        """Learn from a request, and foretell what comes after it, the most likely first."""
        self._count += 1
        self._settle(asked)
        run = self._learn(asked)
        best: dict[Any, Prediction] = {}
        for claim in self._claims(asked, run):
            if self._is_new(claim):
                confidence = self._odds.confidence(claim.rule, claim.share)
                if claim.asked.key not in best or best[claim.asked.key].confidence < confidence:
                    best[claim.asked.key] = Prediction(claim.asked, confidence)
        return sorted(best.values(), key=lambda found: -found.confidence)

    def _is_new(self, claim: _Claim) -> bool:
        """Note a claim; one that another kind of rule made already says nothing of its own rule."""
        rules = self._open.setdefault(claim.asked.key, {})
        if any(rule[:3] != claim.rule[:3] for rule in rules):
            return False
        if claim.rule not in rules:
            rules[claim.rule] = claim
            self._due.setdefault(self._count + claim.within + 1, []).append(claim)
        return True

    def _settle(self, asked: Asked) -> None:
        """Claims that came true, and those that it is too late for."""
        for claim in self._open.pop(asked.key, {}).values():
            self._odds.settle(claim.rule, claim.share, is_true=True)
        for claim in self._due.pop(self._count, ()):
            rules = self._open.get(claim.asked.key, {})
            if rules.get(claim.rule) is claim:
                self._odds.settle(claim.rule, claim.share, is_true=False)
                del rules[claim.rule]
                if not rules:
                    del self._open[claim.asked.key]

    def _learn(self, asked: Asked) -> _Run:
        for other, known in self._lately:
            if other.window == asked.window and other.kind == asked.kind and asked.symbols not in known:
                if other.symbols != asked.symbols:
                    self._pairs.followed(other.symbols, asked.symbols)
                known.add(asked.symbols)
        self._lately.append((asked, set()))
        self._pairs.met(asked.symbols)
        if (before := self._last_of.pop(asked.symbols, None)) is not None:
            self._habits.followed(_habit_of(before), (asked.kind, *Stride.between(before.window, asked.window)))
        self._habits.met(_habit_of(asked))
        _bounded(self._last_of, asked.symbols, asked)
        run = self._continued(asked)
        _bounded(self._runs, asked.stream, run)
        return run

    def _continued(self, asked: Asked) -> _Run:
        """The run that a request goes on with, or begins."""
        before = self._runs.pop(asked.stream, None)
        if before is None:
            return _Run(asked)
        if before.last.window == asked.window:
            return before._replace(last=asked)
        stride = Stride.between(before.last.window, asked.window)
        if stride == before.stride or self._passes_over(before, asked, stride):
            return _Run(asked, before.stride, before.repeats + 1)
        return _Run(asked, stride)

    def _passes_over(self, before: _Run, asked: Asked, stride: Stride) -> bool:
        """Whether only windows without rows are between a run and a request further on."""
        if before.stride is None or not before.stride.moves or before.stride.is_months != stride.is_months:
            return False
        if not 1 < stride.start / before.stride.start <= _EMPTY:
            return False
        found = self._next(before.last, before.stride)
        return found is not None and found.window == asked.window

    def _next(self, asked: Asked, stride: Stride) -> Asked | None:
        """The next window of a run that has rows."""
        for _ in range(_EMPTY):
            found = asked.moved(stride.after(asked.window))
            if found is None or self._has_rows(found):
                return found
            asked = found
        return None

    def _claims(self, asked: Asked, run: _Run) -> Iterator[_Claim]:
        if run.stride is not None and run.repeats:
            share = (run.repeats + 1) / (run.repeats + 2)
            for step, ahead in enumerate(itertools.islice(self._ahead(run.last, run.stride), _STEPS), 1):
                yield _Claim(ahead, f"run {step}", share, _LATE * step)
        for symbols, share in self._pairs.shares(asked.symbols):
            if share >= _LEAST:
                yield _Claim(asked._replace(symbols=symbols), "pair", share, _SOON)
        for (kind, *stride), share in self._habits.shares(_habit_of(asked)):
            if share >= _LEAST and (found := self._usual(asked, kind, Stride(*stride))) is not None:
                yield _Claim(found, "habit", share, _LATE)

    def _ahead(self, asked: Asked, stride: Stride) -> Iterator[Asked]:
        """The next windows of a run, from the first one on that is not at hand."""
        is_at_hand = True
        for _ in range(_FAR):
            if (following := self._next(asked, stride)) is None:
                return
            asked = following
            is_at_hand = is_at_hand and self._is_at_hand(asked)
            if not is_at_hand:
                yield asked

    def _usual(self, asked: Asked, kind: str, stride: Stride) -> Asked | None:
        """What a habit leads to, which is the same columns only of the same kind."""
        if kind == asked.kind:
            return self._next(asked, stride) if stride.moves else asked.moved(stride.after(asked.window))
        found = asked.moved(stride.after(asked.window))
        return None if found is None else found._replace(kind=kind, columns=None)

    def to_dict(self) -> dict[str, Any]:
        """What was learnt as plain values for JSON; claims that are open are left out."""
        runs = [
            [list(run.last), run.stride and list(run.stride), run.repeats]
            for run in self._runs.values()
            if len(run.last.symbols) <= _NAMES
        ]
        followers = {"pairs": self._pairs.to_list(), "habits": self._habits.to_list()}
        return {"runs": runs, "odds": self._odds.to_list(), **followers}

    @classmethod
    def from_dict(cls, state: dict[str, Any], *checks: Check) -> Self:
        """Go on from what `to_dict` gave, with the checks of a new one.

        Raises:
            Exception: it is something else.
        """
        made = cls(*checks)
        made._pairs = Followers.from_list(state["pairs"])
        made._habits = Followers.from_list(state["habits"])
        made._odds = Odds.from_list(state["odds"])
        for last, stride, repeats in state["runs"][-_STREAMS:]:
            asked = Asked(*map(hashed, last))
            made._runs[asked.stream] = _Run(asked, stride and Stride(*stride), int(repeats))
        return made


def _habit_of(asked: Asked) -> tuple[str, int]:
    return asked.kind, asked.end - asked.start


def _bounded(held: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Put what was asked for last behind the others, of which the first is dropped where there are too many."""
    held[key] = value
    if len(held) > _STREAMS:
        held.popitem(last=False)
