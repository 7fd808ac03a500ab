"""What the text files of currency vendors share: the pair is in the file's name, not in the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from backtestr.errors import SourceAmbiguousError, SourceStructureError
from backtestr.sources.files import Member
from backtestr.sources.model import OpenedSource, Renames, TickBatch, in_parts
from backtestr.sources.pairs import pair_in
from backtestr.sources.text import Renamer, text_batches


def pair_of(member: Member, symbol: Renames) -> str:
    """The symbol as given, or the pair in the file's name.

    Raises:
        SourceAmbiguousError: Neither is there.
    """
    if isinstance(symbol, str):
        return symbol
    pair = pair_in(PurePath(member.inner).name) or pair_in(member.path.name)
    if pair is None:
        raise SourceAmbiguousError(f"{member.name}: the file name holds no currency pair; give symbol=")
    return symbol.get(pair, pair) if symbol else pair


def refuse(member: Member, vendor: str, cells: list[str]) -> SourceStructureError:
    """The error for a first row that is not the vendor's."""
    return SourceStructureError(
        f"{member.name}: the first row {','.join(cells)[:80]!r} is not {vendor} tick data "
        "(line 1, column 0); check source="
    )


def open_fx(
    name: str, feed: str, plans: Sequence[tuple[Member, dict[str, Any], int]], symbol: Renames, said: str
) -> OpenedSource:
    """The source over planned members."""
    if (
        isinstance(symbol, str)
        and len({pair_in(member.path.name) or pair_in(member.inner) for member, _, _ in plans}) > 1
    ):
        raise SourceAmbiguousError(f"symbol={symbol!r} names one pair, but the files are of several; load each alone")
    renamer = Renamer(symbol)

    def texts() -> Iterator[Iterator[TickBatch]]:
        for member, spec, skip_lines in plans:
            renames = None if "symbol" in spec else renamer
            yield text_batches(member, spec, skip_lines=skip_lines, renames=renames)

    return OpenedSource(name, feed, in_parts(texts()), said)
