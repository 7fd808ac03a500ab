"""The application: its global options, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from backtestr._native import __version__
from backtestr.cli import admin, data, migrate
from backtestr.errors import ArgumentError, BacktestrError, ConfigError, TimeframeError

_FAILURE, _USAGE = 1, 2
_USAGE_ERRORS = (ArgumentError, ConfigError, TimeframeError)


class OneLineGroup(TyperGroup):
    """Commands whose errors are one line on stderr: exit code 1 for a failure, 2 for wrong usage."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # noqa: D102
        words = list(sys.argv[1:] if args is None else args)
        options["standalone_mode"] = False
        try:
            code = super().main(words, *rest, **options)
        except (BacktestrError, OSError) as error:
            if "--debug" in words:
                raise
            code = _report(error, _USAGE if isinstance(error, _USAGE_ERRORS) else _FAILURE)
        except Exception as error:
            # usage errors come from the parser inside typer, whose classes have moved between releases
            if not hasattr(error, "format_message"):
                if type(error).__name__ != "Abort":
                    raise
                code = _report("stopped", _FAILURE)
            elif type(error).__name__ == "NoArgsIsHelpError":
                typer.echo(error.format_message(), err=True)
                code = _USAGE
            else:
                asked = [word for word in words if not word.startswith("-")][:1]
                hint = " ".join(["backtestr", *(word for word in asked if word in self.commands), "--help"])
                code = _report(f"{error.format_message()} (see {hint})", _USAGE)
        sys.exit(code if isinstance(code, int) else 0)


def _report(message: object, code: int) -> int:
    if isinstance(message, BrokenPipeError):
        # the reader has left; a second write at shutdown would raise again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    line = " ".join(str(message).split())
    typer.echo(f"backtestr: {line or type(message).__name__}", err=True)
    return code


app = typer.Typer(
    name="backtestr",
    cls=OneLineGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Exact ticks and bars: take vendor files in, read them back.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


data.register(app)
admin.register(app)
migrate.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Args:
        arguments: words after the program's name; None for the process's.

    Example:
        >>> main(["versions", "--json"])  # doctest: +SKIP
    """
    app(None if arguments is None else list(arguments), prog_name="backtestr")
