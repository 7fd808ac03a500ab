"""Which system calls a worker makes on its store, and making one of them kill it or fail."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.crash.forks import Forks
from tests.crash.worker import Order

WRITES = ("write", "pwrite64", "writev")
SYSCALLS = (
    *WRITES,
    *("fsync", "fdatasync", "ftruncate", "fallocate", "openat", "mkdir", "mkdirat"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat"),
)
"""Every call by which a store changes what is on disk, or opens what is there."""
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_STRACE = shutil.which("strace")
_PAUSE_S = 0.002
_DIES = "signal=KILL"
FAULTS = {
    "KILL": _DIES,
    "EIO": "error=EIO",
    "ENOSPC": "error=ENOSPC",
    "EDQUOT": "error=EDQUOT",
    "nothing written": "retval=0",
}
"""What is done to a call; ``nothing written`` is the shortest of short writes."""


@dataclass(frozen=True, order=True)
class Call:
    """The n-th call of a kind that a thread of the worker made on its store."""

    name: str
    number: int

    def faults(self) -> list[str]:
        return [fault for fault in FAULTS if fault != "nothing written" or self.name in WRITES]


@functools.cache
def why_not() -> str | None:
    """Why system calls cannot be traced here; None where they can."""
    if _STRACE is None:
        return "strace is not installed"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        command = [_STRACE, "-p", str(idle.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            idle.kill()
    return None if "attached" in said else f"strace may not attach to a process: {said.strip()}"


def record(forks: Forks, order: Order, trace: Path) -> list[Call]:
    """Let a worker do an order, and list what it called on the store from where it waits on."""
    _attached(forks, order, ["-y", "-s", "0", "-o", str(trace), "-e", f"trace={','.join(SYSCALLS)}"])
    counts: Counter[tuple[str, str]] = Counter()
    calls = []
    for line in trace.read_text(encoding="utf-8").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        # strace counts each thread's calls for themselves
        counts[found[1], found[2]] += 1
        if order.store in found[3]:
            calls.append(Call(found[2], counts[found[1], found[2]]))
    return sorted(set(calls))


def inject(forks: Forks, order: Order, call: Call, fault: str, trace: Path) -> tuple[int, bool]:
    """Let a worker do an order while one of its calls is a fault; gives its wait status, and whether the call came."""
    options = ["-o", str(trace), "-e", f"trace={call.name}"]
    status = _attached(forks, order, [*options, "-e", f"inject={call.name}:{FAULTS[fault]}:when={call.number}"])
    said = trace.read_text(encoding="utf-8")
    return status, ("killed by SIGKILL" if fault == "KILL" else "(INJECTED)") in said


def _attached(forks: Forks, order: Order, options: list[str]) -> int:
    go = Path(f"{order.diary}.go")
    go.unlink(missing_ok=True)
    pid = forks.start(order)
    while not _waits(Path(order.diary)):
        time.sleep(_PAUSE_S)
    assert _STRACE is not None
    with subprocess.Popen([_STRACE, "-f", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        go.touch()
        status = forks.wait(pid)
        tracer.stderr.read()
    return status


def _waits(diary: Path) -> bool:
    return diary.exists() and "wait" in diary.read_text(encoding="utf-8")
