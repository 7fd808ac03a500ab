"""What the operating system refuses, as an error of the store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from backtestr.errors import BacktestrError, StoreIOError


@contextlib.contextmanager
def typed_refusals(doing: str) -> Iterator[None]:
    """Raise a bare OSError as StoreIOError; ``doing`` says what was being done, to what.

    Example:
        >>> with typed_refusals("opening store m"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
            ...
        backtestr.errors.StoreIOError: opening store m: [Errno 28] No space left on device
    """
    try:
        yield
    except BacktestrError:
        raise
    except OSError as error:
        raise StoreIOError(f"{doing}: {error}") from error


class WritingLock:
    """Held by the thread that changes a store; in a ``with`` block, what the system refuses is a StoreIOError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if isinstance(error, OSError):
            with typed_refusals(f"writing to store {self._root}"):
                raise error
