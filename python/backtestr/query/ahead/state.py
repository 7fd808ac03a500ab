"""What was learnt of a store's requests, in a file of the user's state folder."""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any, Final

from backtestr._native import crc32c

_NAME: Final = "read_ahead.json"
_FORMAT: Final = 1


def load_state(folder: Path) -> Any:
    """What was saved; None if nothing was, or it is damaged, as it is nothing that cannot be learnt again."""
    try:
        saved = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        if saved["format"] != _FORMAT or saved["crc32c"] != _checksum(saved["model"]):
            return None
        return saved["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_state(folder: Path, model: Any) -> None:
    """Save for the next time, all or nothing.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = folder / f"{_NAME}.{uuid.uuid4().hex}"
    try:
        saved = {"format": _FORMAT, "crc32c": _checksum(model), "model": model}
        draft.write_text(json.dumps(saved, separators=(",", ":")), encoding="utf-8")
        draft.replace(folder / _NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _checksum(model: Any) -> int:
    # lists of JSON where tuples were give the same text
    return crc32c(json.dumps(model).encode())
