"""Commands about the store itself and about this installation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from backtestr.cli.output import choose_format, is_terminal, write_rows, write_value
from backtestr.cli.session import (
    AsJson,
    End,
    Format,
    Limit,
    Output,
    Start,
    StoreFolder,
    StorePath,
    opened,
    symbol_names,
)
from backtestr.config import Settings
from backtestr.models import RepairReport, VerifyReport


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (info, symbols, quarantine, delete, verify, repair, gc, versions):
        app.command()(command)
    config = typer.Typer(name="config", help="Settings and where each comes from.", no_args_is_help=True)
    config.command("show")(show)
    config.callback()(_config)
    app.add_typer(config)


def info(store: StorePath, as_json: AsJson = False) -> None:
    """Print what the store holds."""
    with opened(store, read_only=True) as market_data:
        write_value(market_data.info(), as_json=as_json)


def symbols(store: StorePath, as_json: AsJson = False) -> None:
    """Print the symbols, one on each line."""
    with opened(store, read_only=True) as market_data:
        names = market_data.symbols()
    if as_json:
        typer.echo(json.dumps(names, ensure_ascii=False))
    else:
        for name in names:
            typer.echo(name)


def quarantine(
    store: StorePath,
    style: Format = None,
    output: Output = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Print rejected rows with reason, source line and raw text."""
    chosen = choose_format(style, as_json=as_json, output=output)
    with opened(store, read_only=True) as market_data:
        write_rows(market_data.quarantine(), style=chosen, output=output, limit=limit)


def delete(
    symbol: Annotated[str, typer.Argument(help="Symbol, or several with commas between.", show_default=False)],
    store: StorePath,
    start: Start = None,
    end: End = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove ticks of a symbol and rebuild its bars, as one commit."""
    names = symbol_names(symbol)
    if not (dry_run or yes):
        typer.confirm(
            f"Remove ticks of {symbol} from {start or 'the first'} to {end or 'the last'}?", abort=True, err=True
        )
    with opened(store, read_only=False) as market_data:
        write_value(market_data.delete(names, start=start, end=end, dry_run=dry_run), as_json=as_json)


def verify(
    store: StoreFolder,
    deep: Annotated[bool, typer.Option("--deep", help="Make all stored bars anew from the ticks and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check log, snapshots and every file; exit code 1 where something is wrong."""
    with opened(store, read_only=True) as market_data:
        report = market_data.verify(deep=deep, progress=is_terminal() and not as_json)
    _write_verdict(report, as_json=as_json)


def repair(
    store: StoreFolder,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare bars with ticks, and make wrong ones anew.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put right what can be without a loss; exit code 1 where something is left."""
    with opened(store, read_only=dry_run) as market_data:
        report = market_data.repair(deep=deep, dry_run=dry_run, progress=is_terminal() and not as_json)
    _write_verdict(report, as_json=as_json)


def _write_verdict(report: VerifyReport | RepairReport, *, as_json: bool) -> None:
    write_value(report, as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)


def gc(
    store: StoreFolder,
    retention: Annotated[
        str | None,
        typer.Option(help="How long old versions are kept, such as 7d or 36h; else the setting.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no version within retention, no tagged version and no open store needs."""
    with opened(store, read_only=dry_run) as market_data:
        write_value(market_data.gc(retention=retention, dry_run=dry_run), as_json=as_json)


def versions(as_json: AsJson = False) -> None:
    """Print versions of backtestr, Python, and what it stands on."""
    import backtestr

    write_value(backtestr.show_versions(), as_json=as_json)


def _config() -> None:
    """Settings and where each comes from."""


def show(as_json: AsJson = False) -> None:
    """Print every setting, its value and its origin."""
    settings = Settings.load()
    if as_json:
        document = {
            name: {"value": value, "origin": settings.origins[name]} for name, value in settings.to_dict().items()
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    rows = [
        (name, " ".join(value) if isinstance(value, list) else str(value), settings.origins[name])
        for name, value in settings.to_dict().items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, value, origin in rows:
        typer.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
