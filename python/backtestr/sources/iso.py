"""Arrow text of ISO 8601 times as instants, read as in text files."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from backtestr import _native

# Whatever else a text holds, it would not be one line of one field.
_LINE = r"^ *[0-9][0-9A-Za-z:+\-., ]*$"
_DATE = r"^ *[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UNREAD = "-"


def read_times(text: pa.Array, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    """The instants, null where there is none, and the fault bits of each row if any has one.

    Args:
        text: Strings; a time that names no zone is in ``timezone``.
        timezone: UTC if not given.
    """
    readable = pc.fill_null(pc.match_substring_regex(text, _LINE), False)
    lines = pc.if_else(readable, text, _UNREAD)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "\n")
    spec = {"separator": "\x1f", "fields": [{"target": "timestamp", "format": "iso"}], "symbol": _UNREAD}
    batch, *_ = _native.parse_text(
        joined[0].as_py().encode(), json.dumps(spec | {"zone": timezone}), last=True, first_line=1
    )
    faults = batch.column("faults") if "faults" in batch.schema.names else None
    return batch.column("timestamp_utc"), faults


def holds_times(text: pa.Array) -> bool:
    """Whether any of the texts begins with a date, or there is none at all."""
    return len(text) == text.null_count or bool(pc.any(pc.match_substring_regex(text, _DATE)).as_py())
