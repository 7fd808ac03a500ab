"""Arrow text of ISO 8601 times as instants, read as in text files."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from backtestr import _native

_SEPARATOR = "\x1f"
# A text that is blank, or more than one line of one field, would not be one row.
_ROW = r"^[^\n\x00\x1f]*[^\s\x00\x1f][^\n\x00\x1f]*$"
_DATE = r"^ *[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UNREAD = "-"


def read_times(text: pa.Array, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    """The instants, null where there is none, and the fault bits of each row if any has one.

    Args:
        text: Strings; a time that names no zone is in ``timezone``.
        timezone: UTC if not given.
    """
    lines = pc.fill_null(text, _UNREAD)
    joined = _joined(lines)
    is_plain = joined.count("\n") == len(lines) - 1 and "\0" not in joined and _SEPARATOR not in joined
    batch = _parsed(joined, timezone) if is_plain else None
    if batch is None or batch.num_rows != len(lines):
        lines = pc.if_else(pc.match_substring_regex(lines, _ROW), lines, _UNREAD)
        batch = _parsed(_joined(lines), timezone)
    faults = batch.column("faults") if "faults" in batch.schema.names else None
    return batch.column("timestamp_utc"), faults


def _joined(lines: pa.Array) -> str:
    whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    return str(pc.binary_join(whole, "\n")[0].as_py())


def _parsed(lines: str, timezone: str | None) -> pa.RecordBatch:
    field = {"target": "timestamp", "format": "iso"}
    spec = {"separator": _SEPARATOR, "fields": [field], "symbol": _UNREAD, "zone": timezone}
    return _native.parse_text(lines.encode(), json.dumps(spec), last=True, first_line=1)[0]


def holds_times(text: pa.Array) -> bool:
    """Whether any of the texts begins with a date, or there is none at all."""
    return len(text) == text.null_count or bool(pc.any(pc.match_substring_regex(text, _DATE)).as_py())
