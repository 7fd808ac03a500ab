"""Values of any Arrow type → the type of a relational column, exactly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtestr.schema import END_NS, MIN_NS
from backtestr.storage.tables import held_type, sql_type

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_FLOAT_DIGITS = 17
"""No float needs more significant digits to be told from its neighbours."""


class ConformError(ValueError):
    """A column does not fit its type; the message says why."""


@dataclass(slots=True)
class Conformer:
    """Converts columns; counts the floats that it had to round, by column."""

    rounded: dict[str, int] = field(default_factory=dict)

    def conform(self, name: str, values: pa.ChunkedArray, kind: str) -> pa.Array:
        """A column as values of the type with the SQL ``kind``, held as files and the log hold it.

        Floats become their shortest decimal and are rounded, half-even, only where that has too many places.

        Raises:
            ConformError: a value that the type does not hold.
        """
        try:
            return self._convert(name, _plain(values.combine_chunks()), sql_type(kind))
        except (pa.ArrowException, OverflowError) as error:
            raise ConformError(str(error)) from None

    def _convert(self, name: str, values: pa.Array, kind: DuckDBPyType) -> pa.Array:
        held = held_type(str(kind))
        children: dict[str, Any] = dict(kind.children) if kind.id in {"enum", "struct", "list"} else {}
        if pa.types.is_null(values.type):
            converted = pa.nulls(len(values), held)
        elif kind.id in _BY_KIND:
            converted = _BY_KIND[kind.id](values)
        elif kind.id == "enum":
            converted = _one_of(_text(values), children["values"])
        elif kind.id == "decimal":
            converted = self._decimal(name, values, held)
        elif kind.id == "struct":
            converted = self._struct(name, values, children)
        elif kind.id == "list":
            converted = self._list(name, values, children["child"])
        elif pa.types.is_timestamp(held):
            converted = _instants(values, held)
        elif pa.types.is_boolean(values.type) != pa.types.is_boolean(held):
            raise ConformError(f"{values.type} given")
        else:
            converted = values.cast(held)
        return converted

    def _decimal(self, name: str, values: pa.Array, held: pa.Decimal128Type) -> pa.Array:
        if pa.types.is_boolean(values.type):
            raise ConformError("bool given")
        if pa.types.is_floating(values.type):
            values, rounded = _from_floats(values, held.scale)
            self.rounded |= {name: self.rounded.get(name, 0) + rounded} if rounded else {}
        wide = values.cast(pa.decimal128(38, held.scale))
        return wide.cast(held)

    def _struct(self, name: str, values: pa.Array, kinds: Mapping[str, Any]) -> pa.Array:
        if not pa.types.is_struct(values.type):
            raise ConformError(f"{values.type} given, not a struct of {', '.join(kinds)}")
        given = {child.name for child in values.type}
        if unknown := sorted(given - kinds.keys()):
            raise ConformError(f"no field {unknown[0]!r}; there are {', '.join(kinds)}")
        parts = {}
        for child, kind in kinds.items():
            part = pc.struct_field(values, child) if child in given else pa.nulls(len(values))
            parts[child] = self._convert(f"{name}.{child}", _plain(part), kind)
        return pa.StructArray.from_arrays(list(parts.values()), names=list(parts), mask=values.is_null())

    def _list(self, name: str, values: pa.Array, kind: DuckDBPyType) -> pa.Array:
        if not pa.types.is_list(values.type):
            raise ConformError(f"{values.type} given, not a list")
        inner = self._convert(name, _plain(values.flatten()), kind)
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, mask=values.is_null())


def _plain(values: pa.Array) -> pa.Array:
    """The values without extension, dictionary or other layout of what they are."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(values))
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(kind):
        return values.cast(pa.list_(kind.value_type))
    return values


