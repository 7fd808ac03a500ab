"""Hostile text in every argument that takes text: it is a value, or a typed error, and nothing else."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    BacktestrError,
    SQLError,
    SymbolNotFoundError,
    TimeframeError,
    VersionNotFoundError,
)

STRINGS = int(os.environ.get("HOSTILE_STRINGS", "1000"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))
PIECES = [
    "'", "''", '"', '""', "`", "\u00b4", "\u2019", "\uff07", ";", "--", "/*", "*/", "\\", "\\'", "\0", "\x01", "\x7f",
    "\n", "\r\n", "\t", " ", "\u200b", "\u202e", "\ufeff", "e\u0301", "İ", "ß", "名", "🐍", "\U0010ffff",
    "\ud800", "\udfff", "٣", "½", "../", "..\\", "/etc/passwd", "../../../../tmp/x", "C:\\", "file:///etc/passwd", "~",
    "$HOME", "%00", "%2e%2e/", "con", "|", "&", "`id`", "$(id)", "' or 1=1 --", "'; drop table ticks; --",
    '"; delete from ticks; --', "union select * from quarantine", "copy ticks to 'stolen.csv'", "attach 'stolen.db'",
    "install httpfs", "load httpfs", "set threads = 1", "pragma database_list", "read_csv('/etc/passwd')",
    "read_text('/etc/passwd')", "getenv('HOME')", "insert into ticks select 1", "create table x (i int)",
    "call pragma_version()", "export database 'x'", "begin", "vacuum", "checkpoint", "select", "from ticks", "A", "B",
    "bars", "ticks", "symbol", "orders", "asc", "desc", "trade", "mid", "1m", "?", "$1", "$name", "%s", "{}", "{0}",
    "null", "true", "nan", "inf", "-1", "0", "1e309", "9223372036854775808", "2024-01-02", "2024-13-45", "T14:30:00",
    "+99:99", "Z", ",", ".", ":", "(", ")", "[", "]", "*", "=", "<", ">",
]  # fmt: skip


def hostile(rng: random.Random) -> str:
    if rng.random() < 0.02:
        return rng.choice(PIECES) * rng.randrange(10_000, 100_000)
    if rng.random() < 0.1:
        return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x110000)])) for _ in range(rng.randrange(20)))
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(7)))


def is_whole(text: str) -> bool:
    """Whether UTF-8 has bytes for it."""
    return text.encode("utf-8", "ignore").decode() == text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[bt.Store]:
    with bt.open(folder / "store", state_dir=folder / "state") as opened:
        for symbol in ("A", "B"):
            times = [dt.datetime(2024, 1, 2) + dt.timedelta(seconds=second) for second in range(90)]
            opened.ingest({"ts": times, "price": [10] * 90, "volume": [1] * 90}, symbol=symbol, feed="f")
        opened.append([{"order_id": "7e57d004-2b97-4e7a-b45f-5387367791cd", "symbol": "A"}], table="orders")
        opened.checkpoint()
        yield opened


def content(root: Path) -> dict[str, bytes]:
    """Every file's digest; what is remembered and scratch of sessions aside."""
    paths = (path for path in root.rglob("*") if path.is_file() and "state" not in path.relative_to(root).parts)
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).digest() for path in paths}


