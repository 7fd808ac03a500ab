"""What every source gives: batches of ticks, and where each row stood."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from backtestr.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class TickBatch:
    """Rows of one stretch of a source.

    Attributes:
        columns: Canonical column names. ``symbol`` is a dictionary; ``faults`` (uint32) is there where a value could
            not be read; ``sequence`` only where the vendor's is unique per row; ``exchange`` the venue's code as text.
        member: The file, or file and archive member, for messages.
        locate: From rows of this batch to (line in the source, counted from 1; raw text), in the given order.
        part: The member's place among those of its source, which tells members of one name apart. Batches of equal
            member and part are one sequence of rows, with ordinals of its own.
    """

    columns: pa.RecordBatch
    member: str
    locate: Callable[[Sequence[int]], list[tuple[int, str]]]
    part: int = 0


def in_parts(members: Iterable[Iterable[TickBatch]]) -> Iterator[TickBatch]:
    """The batches of all members, each with its member's place."""
    for part, batches in enumerate(members):
        for batch in batches:
            yield replace(batch, part=part)


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source ready to be read once.

    Attributes:
        name: The preset that reads it.
        feed: The identity of the rows for deduplication; none where only the caller can tell.
        batches: The ticks. Closing the iterator closes the files.
        described: One line on what was found.
        row_unique_sequence: ``sequence`` is the vendor's and unique per (symbol, epoch, trade or quote).
        skipped: Rows the format holds that are no ticks, by kind; filled while reading.
    """

    name: str
    feed: str | None
    batches: Iterator[TickBatch]
    described: str
    row_unique_sequence: bool = False
    skipped: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Close the files."""
        if isinstance(self.batches, Generator):
            self.batches.close()


def check_clock(clock: str) -> None:
    """Refuse what is neither the exchange's clock nor the receiver's.

    Raises:
        ArgumentError: Says what to give.
    """
    if clock not in {"exchange", "receive"}:
        raise ArgumentError(f'clock={clock!r}; give "exchange" or "receive"')


def is_frame(data: Any) -> bool:
    """Whether data is columns in memory, not the path of a file."""
    return isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


class Opener(Protocol):
    """Opens one format; options are keyword-only."""

    def __call__(self, data: Any, /, **options: Any) -> OpenedSource:
        """Open ``data`` for reading."""


Renames = str | Mapping[str, str] | None
