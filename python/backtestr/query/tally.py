"""What is remembered of requests that are alike, and the file that it is kept in."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from backtestr.models import Timeframe

SLOW_NS: Final = 100_000_000
"""A run that takes longer is slow."""
MAX_KINDS: Final = 500
MAX_FILE_BYTES: Final = 1 << 20
_RECENT: Final = 32
_SLOW_KEPT: Final = 8
_FORMAT: Final = 1
_MOST: Final = 1 << 62
"""Two of them still fit in 64 bits."""
_TRIES, _PAUSE_S = 20, 0.005


class Run(NamedTuple):
    """One run of a request."""

    took_ns: int
    rows: int
    """Rows of its answer."""
    units: int
    """What its time is judged by: values of a request's answer, bytes of a statement's files."""


class SlowRead(NamedTuple):
    """What a run that was slow read."""

    table: str
    start: int | None
    """First instant, in ns; None where nothing bounds it."""
    end: int | None
    took_ns: int


@dataclass(slots=True)
class Tally:
    """The runs of one kind of request."""

    family: str
    """Requests whose time grows alike: ``ticks``, ``bars`` or ``sql``."""
    timeframes: tuple[str, ...] = ()
    """Those of a request for bars; of a statement those that it has computed."""
    runs: int = 0
    total_ns: int = 0
    slow_runs: int = 0
    slow_ns: int = 0
    slowest_ns: int = 0
    last_ns: int = 0
    """When the last one ended, in ns since 1970."""
    recent: list[Run] = field(default_factory=list)
    """The newest runs, oldest first."""
    slow: list[SlowRead] = field(default_factory=list)

    def add(self, run: Run, ended_ns: int, slow: Iterable[SlowRead] = ()) -> None:
        """Count a run."""
        self.runs += 1
        self.total_ns += run.took_ns
        if run.took_ns > SLOW_NS:
            self.slow_runs += 1
            self.slow_ns += run.took_ns
            self.slow = [*self.slow, *slow][-_SLOW_KEPT:]
        self.slowest_ns = max(self.slowest_ns, run.took_ns)
        self.last_ns = max(self.last_ns, ended_ns)
        self.recent.append(run)
        del self.recent[:-_RECENT]

    def join(self, later: Tally) -> None:
        """Count the runs of another tally of the same kind."""
        self.runs += later.runs
        self.total_ns += later.total_ns
        self.slow_runs += later.slow_runs
        self.slow_ns += later.slow_ns
        self.slowest_ns = max(self.slowest_ns, later.slowest_ns)
        self.last_ns = max(self.last_ns, later.last_ns)
        self.recent = [*self.recent, *later.recent][-_RECENT:]
        self.slow = [*self.slow, *later.slow][-_SLOW_KEPT:]
        self.timeframes = later.timeframes or self.timeframes

    @property
    def median_ns(self) -> float:
        """What the newest runs took."""
        return statistics.median(run.took_ns for run in self.recent)

    @property
    def median_rows(self) -> int:
        """Rows of their answers."""
        return int(statistics.median(run.rows for run in self.recent))

    def to_list(self) -> list[Any]:
        """All of it for the file."""
        counts = [self.runs, self.total_ns, self.slow_runs, self.slow_ns, self.slowest_ns, self.last_ns]
        return [self.family, list(self.timeframes), counts, self.recent, self.slow]

    @classmethod
    def of_list(cls, values: Any) -> Tally:
        """What `to_list` gave.

        Raises:
            ValueError: it did not give that.
            TypeError: it did not give that.
        """
        family, timeframes, counts, recent, slow = values
        runs, total_ns, slow_runs, slow_ns, slowest_ns, last_ns = map(_count, counts)
        if not runs or not recent:
            raise ValueError("no run")
        return cls(
            _text(family),
            tuple(str(Timeframe.parse(_text(timeframe))) for timeframe in timeframes),
            runs,
            total_ns,
            slow_runs,
            slow_ns,
            slowest_ns,
            last_ns,
            recent=_runs(recent),
            slow=[
                SlowRead(_text(table), _instant(low), _instant(high), _count(took)) for table, low, high, took in slow
            ],
        )


Tallies = dict[str, Tally]
"""By the kind of request; see `backtestr.query.alike`."""


def join_all(old: Tallies, later: Mapping[str, Tally]) -> None:
    """Count what came later, and forget those kinds that were asked for longest ago where there are too many."""
    for kind, tally in later.items():
        known = old.pop(kind, None) or Tally(tally.family)
        known.join(tally)
        old[kind] = known
    if len(old) > MAX_KINDS:
        for kind in sorted(old, key=lambda kind: old[kind].last_ns)[:-MAX_KINDS]:
            del old[kind]


def read_tallies(path: Path) -> Tallies:
    """What a file keeps; nothing of one that is not there, or damaged."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return {}
        kept = json.loads(path.read_bytes())
        if kept["format"] != _FORMAT:
            return {}
        return {_text(kind): Tally.of_list(values) for kind, values in kept["requests"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return {}


def keep_tallies(path: Path, more: Mapping[str, Tally]) -> bool:
    """Add to what a file keeps, beside other processes that do; False where that could not be."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            kept = read_tallies(path)
            join_all(kept, more)
            try:
                draft.write_bytes(_written(kept))
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
    except (OSError, ValueError):
        # A home that cannot be written to, or a full disk, costs the history and nothing else.
        return False
    return True


def _written(tallies: Tallies) -> bytes:
    """The newest kinds that the file has room for."""
    lines: list[bytes] = []
    room = MAX_FILE_BYTES - 100
    for kind in sorted(tallies, key=lambda kind: tallies[kind].last_ns, reverse=True):
        line = f"{json.dumps(kind)}: {json.dumps(tallies[kind].to_list())}".encode()
        room -= len(line) + 2
        if room < 0:
            break
        lines.append(line)
    return b'{"format": %d, "requests": {\n' % _FORMAT + b",\n".join(lines) + b"\n}}\n"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The turn to write.

    Raises:
        OSError: another process has it, and kept it.
    """
    import fcntl

    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:  # noqa: PTH123 - a mode of its own
        for tries in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tries == _TRIES - 1:
                    raise
                time.sleep(_PAUSE_S)
        yield


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError("no count")
    return value


def _runs(values: Any) -> list[Run]:
    """Thousands of them are read at once, so all are checked together."""
    numbers = [number for run in values for number in run]
    if set(map(type, numbers)) != {int} or min(numbers) < 0 or max(numbers) >= _MOST:
        raise ValueError("no run")
    return [Run(*run) for run in values]


def _instant(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not -_MOST <= value < _MOST):
        raise ValueError("no instant")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    value.encode()
    return value
