"""Commands about the schema of a store."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from backtestr.cli.output import write_value
from backtestr.cli.session import AsJson, StorePath, opened

To = Annotated[int | None, typer.Option("--to", min=0, help="Number of the last migration to be applied then.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(name="migrate", help="The schema of a store: where it stands, up and down.")
    group.callback(no_args_is_help=True)(_migrate)
    for command in (status, plan, up, down):
        group.command()(command)
    app.add_typer(group)


def _migrate() -> None:
    """The schema of a store: where it stands, up and down."""


def status(store: StorePath, as_json: AsJson = False) -> None:
    """Print every migration and what the store has of it."""
    with opened(store, read_only=True) as market_data:
        found = market_data.migrations.status()
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in found], ensure_ascii=False))
    else:
        for one in found:
            typer.echo(str(one))


def plan(store: StorePath, to: To = None, as_json: AsJson = False) -> None:
    """Print what would run, up or down, to get to a version; by default the newest."""
    with opened(store, read_only=True) as market_data:
        write_value(market_data.migrations.plan(to), as_json=as_json)


def up(store: StorePath, to: To = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Apply what is pending, all of it or nothing, as one commit."""
    with opened(store, read_only=dry_run) as market_data:
        write_value(market_data.migrations.up(to, dry_run=dry_run), as_json=as_json)


def down(
    store: StorePath,
    to: To = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Undo the newest migration, or all above --to, as one commit."""
    if not (dry_run or yes):
        typer.confirm(f"Undo {'the newest migration' if to is None else f'all above {to}'}?", abort=True, err=True)
    with opened(store, read_only=dry_run) as market_data:
        write_value(market_data.migrations.down(to, dry_run=dry_run), as_json=as_json)
