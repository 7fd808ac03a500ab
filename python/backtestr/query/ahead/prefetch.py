"""Reads in the background what the last requests foretell."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from backtestr.errors import BacktestrError
from backtestr.models import AheadStats
from backtestr.query.ahead.background import Background
from backtestr.query.ahead.passing import StoppedError
from backtestr.query.ahead.predict import Asked, Predictor
from backtestr.query.ahead.rows import Filling, has_rows, is_cached, rows_of
from backtestr.query.ahead.state import load_state, save_state
from backtestr.query.request import read_bars, read_ticks
from backtestr.storage import Storage
from backtestr.storage.read import Reader
from backtestr.storage.snapshot import Version
from backtestr.storage.waiting import WaitingGroups, waiting_bytes

_LOG = logging.getLogger(__name__)
_SURE: Final = 0.7
"""Confidence from which a prediction is read ahead."""
_OUTSTANDING: Final = 10
_EXPECTED: Final = 64
"""Requests within which a prediction must come true, or what was read for it is dropped."""
_WASTE: Final = 0.05
"""Share of the bytes read beyond which nothing is read ahead until it is less again."""
_ROW_BYTES: Final = 64
_FIRST: Final = 3
"""Requests before which there is no thread, as nothing can be foretold."""
_LAST: Final = 8
"""Requests that are thought about at once, the last ones."""
_PAUSE_S: Final = 0.02
"""While requests are answered from memory, the time from one thought about them to the next at least."""
_REST: Final = 20
"""And so many times as long as the thought took, in which the interpreter was not the caller's."""
_GAP_S: Final = 0.001
"""Who asks again sooner has no time to wait for thoughts, and all he needs in memory."""
_SYMBOLS: Final = 64
"""Requests for more, but not for all, are not learnt from."""
_ANSWERS: Final = 1_024
_SAVED: Final = 512
"""Requests after which what was learnt is saved; it is at the end, too."""


