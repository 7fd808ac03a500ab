"""Broken and misnamed inputs: always a typed error that says where, never rows and never another library's error."""

from __future__ import annotations

import gzip
import itertools
import lzma
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import backtestr as bt
from backtestr.errors import (
    ArgumentError,
    BacktestrError,
    SourceAmbiguousError,
    SourceError,
    SourceNotFoundError,
    SourceStructureError,
)
from backtestr.sources import known_sources, open_source
from tests.sources.reading import read

ROWS = "".join(f"A,2024-01-02T12:{at // 60 % 60:02}:{at % 60:02},1.{at},2\n" for at in range(3_000))
TEXT = "symbol,timestamp,price,volume\n" + ROWS


def _zip(data: bytes) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return out.getvalue()


def _bi5(_: bytes) -> bytes:
    records = b"".join(struct.pack(">IIIff", at, at + 2, at + 1, 1.0, 1.0) for at in range(500))
    return lzma.compress(records, lzma.FORMAT_ALONE)


PACKED: dict[str, tuple[Callable[[bytes], bytes], dict[str, Any]]] = {
    "a.csv.gz": (gzip.compress, {}),
    "a.csv.zst": (zstandard.compress, {}),
    "a.zip": (_zip, {}),
    "EURUSD/2019/01/04/10h_ticks.bi5": (_bi5, {}),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_file_cut_anywhere_is_an_error(tmp_path: Path, name: str) -> None:
    pack, options = PACKED[name]
    data = pack(TEXT.encode())
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cuts = {*range(1, 40), *range(40, len(data), max(1, len(data) // 60)), *range(len(data) - 20, len(data))}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        with pytest.raises(SourceError) as caught:
            read(path, **options)
        assert str(path) in str(caught.value), cut


@pytest.mark.parametrize("name", [name for name in PACKED if name != "a.csv.zst"])
def test_a_compressed_file_with_damage_gives_typed_errors_only(tmp_path: Path, name: str) -> None:
    data = PACKED[name][0](TEXT.encode())
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for at in {*range(60), *range(60, len(data), max(1, len(data) // 60)), *range(len(data) - 60, len(data))}:
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        try:
            read(path)
        except BacktestrError:
            continue


def test_dbn_cut_anywhere_is_an_error(vendor_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("databento_dbn")
    for name in ("dbn/test_data.trades.dbn", "nautilus/futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"):
        data = (vendor_data / "dbn" / name).read_bytes()
        record = 48
        whole = {len(data) - record, len(data) - 2 * record} if name.endswith(".dbn") else set()
        path = tmp_path / Path(name).name
        for cut in range(1, len(data), max(1, len(data) // 150)):
            if cut in whole:
                continue
            path.write_bytes(data[:cut])
            with pytest.raises(SourceError) as caught:
                read(path, source="databento")
            assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "line", "column"),
    [
        ('A,2024-01-02T12:00:00,"1.5,2\n', 1502, 3),
        ('A"x,2024-01-02T12:00:00,1.5,2\n', 1502, 1),
        ('"A"x,2024-01-02T12:00:00,1.5,2\n', 1502, 1),
        ("A,2024-01-02T12:00:00,1.5\n", 1502, 3),
        ("A,2024-01-02T12:00:00,1.5,2,3\n", 1502, 5),
        ("A,2024-01-02T12:00:00,1\0,2\n", 1502, 3),
        (b"A,2024-01-02T12:00:00,1.5,\xe9\n", 1502, 4),
    ],
    ids=["open quote", "quote inside", "text after quote", "too few", "too many", "NUL", "bytes"],
)
@pytest.mark.parametrize("chunk_bytes", [1_000, 8 << 20])
def test_a_broken_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str | bytes, line: int, column: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr("backtestr.sources.text.CHUNK_BYTES", chunk_bytes)
    lines = TEXT.encode().splitlines(keepends=True)
    lines.insert(1501, broken.encode() if isinstance(broken, str) else broken)
    path = tmp_path / "a.csv"
    path.write_bytes(b"".join(lines))
    with pytest.raises(SourceStructureError) as caught:
        read(path, source="csv")
    assert str(path) in str(caught.value)
    assert f"(line {line}, column {column})" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("symbol,when,price\nA,2024-01-02,1\n", SourceStructureError, "timestamp_utc"),
        ("symbol,timestamp,open\nA,2024-01-02,1\n", SourceStructureError, "price"),
        ("timestamp,price\n2024-01-02,1\n", SourceAmbiguousError, "symbol="),
        ("symbol,timestamp,price,price\nA,2024-01-02,1,2\n", SourceAmbiguousError, "several columns"),
        ("A,2024-01-02,1\n", SourceAmbiguousError, "columns="),
        ("symbol,timestamp,price\rA,2024-01-02,1\rA,2024-01-02,2\r", SourceStructureError, "carriage returns"),
        ("just words\nand more\n", SourceStructureError, "separator="),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    with pytest.raises(error, match=said):
        read(path, source="csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seperator": ";"}, "unknown option 'seperator'.*separator"),
        ({"separator": "||"}, "separator="),
        ({"quote": "é"}, "quote="),
        ({"encoding": "klingon"}, "encoding="),
        ({"encoding": "rot13"}, "encoding="),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"time_format": "%Q"}, "time format"),
        ({"numbers": "double"}, "numbers="),
        ({"decimal": ";"}, "decimal="),
        ({"symbol_pattern": "("}, "symbol_pattern="),
        ({"columns": {"colour": "price"}}, "not a column of ticks"),
    ],
)
def test_options_that_are_not_taken(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    with pytest.raises(ArgumentError, match=said):
        read(path, source="csv", **options)


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "none.csv", tmp_path / "empty"):
        for source in (None, *(name for name in known_sources() if name in BUILT_IN)):
            with pytest.raises(SourceNotFoundError):
                open_source(missing, source=source)
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "none.csv")
    for wrong in (3, b"a.csv", [], [3]):
        with pytest.raises(ArgumentError, match="path"):
            open_source(wrong)
    with pytest.raises(ArgumentError, match="did you mean 'dukascopy'"):
        open_source(tmp_path, source="ducascopy")


def test_utf_16_without_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode("utf-16-le"))
    with pytest.raises(SourceStructureError, match="encoding="):
        read(path, source="csv", encoding="utf-16")
    with pytest.raises(SourceError):
        read(path)


BUILT_IN = (
    "arrow", "binance", "csv", "databento", "dolphindb", "dukascopy", "histdata", "lean", "tardis", "truefx",
)  # fmt: skip
ONE_OF_EACH = {
    "arrow": "binance_parquet/btcusdt-trades.parquet",
    "binance": "binance_ws/spot/btcusdt_20240808.gz",
    "databento": "dbn/dbn/test_data.trades.dbn",
    "databento-zst": "dbn/dbn/test_data.trades.v3.dbn.zst",
    "dolphindb": "dolphindb/20200102_SH_trade.csv",
    "dukascopy": "dukascopy/EURUSD/2019/01/04/10h_ticks.bi5",
    "histdata": "histdata/quote_tick_data.csv",
    "lean": "lean/future/comex/tick/gc/20131008_trade.zip",
    "lean-equity": "lean/equity/usa/tick/ibm/20131008_quote.zip",
    "lean-forex": "lean/forex/oanda/tick/eurusd/20140508_quote.zip",
    "csv": "questdb/btc_trades.csv",
    "tardis": "tardis/bitmex_trades_XBTUSD.csv",
    "truefx": "truefx/usdjpy-ticks.csv",
}
# Text with a header that names the columns of ticks is CSV, too.
ALSO_CSV = {"dolphindb", "tardis", "truefx"}


@pytest.mark.parametrize(("source", "kind"), list(itertools.product(BUILT_IN, ONE_OF_EACH)))
def test_a_wrong_preset_is_an_error(vendor_data: Path, tmp_path: Path, source: str, kind: str) -> None:
    if kind.split("-", maxsplit=1)[0] == source or (source == "csv" and kind in ALSO_CSV):
        return
    path = vendor_data / ONE_OF_EACH[kind]
    given: dict[str, Any] = {"symbol": "X"}
    if source == "lean":
        given |= {"market": "usa", "date": "2020-01-01", "ticks": "trade"}
    if source == "dukascopy":
        given |= {"hour": "2020-01-01T00", "places": 5}
    for options in ({}, given):
        with pytest.raises(SourceError):
            read(path, source=source, **options)


def test_an_error_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(TEXT)
    bad.write_text(TEXT + "A,2024-01-02T13:00:00,1\n")
    with bt.open(tmp_path / "store") as store:
        before = store.ingest(good, feed="f").lsn
        with pytest.raises(SourceStructureError):
            store.ingest(bad, feed="f")
        assert store.ticks("A").num_rows == 3_000
        assert store.ingest(good, feed="f").duplicate == 3_000
        assert before
