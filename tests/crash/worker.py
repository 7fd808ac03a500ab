"""The process that is killed: it does a plan to a store and notes each step outside of it.

``python -m tests.crash.worker`` reads orders, one JSON line each, and forks a worker for each of them: everything is
imported by then, so that a worker begins within milliseconds. It answers with the worker's pid and, once that has
ended, with its wait status.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
import pkgutil
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.compute
import pyarrow.parquet

import backtestr as bt
from backtestr.errors import BacktestrError, StorePoisonedError
from tests.crash.operations import OPERATIONS, Plan

_PRELOADED = (duckdb, pyarrow.compute, pyarrow.parquet)
_PAUSE_S = 0.001


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker is to do.

    Attributes:
        store: the store's folder.
        diary: the file of its notes, outside the store.
        plan: the operations.
        wait_before: the step (``open``, ``close`` or an operation's number) before which the worker waits for the
            file ``<diary>.go``, while something is attached to it.
        is_serial: do without the threads that write files, so that the order of system calls is always the same.
        retries: do a step that raised a typed error once more.
        max_file_bytes: the size that no file may pass.
    """

    store: str
    diary: str
    plan: Plan
    wait_before: str | None = None
    is_serial: bool = False
    retries: bool = False
    max_file_bytes: int | None = None


class Worker:
    """Does one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._diary = os.open(order.diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._store: bt.Store | None = None

    def work(self) -> None:
        """Open, do the plan, close."""
        if self._order.is_serial:
            importlib.import_module("backtestr.ingest.encode").ThreadPoolExecutor = _Serial
        self._step("open", self._open)
        for number, (name, given) in enumerate(self._order.plan):
            self._step(str(number), lambda name=name, given=given: OPERATIONS[name].run(self._opened(), given))
        self._step("close", lambda: self._opened().close())

    def _open(self) -> None:
        self._store = bt.open(self._order.store, threads=1, memory_limit="64MB")

    def _opened(self) -> bt.Store:
        assert self._store is not None
        return self._store

    def _step(self, step: str, act: Callable[[], None]) -> None:
        if step == self._order.wait_before:
            self._wait()
        self._note("begin", step)
        before = None if self._store is None else self._store._version().lsn
        try:
            act()
        except BacktestrError as error:
            self._note("failed", f"{step} {type(error).__name__}: {error}")
            if before is not None and not isinstance(error, StorePoisonedError) and self._has_committed(before):
                self._note("broken", f"{step} failed and was committed")
            if not self._order.retries:
                raise SystemExit(0) from None
            self._retry(step, act)
        except BaseException as error:
            self._note("broken", f"{step} {type(error).__name__}: {error}")
            raise
        else:
            self._note("done", step)

    def _has_committed(self, lsn: int) -> bool:
        """Whether what the store holds was changed since a version; a flush only moves rows to files."""
        store = self._opened()
        if store.refresh() == lsn:
            return False
        later = itertools.chain.from_iterable(store._readable().journal.records_after(lsn))
        return any(commit.kind != "flush" for *_, commit in later)

    def _retry(self, step: str, act: Callable[[], None]) -> None:
        try:
            act()
        except BacktestrError as error:
            self._note("failed", f"retry-{step} {type(error).__name__}: {error}")
            raise SystemExit(0) from None
        except BaseException as error:
            self._note("broken", f"retry-{step} {type(error).__name__}: {error}")
            raise
        self._note("done", step)

    def _wait(self) -> None:
        self._note("wait", self._order.wait_before or "")
        go = Path(f"{self._order.diary}.go")
        while not go.exists():
            time.sleep(_PAUSE_S)
        if self._order.max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._order.max_file_bytes, resource.RLIM_INFINITY))

    def _note(self, word: str, text: str) -> None:
        # one write for each line: a kill leaves it whole or not there
        os.write(self._diary, f"{word} {text}\n".replace("\r", " ").encode())


class _Serial(Executor):
    """A pool whose work is done by the caller, at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(act(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def serve() -> None:
    """Fork a worker for each order."""
    for module in pkgutil.walk_packages(bt.__path__, "backtestr."):
        if not module.name.startswith(("backtestr.cli", "backtestr.__main__")):
            importlib.import_module(module.name)
    # at its first array pyarrow looks for pandas, which takes half a second
    pyarrow.array([0])
    answers = os.dup(1)
    os.dup2(2, 1)
    os.set_inheritable(answers, False)
    os.write(answers, b"ready\n")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            status = 1
            try:
                Worker(Order(**json.loads(line))).work()
                status = 0
            except SystemExit:
                status = 0
            finally:
                os._exit(status)
        os.write(answers, f"{pid}\n".encode())
        os.write(answers, f"{os.waitpid(pid, 0)[1]}\n".encode())


if __name__ == "__main__":
    serve()
