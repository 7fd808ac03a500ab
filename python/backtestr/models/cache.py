"""What caches did, and what was read ahead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a store's cache holds and did since the store was opened. A group is up to 32,768 rows of a file.

    Args:
        hits: groups that were there when they were asked for.
        misses: groups that were not.
        evictions: groups that left for want of room, or because nobody had asked for them for long.
        groups: groups held.
        bytes: memory that they take.
        max_bytes: the most it may be; 0 for no cache.

    Example:
        >>> import backtestr as bt, tempfile
        >>> with bt.open(tempfile.mkdtemp(), hot_cache_bytes="64MiB") as store:
        ...     store.cache_stats()["hot"].max_bytes
        67108864
    """

    hits: int
    misses: int
    evictions: int
    groups: int
    bytes: int
    max_bytes: int

    def to_dict(self) -> dict[str, int]:
        """The fields as plain values.

        Example:
            >>> CacheStats(hits=1, misses=2, evictions=0, groups=2, bytes=100, max_bytes=1000).to_dict()["misses"]
            2
        """
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadStats:
    """What was read before it was asked for, since the store was opened. Bytes are those of decoded rows.

    Args:
        predictions: requests that were foretold surely enough to be read ahead.
        came_true: how many of them were asked for afterwards.
        outstanding: how many are still to come true, ten at most.
        cancelled: how many were given up before they were read, as the caller asked for something else meanwhile.
        read_bytes: bytes that were read ahead.
        used_bytes: how many of them were asked for afterwards.
        wasted_bytes: how many were dropped, as nobody had asked for them for long.

    Example:
        >>> import backtestr as bt, tempfile
        >>> with bt.open(tempfile.mkdtemp()) as store:
        ...     store.cache_stats()["ahead"].predictions
        0
    """

    predictions: int = 0
    came_true: int = 0
    outstanding: int = 0
    cancelled: int = 0
    read_bytes: int = 0
    used_bytes: int = 0
    wasted_bytes: int = 0

    def to_dict(self) -> dict[str, int]:
        """The fields as plain values.

        Example:
            >>> AheadStats(predictions=3, came_true=2).to_dict()["came_true"]
            2
        """
        return asdict(self)


class CacheReport(TypedDict):
    """What `backtestr.Store.cache_stats` returns."""

    hot: CacheStats
    """Rows of ticks and bars in memory."""
    ahead: AheadStats
    """What was read before it was asked for."""
