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

from backtestr._native import __version__, bar_schema, tick_schema
from backtestr.versions import show_versions

if TYPE_CHECKING:
    from backtestr.config import Settings
    from backtestr.models import Bar, BarSpec, IngestReport, Tick, TickType, Timeframe, ValidationRules
    from backtestr.store import Store, open  # noqa: A004 - reads as bt.open

__all__ = [
    "Bar",
    "BarSpec",
    "IngestReport",
    "Settings",
    "Store",
    "Tick",
    "TickType",
    "Timeframe",
    "ValidationRules",
    "__version__",
    "bar_schema",
    "open",
    "show_versions",
    "tick_schema",
]

_HOMES = {
    "backtestr.config": ("Settings",),
    "backtestr.models": ("Bar", "BarSpec", "IngestReport", "Tick", "TickType", "Timeframe", "ValidationRules"),
    "backtestr.store": ("Store", "open"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
