"""Bad values: the row is rejected with its reason, its line in the file and its text."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtestr as bt
from backtestr import _native
from backtestr.errors import BacktestrError, TooManyRejectedError
from backtestr.sources import open_source, text
from tests.sources.reading import read, rows

HEADER = "symbol,timestamp,price,volume,conditions\n"
GOOD = "A,2024-01-02T12:00:00,1.5,2,\n"
BAD = [
    ("A,2024-01-02T12:00:00,NaN,2,", "not_a_number"),
    ("A,2024-01-02T12:00:00,inf,2,", "not_a_number"),
    ("A,2024-01-02T12:00:00,0.123456789,2,", "inexact"),
    ("A,2024-01-02T12:00:00,1.5,1e11,", "out_of_range"),
    ('A,2024-01-02T12:00:00,"1,234.5",2,', "not_a_number"),
    ("A,1677-01-02T12:00:00,1.5,2,", "timestamp_out_of_range"),
    ("A,2262-05-02T12:00:00,1.5,2,", "timestamp_out_of_range"),
    ("A,never,1.5,2,", "timestamp_missing"),
    (",2024-01-02T12:00:00,1.5,2,", "symbol_missing"),
]


@pytest.mark.parametrize("chunk_bytes", [64, 700, 8 << 20])
@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason + row[-12:] for row, reason in BAD])
def test_quarantine_has_reason_line_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, reason: str, chunk_bytes: int
) -> None:
    monkeypatch.setattr("backtestr.sources.text.CHUNK_BYTES", chunk_bytes)
    before = "\n" + HEADER + "\n" + GOOD * 10 + 'A,2024-01-02T12:00:00,1.5,2,"two\nlines"\n\n'
    first = before + bad + "\n\n" + GOOD * 10
    second = HEADER + GOOD * 10 + bad
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.csv", first)
        archive.writestr("two.csv", second)
    with bt.open(tmp_path / "store") as store:
        report = store.ingest(path, source="csv", feed="f")
        assert (report.rows_in, report.rejected) == (33, 2)
        kept = store.quarantine().to_pylist()
    assert [(row["member"].rsplit("!", 1)[1], row["line"], row["raw"]) for row in kept] == [
        ("one.csv", before.count("\n") + 1, bad),
        ("two.csv", 12, bad),
    ]
    assert all(reason in row["reasons"] for row in kept)


def test_binance_text_ends_with_its_line(tmp_path: Path) -> None:
    quote = '{"e":"trade","s":"X","t":%d,"p":"%s","q":"1","T":1704196800000}'
    lines = [f"1704196800000000000 {quote % (at, '1.5')}" for at in range(20)]
    lines[10] = f"1704196800000000000 {quote % (10, 'NaN')}"
    lines.insert(11, '1704196800000000000 {"e":"depthUpdate"}')
    path = tmp_path / "x.txt"
    path.write_text("\n".join(lines) + "\n")
    with bt.open(tmp_path / "store") as store:
        assert store.ingest(path).rejected == 1
        assert [(row["line"], row["raw"]) for row in store.quarantine().to_pylist()] == [(11, lines[10])]


def test_too_many_bad_values_load_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD * 3 + BAD[0][0] + "\n")
    with bt.open(tmp_path / "store") as store:
        with pytest.raises(TooManyRejectedError, match="not_a_number"):
            store.ingest(path)
        assert len(store.symbols()) == 0


CELL = st.sampled_from(["A", "B", '"A"', '"x""y"', '"a\nb"', "", "é"])
ROW = st.tuples(
    CELL, st.sampled_from(["2024-01-02T12:00:00", "2024-01-02 12:00:01.5Z", "x"]), st.sampled_from(["1", "2.5", "z"])
)
LINES = st.lists(
    st.one_of(ROW.map(lambda row: f"{row[0].replace(chr(10), '')},{row[1]},{row[2]},{row[0]}"), st.just("")),
    max_size=25,
)


@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]), last=st.booleans(), size=st.integers(1, 200))
def test_every_chunk_size_gives_the_same_rows_and_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, last: bool, size: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "a.csv"
    path.write_text("symbol,timestamp,price,conditions" + end + end.join(lines) + (end if last else ""), newline="")
    names = ("symbol", "timestamp_utc", "price", "conditions")

    def found() -> list[tuple[object, ...]]:
        out: list[tuple[object, ...]] = []
        for batch in open_source(path, source="csv", time_format="iso").batches:
            where = batch.locate(range(batch.columns.num_rows))
            out += [(*row, *place) for row, place in zip(rows(batch.columns, *names), where, strict=True)]
        return out

    whole = found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CHUNK_BYTES", size)
        assert found() == whole


SPEC = (
    '{"separator":",","quote":"\\"","fields":[{"target":"symbol"},{"target":"timestamp"},{"target":"price"},'
    '{"target":"volume","float":true},{"target":"conditions"}],"zone":"America/New_York"}'
)
MESSAGE = b'1704196800000000000 {"e":"trade","s":"X","t":1,"p":"1.5","q":"1","T":1704196800000}\n'


@st.composite
def mutated(draw: st.DrawFn, real: bytes) -> bytes:
    """A real text with some bytes changed, cut out or put in."""
    data = bytearray(real * 3)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\n", b",", b"9" * 20])
        )
        if not data:
            break
    return bytes(data)


@given(data=st.binary(max_size=200) | mutated(GOOD.encode()), last=st.booleans())
def test_text_of_any_bytes_gives_rows_or_typed_errors(data: bytes, *, last: bool) -> None:
    try:
        _, consumed, lines, _ = _native.parse_text(data, SPEC, last=last, first_line=1)
    except BacktestrError:
        return
    assert consumed <= len(data)
    assert lines == data[:consumed].count(b"\n")


@given(
    data=st.binary(max_size=200) | mutated(MESSAGE), last=st.booleans(), clock=st.sampled_from(["exchange", "receive"])
)
def test_lines_of_any_bytes_give_rows_or_typed_errors(data: bytes, clock: str, *, last: bool) -> None:
    try:
        _, consumed, _, _ = _native.parse_binance(data, clock=clock, last=last, first_line=1)
    except BacktestrError:
        return
    assert consumed <= len(data)


def test_many_rows_stream_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK_BYTES", 1_000)
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(f"A,2024-01-02T12:00:00,{at}.5,2,\n" for at in range(1, 2_001)))
    assert [int(price) for price in read(path)["price"].to_pylist()] == list(range(1, 2_001))