Call = Callable[[bt.Store, str], Any]
REFUSED: dict[str, tuple[Call, type[BacktestrError] | tuple[type[BacktestrError], ...]]] = {
    "ticks(symbol)": (lambda store, text: store.ticks(text), SymbolNotFoundError),
    "ticks(symbols)": (lambda store, text: store.ticks(["A", text]), SymbolNotFoundError),
    "ticks(columns)": (lambda store, text: store.ticks("A", columns=[text]), ArgumentError),
    "ticks(order)": (lambda store, text: store.ticks("A", order=text), ArgumentError),  # type: ignore[arg-type]
    "bars(symbol)": (lambda store, text: store.bars(text, "1m"), SymbolNotFoundError),
    "bars(price)": (lambda store, text: store.bars("A", "1m", price=text), ArgumentError),
    "bars(order)": (lambda store, text: store.bars("A", "1m", order=text), ArgumentError),  # type: ignore[arg-type]
    "latest(symbol)": (lambda store, text: store.latest(text), SymbolNotFoundError),
    "clear_cache(symbol)": (lambda store, text: store.clear_cache(text), SymbolNotFoundError),
    "table(name)": (lambda store, text: store.table(text), ArgumentError),
    "explain(symbols)": (lambda store, text: store.explain(symbols=text), SymbolNotFoundError),
    "explain(columns)": (lambda store, text: store.explain(symbols="A", columns=[text]), ArgumentError),
    "explain(price)": (lambda store, text: store.explain(symbols="A", timeframe="1m", price=text), ArgumentError),
    "explain(order)": (lambda store, text: store.explain(symbols="A", order=text), ArgumentError),
    "to_arrow(price_type)": (lambda store, text: store.latest("A").to_arrow(price_type=text), ArgumentError),  # type: ignore[arg-type]
}
"""Only a few words are taken there, which a hostile text is not."""
PARSED: dict[str, tuple[Call, type[BacktestrError] | tuple[type[BacktestrError], ...]]] = {
    "ticks(start)": (lambda store, text: store.ticks("A", start=text), ArgumentError),
    "ticks(end)": (lambda store, text: store.ticks("A", end=text), ArgumentError),
    "ticks(as_of)": (lambda store, text: store.ticks("A", as_of=text), (ArgumentError, VersionNotFoundError)),
    "bars(timeframe)": (lambda store, text: store.bars("A", text), TimeframeError),
    "explain(timeframe)": (lambda store, text: store.explain(symbols="A", timeframe=text), TimeframeError),
    "explain(as_of)": (
        lambda store, text: store.explain(symbols="A", as_of=text),
        (ArgumentError, VersionNotFoundError),
    ),
    "at(when)": (lambda store, text: store.at(text).close(), (ArgumentError, VersionNotFoundError)),
    "diff(old)": (lambda store, text: store.diff(text), (ArgumentError, VersionNotFoundError)),
    "sql(text)": (lambda store, text: store.sql(text), SQLError),
    "sql(as_of)": (lambda store, text: store.sql("select 1", as_of=text), (ArgumentError, VersionNotFoundError)),
    "sql(params by name)": (lambda store, text: store.sql("select 1", {text: 1}), SQLError),
    "sql(tables by name)": (
        lambda store, text: store.sql("select 1", tables={text: store.latest()}),
        (ArgumentError, SQLError),
    ),
    "explain(text)": (lambda store, text: str(store.explain(text)), SQLError),
}
"""What reads as an instant, a timeframe, a name or a SELECT is taken."""
KNOWN = {"A", "B", "asc", "desc", "trade", "mid", "orders", "float", "decimal", "fixed", "", *bt.tick_schema().names}


@pytest.fixture(scope="module")
def strings() -> list[str]:
    rng, found = random.Random(SEED), dict[str, None]()
    while len(found) < STRINGS:
        found[hostile(rng)] = None
    return list(found)


