"""Commands that bring rows in and read them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from backtestr.cli.output import choose_format, is_terminal, write_rows, write_value
from backtestr.cli.session import AsJson, End, Format, Limit, Output, Start, StorePath, opened, symbol_names
from backtestr.errors import ArgumentError
from backtestr.models import ValidationRules


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (ingest, bars, ticks, sql, explain, queries):
        app.command()(command)


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Vendor files or folders.", exists=True, show_default=False)],
    store: StorePath,
    source: Annotated[
        str | None, typer.Option(help="Format, such as csv or lean; told from the file if left out.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Symbol to store the rows under.")] = None,
    market: Annotated[str | None, typer.Option(help="Market, where the format asks for one.")] = None,
    feed: Annotated[str | None, typer.Option(help="Identity under which rows are deduplicated.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of the file's times, such as America/New_York.")] = None,
    mode: Annotated[
        str, typer.Option(help="merge adds what is not there; replace first removes what is, in the range that comes.")
    ] = "merge",
    start: Annotated[
        str | None, typer.Option(help="With --mode replace: first instant to replace, else the first that comes.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="With --mode replace: first instant to keep, else the one after the last.")
    ] = None,
    max_rejected: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of rejected rows above which nothing is stored; 0.1 unless set."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="REASON", help="Keep rows in spite of a reason, such as price_negative. Repeatable."),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Let a symbol hold rows of several feeds.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, store nothing.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Option of the format; JSON values, else text. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check, store and aggregate vendor files.

    Every row is checked and stored once, and its bars are built. Each path is one commit, and a line of --json.
    """
    given = {"market": market, "timezone": timezone, **dict(map(_option, option or []))}
    rules = ValidationRules().allowing(*allow) if allow else None
    extra = {name: value for name, value in given.items() if value is not None}
    with opened(store, read_only=False) as market_data:
        for path in paths:
            report = market_data.ingest(
                path,
                source=source,
                symbol=symbol,
                feed=feed,
                mode=mode,
                start=start,
                end=end,
                rules=rules,
                max_rejected=max_rejected,
                allow_mixed=allow_mixed,
                dry_run=dry_run,
                progress=is_terminal() and not as_json,
                **extra,
            )
            write_value(report, as_json=as_json)


def bars(
    symbol: Annotated[str, typer.Argument(help="Symbol, or several with commas between.", show_default=False)],
    timeframe: Annotated[str, typer.Argument(help="Length of a bar, such as 5m.", show_default=False)],
    store: StorePath,
    start: Start = None,
    end: End = None,
    price: Annotated[str | None, typer.Option(help="trade, bid, ask or mid; by default the symbol's own.")] = None,
    style: Format = None,
    output: Output = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Print bars of a timeframe."""
    chosen = choose_format(style, as_json=as_json, output=output)
    with opened(store, read_only=True) as market_data:
        frame = market_data.bars(symbol_names(symbol), timeframe, start=start, end=end, price=price)
        write_rows(frame, style=chosen, output=output, limit=limit)


def ticks(
    store: StorePath,
    symbol: Annotated[
        str | None, typer.Argument(help="Symbol, or several with commas between; all if left out.")
    ] = None,
    start: Start = None,
    end: End = None,
    columns: Annotated[str | None, typer.Option(help="Columns, with commas between.")] = None,
    style: Format = None,
    output: Output = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Print ticks in order of symbol, time and sequence."""
    chosen = choose_format(style, as_json=as_json, output=output)
    with opened(store, read_only=True) as market_data:
        frame = market_data.ticks(
            None if symbol is None else symbol_names(symbol),
            start=start,
            end=end,
            columns=None if columns is None else [name.strip() for name in columns.split(",")],
        )
        write_rows(frame, style=chosen, output=output, limit=limit)


def sql(
    text: Annotated[
        str, typer.Argument(help="One SELECT over ticks, bars, quarantine and the other tables.", show_default=False)
    ],
    store: StorePath,
    style: Format = None,
    output: Output = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Answer a SQL query over the store."""
    chosen = choose_format(style, as_json=as_json, output=output)
    with opened(store, read_only=True) as market_data:
        write_rows(market_data.sql(text), style=chosen, output=output, limit=limit)


def explain(
    text: Annotated[str, typer.Argument(help="One SELECT, as for sql.", show_default=False)],
    store: StorePath,
    analyze: Annotated[bool, typer.Option("--analyze", help="Also run it, and say what that took.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say how a SQL query would be answered, what that costs, and what it took before."""
    with opened(store, read_only=True) as market_data:
        write_value(market_data.explain(text, analyze=analyze), as_json=as_json)


def queries(
    store: StorePath, style: Format = None, output: Output = None, limit: Limit = None, as_json: AsJson = False
) -> None:
    """List the kinds of requests that were made of the store, most time in all first."""
    chosen = choose_format(style, as_json=as_json, output=output)
    with opened(store, read_only=True) as market_data:
        write_rows(market_data.queries(), style=chosen, output=output, limit=limit)


def _option(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name.isidentifier():
        raise ArgumentError(f"--option {text}: write KEY=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