def _text(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        raise ConformError(f"{values.type} given, not text")
    return values


def _one_of(values: pa.Array, allowed: list[str]) -> pa.Array:
    wrong = values.filter(pc.invert(pc.is_in(values, pa.array([*allowed, None], pa.string()))))
    if len(wrong):
        raise ConformError(f"{wrong[0].as_py()!r} is none of {', '.join(allowed)}")
    return values


def _uuids(values: pa.Array) -> pa.Array:
    """UUIDs in canonical text: lower case, with hyphens."""
    if pa.types.is_fixed_size_binary(values.type) and values.type.byte_width == 16:
        return _uuid_text(values)
    texts = pc.utf8_lower(_text(values))
    bare = pc.equal(pc.utf8_length(texts), 32)
    if pc.any(bare).as_py():
        parts = [pc.utf8_slice_codeunits(texts, a, b) for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
        texts = pc.if_else(bare, pc.binary_join_element_wise(*parts, "-"), texts)
    wrong = values.filter(pc.invert(pc.match_substring_regex(texts, _UUID)))
    if len(wrong):
        raise ConformError(f"{wrong[0].as_py()!r} is no UUID")
    return texts


def _uuid_text(values: pa.Array) -> pa.Array:
    if len(values) == 0:
        return pa.array([], pa.string())
    raw = np.frombuffer(values.buffers()[1], np.uint8, 16 * len(values), 16 * values.offset).reshape(-1, 16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    hexed = np.stack([digits[raw >> 4], digits[raw & 15]], axis=2).reshape(-1, 32)
    text = np.insert(hexed, [8, 12, 16, 20], ord("-"), axis=1)
    offsets = np.arange(0, 36 * (len(values) + 1), 36, dtype=np.int32)
    texts = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))
    return pc.if_else(values.is_valid(), texts, None)


def _intervals(values: pa.Array) -> pa.Array:
    """Durations, and intervals as SQL gives them, in text as SQL reads them: exact to the microsecond."""
    if pa.types.is_duration(values.type):
        counts = values.cast(pa.duration("us")).cast(pa.int64())
        return pc.binary_join_element_wise(counts.cast(pa.string()), "microseconds", " ")
    if pa.types.is_interval(values.type):
        parts = np.frombuffer(values.buffers()[1] or b"", _INTERVAL, len(values), _INTERVAL.itemsize * values.offset)
        counts = pa.array(parts["nanoseconds"], mask=np.asarray(values.is_null())).cast(pa.duration("ns"))
        texts = [pa.array(parts[name]).cast(pa.string()) for name in ("months", "days")]
        return pc.binary_join_element_wise(texts[0], "months", texts[1], "days", _intervals(counts), " ")
    raise ConformError(f"{values.type} given, not a duration")


def _from_floats(values: pa.Array, scale: int) -> tuple[pa.Array, int]:
    """Floats as their shortest decimals, half-even to ``scale`` places; and how many were rounded.

    Raises:
        ConformError: NaN or infinite.
    """
    finite = pc.is_finite(values)
    if not pc.all(finite).as_py() and len(odd := values.filter(pc.invert(finite))):
        raise ConformError(f"{odd[0].as_py()} is no decimal")
    if pc.any(pc.greater_equal(pc.abs(values), 1e30)).as_py():
        raise ConformError("a value does not fit")
    # below half a unit in the last place it is zero, however many places it has
    tiny = pc.and_(pc.less(pc.abs(values), 10.0 ** -(scale + 1)), pc.not_equal(values, 0.0))
    texts = pc.if_else(tiny, "0", values.cast(pa.string()))
    exact = texts.cast(pa.decimal256(76, scale + 1 + _FLOAT_DIGITS))
    nearest = pc.round(exact, ndigits=scale, round_mode="half_to_even")
    count = int(pc.sum(pc.or_(tiny, pc.not_equal(exact, nearest))).as_py() or 0)
    return nearest, count


def _instants(values: pa.Array, held: pa.TimestampType) -> pa.Array:
    if pa.types.is_integer(values.type):
        values = values.cast(pa.int64()).cast(pa.timestamp("ns"))
    elif pa.types.is_string(values.type):
        values = _parsed(values)
    elif pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp(values.type.unit))
    elif not pa.types.is_date(values.type):
        raise ConformError(f"{values.type} given, not an instant")
    instants = values.cast(held)
    unit = 1_000 if held.unit == "us" else 1
    counts = instants.cast(pa.int64())
    known = pc.and_(pc.greater_equal(counts, MIN_NS // unit), pc.less(counts, END_NS // unit))
    if pc.all(known).as_py() is False:
        raise ConformError("an instant before 1678 or after 2261")
    return instants


def _parsed(values: pa.Array) -> pa.Array:
    """ISO texts as instants in ns; those that name no zone are UTC."""
    zoned = pc.match_substring_regex(values, "(Z|[+-][0-9]{2}(:?[0-9]{2})?)$")
    # the date's own hyphens look like a zone
    zoned = pc.and_(zoned, pc.greater(pc.utf8_length(values), 10))
    plain = pc.if_else(zoned, None, values).cast(pa.timestamp("ns"))
    aware = pc.if_else(zoned, values, None).cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns"))
    return pc.coalesce(plain, aware)


def _dates(values: pa.Array) -> pa.Array:
    if pa.types.is_date(values.type):
        return values.cast(pa.date32())
    if pa.types.is_string(values.type) and pc.all(pc.equal(pc.utf8_length(values), 10)).as_py() is not False:
        return values.cast(pa.date32())
    instants = _instants(values, pa.timestamp("ns"))
    days = instants.cast(pa.date32(), safe=False)
    if not pc.all(pc.equal(days.cast(pa.timestamp("ns")), instants)).as_py() and instants.null_count < len(instants):
        raise ConformError("a time of day given, not a date")
    return days


_BY_KIND: dict[str, Callable[[pa.Array], pa.Array]] = {
    "varchar": _text,
    "uuid": _uuids,
    "interval": _intervals,
    "date": _dates,
}
