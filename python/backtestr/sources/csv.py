"""Delimited text with a header or given positions, plain or in .gz, .zst and .zip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceStructureError
from backtestr.sources import detect
from backtestr.sources.files import Member, PathInput, members
from backtestr.sources.model import OpenedSource, Renames, TickBatch, in_parts
from backtestr.sources.text import SEPARATORS, Renamer, head, head_text, is_blank, text_batches

PRICES = ("price", "bid", "ask")
NUMBERS = (*PRICES, "volume", "bid_size", "ask_size")
TARGETS = ("symbol", "timestamp", "date", *NUMBERS, "tick_type", "exchange", "conditions", "suspicious", "sequence")
_TIME_NAMES = {"s": "epoch_s", "ms": "epoch_ms", "us": "epoch_us", "ns": "epoch_ns"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """What is known of a text before it is opened; none means: find out.

    Attributes:
        columns: Tick column → the file's column, by name or by position counted from 0.
        separator: One character.
        quote: One character, or none where quotes mean nothing.
        header: Whether the first line holds names.
        encoding: Other than UTF-8.
        time_format: ``iso``, ``s``, ``ms``, ``us``, ``ns`` (since 1970), ``ms_of_day`` or a strptime pattern.
        date_format: Of a date in a column of its own.
        timezone: Of times that name none; UTC if not given.
        date: ``YYYY-MM-DD``, of times without a date.
        scale: Power of ten that the text is multiplied by: of all prices, or per column.
        decimal: The decimal point: ``.`` or ``,``.
        numbers: ``exact``: more than 8 decimals is an error of the value; ``float``: they are rounded and flagged.
        symbol: The symbol where no column holds it, or the new name of the one that it holds, or names by name.
        symbol_pattern: Expression whose first group finds the symbol in the name of the file or archive member.
        zero_is_absent: Columns in which 0 means that there is no value.
    """

    columns: Mapping[str, str | int] | None = None
    separator: str | None = None
    quote: str | None = '"'
    header: bool | None = None
    encoding: str | None = None
    time_format: str | None = None
    date_format: str | None = None
    timezone: str | None = None
    date: str | None = None
    scale: int | Mapping[str, int] = 0
    decimal: str = "."
    numbers: str = "exact"
    symbol: Renames = None
    symbol_pattern: str | None = None
    zero_is_absent: tuple[str, ...] = ()


def open_csv(data: PathInput, /, *, feed: str | None = None, **options: Any) -> OpenedSource:
    """Open delimited text.

    Args:
        data: A path, several, or a folder; archives may hold several members and symbols.
        feed: Identity of the rows; a symbol that already has rows needs it.
        **options: The fields of :class:`CsvFormat`.

    Returns:
        The opened source.

    Raises:
        SourceStructureError: Columns are missing, or the text is broken; while reading, too.
        SourceAmbiguousError: Symbol, columns or time format cannot be told.

    Example:
        >>> open_csv("trades.csv", symbol="SPY", timezone="America/New_York")  # doctest: +SKIP
    """
    return open_text("csv", data, csv_format(options), feed)


def csv_format(options: Mapping[str, Any]) -> CsvFormat:
    """The options as a format; an unknown one is refused."""
    unknown = set(options) - set(CsvFormat.__dataclass_fields__)
    if unknown:
        known = ", ".join(sorted(CsvFormat.__dataclass_fields__))
        raise ArgumentError(f"unknown option {sorted(unknown)[0]!r} of a text source; known are {known}, feed")
    made = CsvFormat(**options)
    if made.numbers not in {"exact", "float"}:
        raise ArgumentError(f'numbers={made.numbers!r}; give "exact" or "float"')
    if made.decimal not in {".", ","}:
        raise ArgumentError(f'decimal={made.decimal!r}; give "." or ","')
    for name, letter in (("separator", made.separator), ("quote", made.quote)):
        if letter is not None and (len(letter) != 1 or not letter.isascii() or letter in "\r\n\0"):
            raise ArgumentError(f"{name}={letter!r} is not one ASCII character")
    try:
        re.compile(made.symbol_pattern or "")
    except re.error as error:
        raise ArgumentError(f"symbol_pattern={made.symbol_pattern!r} is no regular expression ({error})") from error
    return made


def open_text(name: str, data: PathInput, form: CsvFormat, feed: str | None, said: str = "") -> OpenedSource:
    """Open text of a known or half-known format under a preset's name."""
    found = [plan(member, form) for member in members(data)]
    plans = [one for one in found if one is not None]
    unique = bool(plans) and all("sequence" in one.targets for one in plans)
    described = said or (plans[0].described if plans else "an empty text")
    if len(plans) > 1:
        described += f", {len(plans)} texts"

    renamer = Renamer(form.symbol)

    def texts() -> Iterator[Iterator[TickBatch]]:
        for one in plans:
            yield text_batches(
                one.member,
                one.spec,
                encoding=form.encoding,
                skip_lines=one.skip_lines,
                renames=None if "symbol" in one.spec else renamer,
            )

    return OpenedSource(name, feed, in_parts(texts()), described, row_unique_sequence=unique)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one member is read."""

    member: Member
    spec: dict[str, Any]
    skip_lines: int
    described: str

    @property
    def targets(self) -> list[str]:
        """The tick columns in file order."""
        return [field["target"] for field in self.spec["fields"]]


def plan(member: Member, form: CsvFormat) -> Plan | None:
    """Look at a member's first rows and say how it is read; none where it is empty."""
    text = head_text(member, form.encoding)
    if is_blank(text):
        return None
    separator = form.separator or _separator(text, form.quote)
    first = head(text, separator, form.quote)
    cells = first.rows[0]
    if len(cells) < 2:
        raise SourceStructureError(
            f"{member.name}: the first line has one column with {separator!r} between columns "
            "(line 1, column 1); give separator="
        )
    by_name = form.columns is not None and any(isinstance(at, str) for at in form.columns.values())
    header = form.header if form.header is not None else by_name or detect.looks_like_header(cells)
    positions = _positions(member, form, cells if header else None, len(cells))
    sample = first.rows[1] if header and len(first.rows) > 1 else None if header else cells
    fields = _fields(member, form, positions, len(cells), sample)
    spec: dict[str, Any] = {"separator": separator, "quote": form.quote, "fields": fields}
    spec["zone"], spec["date"] = form.timezone, form.date
    if "symbol" not in positions:
        spec["symbol"] = _symbol(member, form)
    named = ", ".join(f"{target} = {cells[at].strip() if header else at}" for target, at in positions.items())
    described = f"text with {separator!r} between {named}"
    return Plan(member, spec, first.ends[0] if header else 0, described)


