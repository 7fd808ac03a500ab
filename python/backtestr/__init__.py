"""backtestr: the data layer of a backtesting engine. Ticks in, exact bars out.

Example:
    >>> import backtestr as bt
    >>> bt.Timeframe.parse("5m").ns
    300000000000
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from backtestr._native import (
    REASONS,
    BarAggregator,
    __version__,
    aggregate_bars,
    bar_schema,
    tick_schema,
    validate_ticks,
    vwap,
)
from backtestr.versions import show_versions

if TYPE_CHECKING:
    from backtestr.config import Settings
    from backtestr.models import (
        AppendReport,
        Bar,
        BarSpec,
        IngestReport,
        TableReport,
        Tick,
        TickType,
        Timeframe,
        ValidationRules,
    )
    from backtestr.query.frame import Frame
    from backtestr.store import Store
    from backtestr.store import open_store as open  # noqa: A004 - reads as bt.open

__all__ = [
    "REASONS",
    "AppendReport",
    "Bar",
    "BarAggregator",
    "BarSpec",
    "Frame",
    "IngestReport",
    "Settings",
    "Store",
    "TableReport",
    "Tick",
    "TickType",
    "Timeframe",
    "ValidationRules",
    "__version__",
    "aggregate_bars",
    "bar_schema",
    "open",
    "show_versions",
    "tick_schema",
    "validate_ticks",
    "vwap",
]

_HOMES = {
    "backtestr.config": ("Settings",),
    "backtestr.models": (
        "AppendReport",
        "Bar",
        "BarSpec",
        "IngestReport",
        "TableReport",
        "Tick",
        "TickType",
        "Timeframe",
        "ValidationRules",
    ),
    "backtestr.query.frame": ("Frame",),
    "backtestr.store": ("Store", "open_store"),
}
_LAZY = {name: (module, name) for module, names in _HOMES.items() for name in names}
_LAZY["open"] = ("backtestr.store", "open_store")

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