@pytest.fixture
def unchanged(store: bt.Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store, and the folders around it, are afterwards what they were."""
    empty = folder / "cwd"
    empty.mkdir(exist_ok=True)
    monkeypatch.chdir(empty)
    store.sql("select 1")
    before = content(folder), store.refresh(), store.ticks().to_arrow(), store.table("orders").to_arrow()
    yield
    after = content(folder), store.refresh(), store.ticks().to_arrow(), store.table("orders").to_arrow()
    assert before[0].keys() == after[0].keys()
    assert before == after
    assert store.verify().ok


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_few_words_refuses_others(store: bt.Store, unchanged: None, strings: list[str], name: str) -> None:
    call, error = REFUSED[name]
    for text in strings:
        if text in KNOWN:
            continue
        with pytest.raises(error) as refused:
            call(store, text)
        assert str(refused.value)


@pytest.mark.parametrize("name", PARSED)
def test_what_is_parsed_is_parsed(store: bt.Store, unchanged: None, strings: list[str], name: str) -> None:
    call, error = PARSED[name]
    count = 0
    for text in strings:
        try:
            call(store, text)
        except error as refused:
            count += 1
            assert str(refused)  # noqa: PT017 - some are taken
    assert count > STRINGS // 2


def test_bound_values_are_values(store: bt.Store, unchanged: None, strings: list[str]) -> None:
    whole = [text for text in strings if is_whole(text)]
    assert len(whole) > STRINGS // 2
    for text in [*whole[:100], *(text for text in whole if "\0" in text)][:150]:
        rows = store.sql("select $it as it, (select count(*) from ticks where symbol = $it) as n", {"it": text})
        assert rows.to_pylist() == [{"it": text, "n": 90 * (text in {"A", "B"})}]
    for start in range(0, len(whole), 50):
        some = whole[start : start + 50]
        (row,) = store.sql(f"select {', '.join(f'? as c{n}' for n in range(len(some)))}", some).to_pylist()
        assert list(row.values()) == some


def test_values_that_are_no_text_are_refused(store: bt.Store, unchanged: None, strings: list[str]) -> None:
    broken = [text for text in strings if not is_whole(text)]
    assert broken
    for text in broken:
        with pytest.raises((SQLError, ArgumentError)):
            store.sql("select ? as it", [text])


def test_values_of_lists_and_names(store: bt.Store, unchanged: None, strings: list[str]) -> None:
    plain = [text for text in strings if is_whole(text) and text not in {"A", "B"}]
    assert len(plain) > STRINGS // 2
    for start in range(0, len(plain), 50):
        some = plain[start : start + 50]
        rows = store.sql(
            "select symbol, count(*) as n from ticks where symbol = any($s) group by 1", {"s": [*some, "A"]}
        )
        assert rows.to_pylist() == [{"symbol": "A", "n": 90}]
        routed = store.sql("select sum(volume) as v from ticks where symbol = any($s)", {"s": some})
        assert routed.to_pylist() == [{"v": None}]
        bars = store.sql("select count(*) as n from bars where timeframe = any($s)", {"s": some}).to_pylist()
        assert bars[0]["n"] >= 0
        frame = {"given": some, "number": list(range(len(some)))}
        echoed = store.sql("select given from mine order by number", tables={"mine": _arrow(frame)})
        assert [row["given"] for row in echoed.to_pylist()] == some


def _arrow(frame: dict[str, list[Any]]) -> Any:
    import pyarrow as pa

    return pa.table(frame)


WRONG: dict[str, tuple[Callable[[bt.Store], Any], type[BacktestrError], str]] = {
    "symbol, case": (
        lambda store: store.ticks("a"),
        SymbolNotFoundError,
        "no symbol 'a' in the store; nearest are 'A'",
    ),
    "symbol": (lambda store: store.bars("AB", "1m"), SymbolNotFoundError, "no symbol 'AB' in the store; nearest are "),
    "symbols": (lambda store: store.latest(["A", "C"]), SymbolNotFoundError, "nearest are 'A', 'B'"),
    "symbols, explained": (lambda store: store.explain(symbols="C"), SymbolNotFoundError, "nearest are 'A', 'B'"),
    "symbols, a number": (lambda store: store.ticks(5), ArgumentError, "symbols=5: give one name"),  # type: ignore[arg-type]
    "symbols, lists": (lambda store: store.ticks([["A"]]), ArgumentError, "give one name"),  # type: ignore[list-item]
    "view": (
        lambda store: store.sql("select * from tick"),
        SQLError,
        "no table 'tick'; the nearest is 'ticks', and there are",
    ),
    "view, schema": (
        lambda store: store.sql("from other.bars"),
        SQLError,
        "no table 'other.bars'; the nearest is 'bars'",
    ),
    "view, far": (lambda store: store.sql("from qqqqqq"), SQLError, "no table 'qqqqqq'; there are backtest_metrics, "),
    "view, explained": (lambda store: store.explain("from bar"), SQLError, "no table 'bar'; the nearest is 'bars'"),
    "table": (
        lambda store: store.table("order"),
        ArgumentError,
        "'order' is no relational table; there are positions, orders",
    ),
    "timeframe": (lambda store: store.bars("A", "7m"), TimeframeError, '"7m": a bar must divide a day evenly'),
    "timeframe, words": (lambda store: store.bars("A", "5 minutes"), TimeframeError, "such as 5m or 1d"),
    "timeframe, none": (lambda store: store.bars("A", None), TimeframeError, "text such as '5m'"),  # type: ignore[arg-type]
    "timeframe, number": (lambda store: store.bars("A", 5), TimeframeError, "text such as '5m'"),  # type: ignore[arg-type]
    "columns": (
        lambda store: store.ticks("A", columns=["prices"]),
        ArgumentError,
        "no column 'prices'; there are symbol, ",
    ),
    "columns, text": (lambda store: store.ticks("A", columns="price"), ArgumentError, "such as ['price']"),
    "range, empty": (
        lambda store: store.ticks("A", start="2024-01-02", end="2024-01-02"),
        ArgumentError,
        "start='2024-01-02' is not before end='2024-01-02'; ranges are half-open",
    ),
    "range, reversed": (
        lambda store: store.bars("A", "1m", start=2, end=1),
        ArgumentError,
        "start=2 is not before end=1",
    ),
    "range, explained": (
        lambda store: store.explain(symbols="A", start=2, end=1),
        ArgumentError,
        "start=2 is not before end=1",
    ),
    "version": (lambda store: store.ticks("A", as_of=99), VersionNotFoundError, "no version 99; the store has "),
    "tag": (lambda store: store.ticks("A", as_of="nope"), VersionNotFoundError, "'nope' is no tag"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_say_what_to_do(store: bt.Store, name: str) -> None:
    call, error, told = WRONG[name]
    with pytest.raises(error) as refused:
        call(store)
    assert told in str(refused.value)