def _separator(text: str, quote: str | None) -> str:
    line = next(line for line in text.split("\n") if not is_blank(line))
    counts = {one: len(head(line, one, quote, 1).rows[0]) for one in SEPARATORS}
    return max(counts, key=lambda one: counts[one])


def _positions(member: Member, form: CsvFormat, header: list[str] | None, width: int) -> dict[str, int]:
    if form.columns is None:
        if header is None:
            raise SourceAmbiguousError(
                f"{member.name}: the first line holds values, not names; "
                "give columns={'timestamp_utc': 0, 'price': 1, …} or source="
            )
        found = detect.recognise(header)
        for target, position in found.items():
            if header.count(header[position]) > 1:
                raise SourceAmbiguousError(
                    f"{member.name}: several columns are named {header[position]!r} (line 1, column {position + 1}); "
                    f"say by position which one is the {target}, with columns="
                )
    else:
        found = {}
        for column, at in form.columns.items():
            target = "timestamp" if column == "timestamp_utc" else column
            if target not in TARGETS:
                raise ArgumentError(f"columns={{{column!r}: …}}: not a column of ticks; known are {', '.join(TARGETS)}")
            found[target] = _position(member, at, header, width)
    missing = [] if "timestamp" in found else ["timestamp_utc"]
    if not set(found) & set(PRICES):
        missing.append("price (or bid and ask)")
    if missing:
        raise SourceStructureError(
            f"{member.name}: no column for {' and '.join(missing)} among {', '.join(header or [])} (line 1, column 0); "
            "name it with columns={'" + missing[0].split()[0] + "': …}, or check separator= and source="
        )
    return found


def _position(member: Member, at: str | int, header: list[str] | None, width: int) -> int:
    names = [name.strip() for name in header or []]
    if isinstance(at, str):
        if names.count(at.strip()) == 1:
            return names.index(at.strip())
        problem = "no column" if at.strip() not in names else "several columns"
        raise SourceStructureError(
            f"{member.name}: {problem} {at!r} in the header {', '.join(names)} (line 1, column 0)"
        )
    if not 0 <= at < width:
        raise SourceStructureError(
            f"{member.name}: column {at} of columns= is not among the {width} of line 1, counted from 0"
        )
    return at


def _fields(
    member: Member, form: CsvFormat, positions: dict[str, int], width: int, sample: list[str] | None
) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = [{"target": "ignore"} for _ in range(width)]
    for target, at in positions.items():
        field: dict[str, Any] = {"target": target}
        if target in {"timestamp", "date"}:
            given = form.time_format if target == "timestamp" else form.date_format
            if given is not None:
                field["format"] = _TIME_NAMES.get(given, given)
            elif sample is not None and at < len(sample) and sample[at].strip():
                dated = target == "date" or "date" in positions or form.date is not None
                field["format"] = detect.time_format(sample[at], member.name, target, dated=dated)
        elif target in NUMBERS:
            scale = form.scale
            power = scale.get(target, 0) if isinstance(scale, Mapping) else scale if target in PRICES else 0
            field |= {"power": power, "float": form.numbers == "float", "comma": form.decimal == ","}
            if form.decimal == "." and sample is not None and at < len(sample) and "," in sample[at]:
                raise SourceAmbiguousError(
                    f"{member.name}: the {target} {sample[at]!r} has a comma; "
                    'if that is its decimal point, give decimal=","'
                )
            field |= {"zero_is_absent": target in form.zero_is_absent, "empty_is_absent": True}
        elif target == "tick_type":
            field["codes"] = detect.TICK_TYPES
        fields[at] = field
    return fields


def _symbol(member: Member, form: CsvFormat) -> str:
    if isinstance(form.symbol, str):
        return form.symbol
    if form.symbol_pattern is not None:
        match = re.search(form.symbol_pattern, member.inner)
        if match and match.groups():
            return match[1]
        raise SourceAmbiguousError(
            f"{member.name}: symbol_pattern={form.symbol_pattern!r} finds no group in {PurePath(member.inner).name!r}"
        )
    raise SourceAmbiguousError(f"{member.name}: no column holds the symbol; give symbol= or symbol_pattern=")
