"""What a cache did."""

from __future__ import annotations

from dataclasses import asdict, dataclass


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