class ReadAhead:
    """Learns from a store's requests and has the next ones' rows wait: for `note`, the caller does no more than that.

    The thread begins with the third request and ends by `stop`. It refers to no `backtestr.Store`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._groups = storage.reader.groups
        self._groups.waiting = self._waiting = WaitingGroups(waiting_bytes(storage.settings))
        self._noted: deque[Any] = deque(maxlen=_LAST)
        # a finalizer may put into it whatever else its thread is at
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._read_before = 0
        self._noted_s = self._next_s = 0.0
        self._was_quiet = False
        self._mutex = threading.Lock()
        self._thread: Background | None = None
        self._is_stopped = False
        self._model = Predictor(self._has_rows, self._is_cached)
        self._version: Version | None = None
        self._with_rows: dict[Any, bool] = {}
        """What `_has_rows` found in that version, by symbols and window."""
        self._observed = self._saved = 0
        self._outstanding: OrderedDict[Any, tuple[int, int]] = OrderedDict()
        """The number of each prediction, and of the request that it was made after."""
        self._predictions = self._came_true = self._cancelled = 0
        self.is_idle = True

    def note(
        self,
        kind: str,
        symbols: str | Iterable[str] | None,
        window: tuple[int | None, int | None],
        columns: Iterable[str] | None = None,
        price: str | None = None,
    ) -> None:
        """A request was answered: ticks, or bars of a timeframe; a window that is open at an end foretells nothing."""
        if self._is_stopped or window[0] is None or window[1] is None:
            return
        if symbols is not None and not isinstance(symbols, str):
            # an iterator is used up, and a list may change; many names take their time to copy
            if not isinstance(symbols, list | tuple | set | frozenset) or len(symbols) > _SYMBOLS:
                return
            symbols = tuple(symbols)
        self._noted.append((kind, symbols, *window, None if columns is None else tuple(columns), price))
        read = self._groups.decoded_bytes + self._waiting.used_bytes
        before_s, self._noted_s = self._noted_s, time.monotonic()
        is_due = self._noted_s > self._next_s and self._noted_s - before_s > _GAP_S
        if is_due or (read != self._read_before and not self._was_quiet):
            self._read_before, self._next_s = read, math.inf
            self._calls.put(None)
            if self._thread is None and len(self._noted) >= _FIRST:
                self._begin()

    def stats(self) -> AheadStats:
        """What was read ahead, and what became of it."""
        return AheadStats(
            predictions=self._predictions,
            came_true=self._came_true,
            outstanding=len(self._outstanding),
            cancelled=self._cancelled,
            read_bytes=self._waiting.read_bytes,
            used_bytes=self._waiting.used_bytes,
            wasted_bytes=self._waiting.wasted_bytes,
        )

    def stop(self) -> None:
        """Read no more; does not wait."""
        self._is_stopped = True
        self._calls.put(None)

    def close(self) -> None:
        """Stop, and wait until what was learnt is saved."""
        self.stop()
        if self._thread is not None:
            self._thread.close()

    def _begin(self) -> None:
        with self._mutex:
            if self._thread is None and not self._is_stopped:
                self._thread = Background("backtestr-ahead", self._run, self.stop)

    def _run(self) -> None:
        try:
            self._load()
            while noted := self._wait():
                began = time.perf_counter()
                found = self._think(noted)
                self._read(found)
                spent_s = time.perf_counter() - began
                self._was_quiet = self._is_quiet()
                self._next_s = time.monotonic() + max(_PAUSE_S, _REST * spent_s)
        except Exception as error:
            _LOG.warning("reading ahead of %s ends: %s: %s", self._storage.layout.root, type(error).__name__, error)
        finally:
            self._is_stopped = True
            self._waiting.drop()
            self._save()

    def _wait(self) -> list[Any]:
        """The last requests that were not thought about, when there are some; none at the end."""
        noted: list[Any] = []
        while not (noted or self._is_stopped):
            self.is_idle = self._calls.empty()
            self._calls.get()
            self.is_idle = False
            while self._noted:
                noted.append(self._noted.popleft())
        return [] if self._is_stopped else noted

    def _think(self, noted: list[Any]) -> list[Asked]:
        """Learn from requests; what to read ahead."""
        found: list[Asked] = []
        for kind, symbols, start, end, columns, price in noted:
            names = (symbols,) if isinstance(symbols, str) else tuple(dict.fromkeys(symbols or ()))
            asked = Asked(kind, names, start, end, columns, price)
            self._observed += 1
            self._settle(asked)
            sure = (one.asked for one in self._model.observe(asked) if one.confidence >= _SURE)
            found = [one for one in sure if one.key not in self._outstanding]
        if self._observed >= self._saved + _SAVED:
            self._save()
        return found

    def _settle(self, asked: Asked) -> None:
        if (made := self._outstanding.pop(asked.key, None)) is not None:
            self._came_true += 1
            self._waiting.drop(made[0])
        for key, (number, after) in list(self._outstanding.items()):
            if after + _EXPECTED < self._observed:
                del self._outstanding[key]
                self._waiting.drop(number)

    def _read(self, found: list[Asked]) -> None:
        """Read what was foretold, the most likely first, until the caller asks for something else."""
        for place, asked in enumerate(found):
            if place and not self._calls.empty():
                self._cancelled += len(found) - place
                return
            if self._is_quiet():
                return
            size = rows_of(self._storage.journal.version, asked) * _ROW_BYTES
            if self._is_cached(asked) or size > self._waiting.max_bytes // 2:
                continue
            self._predictions += 1
            self._outstanding[asked.key] = self._predictions, self._observed
            if len(self._outstanding) > _OUTSTANDING:
                self._waiting.drop(self._outstanding.popitem(last=False)[1][0])
            self._fill(asked, self._predictions)

    def _fill(self, asked: Asked, number: int) -> None:
        keeper = Filling(self._waiting, self._groups, number, lambda: self._is_stopped)
        storage = replace(self._storage, reader=Reader(self._groups.through(keeper)))
        symbols = asked.symbols or None
        try:
            with self._storage.lease.newest() as version:
                if asked.kind == "ticks":
                    rows = read_ticks(storage, version, symbols, *asked.window, asked.columns)
                else:
                    rows = read_bars(storage, version, symbols, asked.kind, *asked.window, asked.price)
        except (BacktestrError, OSError, StoppedError):
            # whoever asks for it reads it, and meets what is wrong
            self._outstanding.pop(asked.key, None)
            self._cancelled += 1
            return
        finally:
            self._waiting.expect()
        if rows.num_rows == 0:
            # only the rows themselves told, so that a run passes over it from now on
            self._with_rows[asked.key[1:]] = False
            self._outstanding.pop(asked.key, None)
            self._predictions -= 1

    def _is_quiet(self) -> bool:
        """Whether too much was read for nothing."""
        read = self._groups.decoded_bytes + self._waiting.read_bytes
        return self._waiting.wasted_bytes > _WASTE * read

    def _has_rows(self, asked: Asked) -> bool:
        version = self._storage.journal.version
        if version is not self._version or len(self._with_rows) > _ANSWERS:
            self._version, self._with_rows = version, {}
        if asked.key[1:] not in self._with_rows:
            self._with_rows[asked.key[1:]] = has_rows(version, self._groups, self._waiting, asked)
        return self._with_rows[asked.key[1:]]

    def _is_cached(self, asked: Asked) -> bool:
        return is_cached(self._storage.journal.version, self._groups, asked)

    def _load(self) -> None:
        if (folder := self._storage.state) is not None and (state := load_state(folder)) is not None:
            self._model = Predictor.from_dict(state, self._has_rows, self._is_cached)

    def _save(self) -> None:
        self._saved = self._observed
        try:
            if (folder := self._storage.state) is not None:
                save_state(folder, self._model.to_dict())
        except (OSError, BacktestrError) as error:
            _LOG.warning("what was learnt of requests is not saved: %s", error)
