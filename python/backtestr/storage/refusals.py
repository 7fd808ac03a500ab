"""What the operating system refuses, as an error of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
