"""Where ticks come from: one small file per format, and a registry that a user can add to."""

from backtestr.sources.model import OpenedSource, TickBatch
from backtestr.sources.registry import known_sources, open_source, register

__all__ = ["OpenedSource", "TickBatch", "known_sources", "open_source", "register"]
