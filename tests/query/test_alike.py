"""Requests that are alike: one text for all that only differ in values, and no value in it."""

from __future__ import annotations

import random
import re

import pytest

from backtestr.query.alike import MAX_STATEMENT, request_kind, statement_kind

HOUR = 3_600_000_000_000


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select 1", "select ?"),
        ("  select\n\t*  from ticks ; ", "select * from ticks"),
        ("select * from ticks where symbol='it''s' and price>1.5e-3", "select * from ticks where symbol=? and price>?"),
        ("select 'a' /* 'b' */, -- 'c'\n 'd'", "select ?, …"),
        ("select x from t where s in ('A','B' , 'C')", "select x from t where s in (?, …)"),
        ("select x from t where s in (?, ?)", "select x from t where s in (?, …)"),
        ('select "odd 1""name" from t1', 'select "odd 1""name" from t1'),
        ("select e'it\\'s', x'ff', $$a'b$$, $tag$ 'x' $$ $tag$ from t", "select ?, … from t"),
        ("select * from t where a = $1 and b = $name", "select * from t where a = $1 and b = $name"),
        ("select .5, 1_000.25, 0x1F from t2.c3", "select ?, … from t2.c3"),
        ("select 'never closed", "select ?"),
        ("select /* never closed", "select"),
        ("select 'a\ud800'", "select ?"),
        ("", ""),
    ],
)
def test_statements_without_their_values(text: str, kind: str) -> None:
    assert statement_kind(text) == kind


def test_no_value_is_kept() -> None:
    rng = random.Random(1)
    for _ in range(500):
        secret = "".join(rng.choice("SECRETxyz'\"$;-/*\\ \n") for _ in range(rng.randrange(1, 12))) + "SECRET"
        quoted = "'" + secret.replace("'", "''") + "'"
        text = f"select a, {quoted} from t where b = {quoted} and c < {rng.random()}"
        assert statement_kind(text) == "select a, ? from t where b = ? and c < ?"
        cut = statement_kind(text[: rng.randrange(len(text))])
        assert "SECRET" not in cut


def test_long_statements_are_told_apart() -> None:
    columns = [
        ", ".join(f"c{n} + {shift}" for n in range(200)) + f", {last}" for shift, last in ((1, "x"), (2, "x"), (1, "y"))
    ]
    first, same, other = (statement_kind(f"select {text} from t") for text in columns)
    assert first == same != other
    assert len(first) < 600
    assert re.fullmatch(r".*… #[0-9a-f]{8}", first)
    assert len(statement_kind("select " + "a + " * MAX_STATEMENT + "a from t")) < 600


def test_odd_texts_take_no_time_to_speak_of() -> None:
    # each of these would take hours if the pattern could be matched in more than one way
    for text in ("'" * 9_999, "/*" * 5_000, "$" * 9_999, "e'" + "\\'" * 4_999, '"' * 9_999, "--" * 5_000, "1" * 9_999):
        statement_kind(text)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ((None, 1, (0, HOUR)), "ticks: 1 symbol, up to 1h"),
        ((None, 1, (0, HOUR + 1)), "ticks: 1 symbol, up to 1d"),
        ((None, None, (None, None)), "ticks: all symbols, all time"),
        (("60m", 2, (None, HOUR)), "bars of 1h: up to 10 symbols, open time"),
        (("1d", 1_001, (0, 9_000 * HOUR)), "bars of 1d: over 1,000 symbols, over 366d"),
        ((None, 0, (0, 1), 3), "ticks: up to 10 symbols, up to 1m, 3 columns"),
    ],
)
def test_requests(asked: tuple[object, ...], kind: str) -> None:
    assert request_kind(*asked) == kind  # type: ignore[arg-type]


def test_options_of_requests() -> None:
    kind = request_kind("5m", 1, (0, 1), limited=True, price="bid")
    assert kind == "bars of 5m: 1 symbol, up to 1m, bid prices, limit"
