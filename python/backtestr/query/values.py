"""Values for parameters, in types that compare right with the store's columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from backtestr.errors import ArgumentError
from backtestr.models import Timeframe

Params = list[Any] | dict[str, Any] | None


def bound_values(params: Sequence[Any] | Mapping[str, Any] | None) -> Params:
    """Values as the engine is to bind them.

    Aware instants become naive UTC, because the engine would turn a ``TIMESTAMP`` column into text of a zone
    instead; scalars of numpy, pandas and Arrow become Python's own.

    Raises:
        ArgumentError: neither a sequence nor a mapping.
    """
    if params is None:
        return None
    if isinstance(params, Mapping):
        return {str(name): bound_value(value) for name, value in params.items()}
    if isinstance(params, (str, bytes)) or not isinstance(params, (Sequence, np.ndarray)):
        raise ArgumentError(f"params is a list of values or a mapping of names to values, got {type(params).__name__}")
    return [bound_value(value) for value in params]


def bound_value(value: Any) -> Any:
    """One value as the engine is to bind it."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, np.generic):
        value = _numpy_scalar(value)
    if isinstance(value, dt.datetime):
        return _instant(value)
    if isinstance(value, Timeframe):
        return str(value)
    if isinstance(value, Mapping):
        return {name: bound_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [bound_value(item) for item in value]
    return value


def _numpy_scalar(value: np.generic) -> Any:
    if isinstance(value, (np.datetime64, np.timedelta64)):
        # Finer than µs, numpy gives an integer instead of an instant.
        is_fine = np.datetime_data(value.dtype)[0] in {"ns", "ps", "fs", "as"}
        return value.astype(f"{value.dtype.kind}8[us]").item() if is_fine else value.item()
    return value.item()


def _instant(value: dt.datetime) -> dt.datetime | None:
    if value != value:  # noqa: PLR0124 - pandas.NaT is an instant that differs from itself
        return None
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    return dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)


def bound_to(node: Mapping[str, Any], params: Params) -> Any:
    """The value bound to a parameter of a statement's tree; None where there is none."""
    name = str(node.get("identifier"))
    if isinstance(params, dict):
        return next((value for key, value in params.items() if key.lower() == name.lower()), None)
    position = int(name) - 1 if name.isdigit() else -1
    return params[position] if params and 0 <= position < len(params) else None
