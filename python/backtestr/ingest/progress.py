"""How far a long verb is, shown or told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backtestr.errors import ArgumentError

Progress = Callable[[int, "int | None", str], object]
"""Called with what is done, of how much (None where it is not known), and what is being done."""


@contextmanager
def shown(progress: bool | Progress | None) -> Iterator[Progress | None]:
    """A bar on the terminal or in the notebook for True, the caller's own function, or nothing.

    Raises:
        ArgumentError: ``progress`` is none of these.
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is not True:
        if not callable(progress):
            raise ArgumentError(f"progress={progress!r}: give True, False or a function of (done, total, what)")
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    layout = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    is_seen = console.is_terminal or console.is_jupyter
    with Bar(*layout, console=console, transient=True, disable=not is_seen) as display:
        task = display.add_task("reading", total=None)

        def move(done: int, total: int | None, what: str) -> None:
            display.update(task, completed=done, total=total, description=what)

        yield move
