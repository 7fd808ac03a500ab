"""The store a command works on, and the options that commands share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backtestr.config import STORE_VARIABLE
from backtestr.errors import ArgumentError

if TYPE_CHECKING:
    from backtestr.store import Store

StorePath = Annotated[
    Path,
    typer.Option("--store", "-s", envvar=STORE_VARIABLE, help="Folder of the store.", show_default=False),
]
StoreFolder = Annotated[
    Path, typer.Argument(metavar="STORE", envvar=STORE_VARIABLE, help="Folder of the store.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Start = Annotated[str | None, typer.Option(help="First instant, ISO 8601; without a zone it is UTC.")]
End = Annotated[str | None, typer.Option(help="First instant after the range, ISO 8601.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Most rows to print, 0 for all; tables print 50 by default.")]
Format = Annotated[str | None, typer.Option("--format", "-f", help="table, csv, json or parquet.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write instead of the terminal; its suffix says the format."),
]


def symbol_names(text: str) -> list[str]:
    """The symbols of an argument, with commas between.

    Raises:
        ArgumentError: there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ArgumentError(f"symbol {text!r} names no symbol; write IBM or IBM,SPY")
    return names


@contextmanager
def opened(path: Path, *, read_only: bool) -> Iterator[Store]:
    """Open the store for one command; one that is made for it and gets nothing does not stay."""
    import backtestr

    is_new = not read_only and not path.exists()
    is_bare = False
    try:
        with backtestr.open(path, read_only=read_only) as store:
            first = store.info().lsn
            try:
                yield store
            finally:
                is_bare = is_new and store.info().lsn == first
    finally:
        if is_bare:
            shutil.rmtree(path)
