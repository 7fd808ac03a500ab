"""Starting workers, and ending them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.crash.worker import Order

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 120.0


class HungError(AssertionError):
    """A worker that did not end."""


class Forks:
    """Forks one worker at a time from a process that has everything imported; see `tests.crash.worker`."""

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.worker"],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        assert self._answer() == "ready"

    def start(self, order: Order) -> int:
        """Start a worker; gives its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(vars(order)).encode() + b"\n")
        return int(self._answer())

    def wait(self, pid: int, patience_s: float = _PATIENCE_S) -> int:
        """The worker's wait status, once it has ended.

        Raises:
            HungError: it did not end in time, and was killed.
        """
        try:
            return int(self._answer(patience_s))
        except TimeoutError:
            self.kill(pid)
            self._answer()
            raise HungError(f"worker {pid} did not end within {patience_s:.0f} s") from None

    def kill(self, pid: int) -> None:
        """Kill a worker that `wait` has not been called for; one that has just ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def has_ended(self, within_s: float) -> bool:
        """Whether the worker ends within some time."""
        return bool(select.select([self._process.stdout], [], [], within_s)[0])

    def _answer(self, patience_s: float = _PATIENCE_S) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience_s)[0]:
            raise TimeoutError
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self._process.stdout.read(1)
            assert byte, f"the process that forks workers ended; see {self._log.name}"
            line += byte
        return line.decode().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()
        self._log.close()
