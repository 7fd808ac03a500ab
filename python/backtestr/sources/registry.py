"""Formats by name; a user can add one."""

from __future__ import annotations

import difflib
import inspect
from functools import lru_cache
from importlib import import_module
from typing import Any

from backtestr.errors import ArgumentError
from backtestr.sources.model import OpenedSource, Opener

_BUILT_IN = {
    "arrow": ("arrow", "open_arrow"),
    "parquet": ("arrow", "open_arrow"),
    "csv": ("csv", "open_csv"),
    "lean": ("lean", "open_lean"),
    "histdata": ("histdata", "open_histdata"),
    "truefx": ("truefx", "open_truefx"),
    "dukascopy": ("dukascopy", "open_dukascopy"),
    "binance": ("binance", "open_binance"),
    "tardis": ("tardis", "open_tardis"),
    "databento": ("databento", "open_databento"),
    "dolphindb": ("dolphindb", "open_dolphindb"),
}
_registered: dict[str, Opener] = {}


def register(name: str, opener: Opener) -> None:
    """Add a format, or put another opener in the place of one.

    Args:
        name: What ``source=`` will name it by.
        opener: Called with the data and the options; gives an :class:`~backtestr.sources.OpenedSource`.

    Raises:
        ArgumentError: The name is empty or the opener cannot be called.

    Example:
        >>> from backtestr.sources.csv import open_csv
        >>> register("desk", lambda data, **options: open_csv(data, symbol="SPY", **options))
        >>> "desk" in known_sources()
        True
    """
    if not name or not callable(opener):
        raise ArgumentError("a source needs a name and a callable that opens it")
    _registered[name] = opener


def known_sources() -> list[str]:
    """Names that ``source=`` takes, sorted."""
    return sorted({*_BUILT_IN, *_registered})


def opener(name: str) -> Opener:
    """The opener of a format.

    Raises:
        ArgumentError: No format has that name.
    """
    if name in _registered:
        return _registered[name]
    if name not in _BUILT_IN:
        near = difflib.get_close_matches(name.lower(), known_sources(), 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ArgumentError(f"source={name!r} is not known; {meant}known are {', '.join(known_sources())}")
    module, function = _BUILT_IN[name]
    found: Opener = getattr(import_module(f"backtestr.sources.{module}"), function)
    return found


def open_source(data: Any, *, source: str | None = None, **options: Any) -> OpenedSource:
    """Open ticks of any known format for reading once.

    Args:
        data: A path, several, a folder, or anything with ``__arrow_c_stream__``.
        source: The format's name; found out by looking at the data if none is given.
        **options: What the format takes; see the opener of that name.

    Returns:
        The opened source; its ``batches`` stream the rows.

    Raises:
        ArgumentError: The format or an option is not known.
        SourceAmbiguousError: The format, symbol, market, date or zone cannot be told; names the argument.
        SourceStructureError: The data is broken, here or while reading.

    Example:
        >>> import pyarrow as pa
        >>> opened = open_source(pa.table({"symbol": ["A"], "time": [0], "price": [1.5]}))
        >>> opened.name, next(opened.batches).columns.num_rows
        ('arrow', 1)
    """
    if source is None:
        source = import_module("backtestr.sources.sniff").sniff(data, options)
    function = opener(str(source))
    known = _options(function)  # type: ignore[arg-type]
    for name in options:
        if known is not None and name not in known:
            raise ArgumentError(f"source {source!r} takes no option {name!r}; it takes {', '.join(known)}")
    return function(data, **options)


@lru_cache
def _options(function: Opener) -> list[str] | None:
    """The options that an opener takes; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
