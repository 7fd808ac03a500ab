"""Reads in the background what the last requests foretell."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from backtestr.errors import BacktestrError
from backtestr.models import AheadStats
from backtestr.query.ahead.background import Background
from backtestr.query.ahead.predict import Asked, Predictor
from backtestr.query.ahead.rows import Filling, StoppedError, has_rows, rows_of
from backtestr.query.ahead.state import load_state, save_state
from backtestr.query.request import read_bars, read_ticks
from backtestr.storage import Storage
from backtestr.storage.read import Reader
from backtestr.storage.waiting import WaitingGroups

_LOG = logging.getLogger(__name__)
_SURE: Final = 0.7
"""Confidence from which a prediction is read ahead."""
_OUTSTANDING: Final = 10
_EXPECTED: Final = 64
"""Requests within which a prediction must come true, or what was read for it is dropped."""
_WASTE: Final = 0.05
"""Share of the bytes read beyond which nothing is read ahead until it is less again."""
_SHARE: Final = 8
"""What waits takes an eighth of the memory for rows at most."""
_ROW_BYTES: Final = 64
_FIRST: Final = 3
"""Requests before which there is no thread, as nothing can be foretold."""
_BUSY: Final = 8
"""Requests in one go from which on their rows come from memory, and there is nothing to read ahead of them."""
_REST: Final = 10
"""Thinking takes a tenth of the time at most, or a caller who asks again and again would wait for the interpreter."""
_MOST_REST_S: Final = 0.005
_SAVED: Final = 512
"""Requests after which what was learnt is saved; it is at the end, too."""


class ReadAhead:
    """Learns from a store's requests and has the next ones' rows wait: for `note`, the caller does no more than that.

    The thread begins with the third request and ends by `stop`. It refers to no `backtestr.Store`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._groups = storage.reader.groups
        self._groups.waiting = self._waiting = WaitingGroups(storage.settings.hot_cache_bytes // _SHARE)
        # a finalizer may put into it whatever else its thread is at
        self._noted: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._thread: Background | None = None
        self._is_stopped = False
        self._model = Predictor(self._has_rows)
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
            # an iterator is used up, and a list may change
            if not isinstance(symbols, list | tuple | set | frozenset):
                return
            symbols = tuple(symbols)
        self._noted.put((kind, symbols, *window, columns and tuple(columns), price))
        if self._thread is None and self._noted.qsize() >= _FIRST:
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
        self._noted.put(None)

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
            while (noted := self._next()) and not self._is_stopped:
                began = time.perf_counter()
                found = self._think(noted)
                thought_s = time.perf_counter() - began
                self._read(found)
                time.sleep(min(thought_s * _REST, _MOST_REST_S))
        except Exception as error:
            _LOG.warning("reading ahead of %s ends: %s: %s", self._storage.layout.root, type(error).__name__, error)
        finally:
            self._is_stopped = True
            self._waiting.drop()
            self._save()

    def _next(self) -> list[Any]:
        """All requests that were noted meanwhile; none at the end."""
        self.is_idle = self._noted.empty()
        noted = [self._noted.get()]
        self.is_idle = False
        while not self._noted.empty():
            noted.append(self._noted.get())
        return [] if None in noted else noted

    def _think(self, noted: list[Any]) -> list[Asked]:
        """Learn from requests; what to read ahead."""
        found: list[Asked] = []
        for kind, symbols, start, end, columns, price in noted[-_BUSY:]:
            names = (symbols,) if isinstance(symbols, str) else tuple(dict.fromkeys(symbols or ()))
            asked = Asked(kind, names, start, end, columns, price)
            self._observed += 1
            self._settle(asked)
            sure = (one.asked for one in self._model.observe(asked) if one.confidence >= _SURE)
            found = [one for one in sure if one.key not in self._outstanding]
        if self._observed >= self._saved + _SAVED:
            self._save()
        return found if len(noted) < _BUSY else []

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
            if place and not self._noted.empty():
                self._cancelled += len(found) - place
                return
            if self._is_quiet():
                return
            if not rows_of(self._storage.journal.version, asked) * _ROW_BYTES <= self._waiting.max_bytes // 2:
                continue
            self._predictions += 1
            self._outstanding[asked.key] = self._predictions, self._observed
            if len(self._outstanding) > _OUTSTANDING:
                self._waiting.drop(self._outstanding.popitem(last=False)[1][0])
            self._fill(asked, self._predictions)

    def _fill(self, asked: Asked, number: int) -> None:
        keeper = Filling(self._waiting, self._groups, number, lambda: self._is_stopped)
        storage = replace(self._storage, reader=Reader(self._groups.through(keeper, threads=1)))
        symbols = asked.symbols or None
        try:
            with self._storage.lease.newest() as version:
                if asked.kind == "ticks":
                    read_ticks(storage, version, symbols, *asked.window, asked.columns)
                else:
                    read_bars(storage, version, symbols, asked.kind, *asked.window, asked.price)
        except (BacktestrError, OSError, StoppedError):
            # whoever asks for it meets what is wrong
            self._outstanding.pop(asked.key, None)
            self._cancelled += 1

    def _is_quiet(self) -> bool:
        """Whether too much was read for nothing."""
        read = self._groups.decoded_bytes + self._waiting.read_bytes
        return self._waiting.wasted_bytes > _WASTE * read

    def _has_rows(self, asked: Asked) -> bool:
        return has_rows(self._storage.journal.version, self._groups, self._waiting, asked)

    def _load(self) -> None:
        if (folder := self._storage.state) is not None and (state := load_state(folder)) is not None:
            self._model = Predictor.from_dict(state, self._has_rows)

    def _save(self) -> None:
        self._saved = self._observed
        try:
            if (folder := self._storage.state) is not None:
                save_state(folder, self._model.to_dict())
        except (OSError, BacktestrError) as error:
            _LOG.warning("what was learnt of requests is not saved: %s", error)
