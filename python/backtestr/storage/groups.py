"""Where row groups are cut: at symbol boundaries, large symbols in groups of their own."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

OWN_GROUPS_FROM = 8_192
OWN_GROUP_ROWS = 32_768
SHARED_GROUP_ROWS = 8_192

Groups = list[tuple[int, int]]
"""Row groups as (start, stop)."""


def cut_groups(
    first_row: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], *, is_bars: bool, goes_on: bool, last: bool
) -> tuple[Groups, int]:
    """Row groups of runs of equal keys that lie one behind the other.

    Args:
        first_row: where each run starts.
        rows: how many rows it has.
        is_bars: bars' own groups are as small as shared ones.
        goes_on: the first run's earlier rows are in a group of their own already.
        last: nothing follows; else the last run may go on, and what depends on it is left unsettled.

    Returns:
        The groups as (start, stop), and the row up to which they reach.
    """
    own_rows = SHARED_GROUP_ROWS if is_bars else OWN_GROUP_ROWS
    groups: Groups = []
    shared_from: int | None = None
    stop = 0
    for position, (start, count) in enumerate(zip(first_row.tolist(), rows.tolist(), strict=True)):
        stop = start + count
        if not last and position == len(rows) - 1:
            whole = count // own_rows - 1 if count >= OWN_GROUPS_FROM else 0
            if whole <= 0:
                return groups, start if shared_from is None else shared_from
            if shared_from is not None:
                groups.append((shared_from, start))
            groups.extend((start + i * own_rows, start + (i + 1) * own_rows) for i in range(whole))
            return groups, start + whole * own_rows
        own = count >= OWN_GROUPS_FROM or (goes_on and position == 0)
        if shared_from is not None and (own or stop - shared_from > SHARED_GROUP_ROWS):
            groups.append((shared_from, start))
            shared_from = None
        if own:
            pieces = -(-count // own_rows)
            groups.extend(itertools.pairwise(start + count * piece // pieces for piece in range(pieces + 1)))
        elif shared_from is None:
            shared_from = start
    if shared_from is not None:
        groups.append((shared_from, stop))
    return groups, stop


def groups_of_runs(
    first_row: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], groups: Groups
) -> tuple[list[int], list[int]]:
    """The first group of each run, and over how many it reaches."""
    starts = np.array([start for start, _ in groups], np.int64)
    first = np.searchsorted(starts, first_row, "right") - 1
    final = np.searchsorted(starts, first_row + rows - 1, "right") - 1
    return first.tolist(), (final - first + 1).tolist()
