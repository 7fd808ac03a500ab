"""Where ticks come from: one small file per format, and a registry that a user can add to."""

from backtestr.sources.model import OpenedSource, TickBatch, is_frame
from backtestr.sources.registry import known_sources, open_source, register

__all__ = ["OpenedSource", "TickBatch", "is_frame", "known_sources", "open_source", "register"]
