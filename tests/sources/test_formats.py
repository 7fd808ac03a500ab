"""Other files of the same vendors: variants of names, headers, encodings, separators and containers."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import lzma
import struct
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

import backtestr as bt
from backtestr.errors import ArgumentError, SourceAmbiguousError, SourceStructureError
from backtestr.sources import OpenedSource, open_source, register
from tests.sources.reading import faults, ns, read, rows, wall

SECOND = 1_000_000_000
NOON = ns(dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC))


def zipped(path: Path, **texts: str) -> Path:
    """A zip whose members are named by keyword, ``__`` being a dot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name.replace("__", "."), text)
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class TestLean:
    @pytest.mark.parametrize("day", ["20130107", "20130708", "20130308", "20130311", "20131101", "20131104"])
    def test_equity_days_in_winter_and_summer(self, tmp_path: Path, day: str) -> None:
        path = written(tmp_path / f"equity/usa/tick/spy/{day}_trade.csv", "34200000.367,1454200,100,P,0,0\n")
        expected = [(wall(day, "America/New_York", "34200000.367"), Decimal("145.42"))]
        assert rows(read(path), "timestamp_utc", "price") == expected

    @pytest.mark.parametrize("day", ["20130310", "20131103"])
    @pytest.mark.parametrize("hour", [0, 1, 3, 4])
    def test_days_on_which_the_clock_changes(self, tmp_path: Path, day: str, hour: int) -> None:
        ms = str(hour * 3_600_000 + 1_800_000)
        path = written(tmp_path / f"{day}_trade.csv", f"{ms},10000,1,P,0,0")
        table = read(path, symbol="SPY", market="usa")
        assert table["timestamp_utc"].to_pylist() == [wall(day, "America/New_York", ms)]

    def test_fraction_of_a_millisecond(self, tmp_path: Path) -> None:
        path = written(tmp_path / "20131008_trade.csv", "14400009.367,10000,1,P,0,0")
        found = read(path, symbol="A", market="usa")["timestamp_utc"][0].as_py()
        assert found == wall("20131008", "America/New_York", "14400009") + 367_000

    @pytest.mark.parametrize("name", ["20131008_spy_Tick_Trade.csv", "20131008_SPY_trade_tick.csv"])
    def test_member_names_of_both_orders_and_cases(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path / name, "1,10000,1,P,0,0\n")
        opened = open_source(path, market="usa")
        assert opened.name == "lean"
        assert read(path, market="usa")["symbol"].to_pylist() == ["SPY"]

    @pytest.mark.parametrize(
        ("folder", "name", "row", "symbol", "price"),
        [
            ("future/cme/tick/es", "20131008_es_tick_trade_201312.csv", "1,1650.25,2,usa,,0", "ES_201312", "1650.25"),
            (
                "option/usa/tick/goog",
                "20151224_goog_tick_trade_american_call_7475000_20160115.csv",
                "1,12500,2,C,0,0",
                "GOOG_AMERICAN_CALL_7475000_20160115",
                "1.25",
            ),
            (
                "crypto/coinbase/tick/btcusd",
                "20180101_btcusd_tick_trade.csv",
                "1,14000.5,0.00000001,0",
                "BTCUSD",
                "14000.5",
            ),
        ],
        ids=["future", "option", "crypto"],
    )
    def test_security_types(self, tmp_path: Path, folder: str, name: str, row: str, symbol: str, price: str) -> None:
        path = tmp_path / folder / f"{name[:8]}_trade.zip"
        path.parent.mkdir(parents=True)
        zipped(path, **{name.replace(".", "__"): row})
        assert rows(read(path), "symbol", "price") == [(symbol, Decimal(price).quantize(Decimal("1e-8")))]

    def test_several_expiries_are_several_symbols(self, tmp_path: Path) -> None:
        folder = tmp_path / "future/comex/tick/gc"
        folder.mkdir(parents=True)
        zipped(
            folder / "20131008_trade.zip",
            **{f"20131008_gc_tick_trade_{month}__csv": "1,1300.1,1,usa,,0\r\n" for month in (201310, 201312)},
        )
        zipped(folder / "20131008_openinterest.zip", **{"20131008_gc_openinterest_tick_201312__csv": "1,99\n"})
        opened = open_source(tmp_path)
        assert opened.skipped == {"open interest file": 1}
        assert read(tmp_path)["symbol"].to_pylist() == ["GC_201310", "GC_201312"]

    def test_one_name_for_two_symbols_is_refused(self, tmp_path: Path) -> None:
        for symbol in ("spy", "ibm"):
            written(tmp_path / f"equity/usa/tick/{symbol}/20131008_trade.csv", "1,10000,1,P,0,0\n")
        with pytest.raises(SourceAmbiguousError, match="symbol="):
            open_source(tmp_path, symbol="SPY")
        assert sorted(read(tmp_path)["symbol"].to_pylist()) == ["IBM", "SPY"]


class TestFx:
    @pytest.mark.parametrize("price", ["1.12089", "1.120890", "108.745"])
    @pytest.mark.parametrize("month", ["01", "07"])
    def test_histdata_zip_beside_its_report(self, tmp_path: Path, price: str, month: str) -> None:
        path = zipped(
            tmp_path / f"HISTDATA_COM_ASCII_EURUSD_T_2020{month}.zip",
            **{
                f"DAT_ASCII_EURUSD_T_2020{month}__csv": f"2020{month}01 170000065,{price},{price},0\r\n",
                f"DAT_ASCII_EURUSD_T_2020{month}__txt": "report of gaps",
            },
        )
        table = read(path, source="histdata")
        expected = ns(dt.datetime(2020, int(month), 1, 22, 0, 0, 65_000, tzinfo=dt.UTC))
        assert rows(table, "symbol", "timestamp_utc", "bid") == [
            ("EURUSD", expected, Decimal(price).quantize(Decimal("1e-8")))
        ]

    def test_truefx_rows_with_the_pair(self, tmp_path: Path) -> None:
        text = "EUR/USD,20130101 21:59:59.123,1.1,1.2\nEUR/USD,20130101 22:00:00,1.1,1.2\n"
        path = written(tmp_path / "EURUSD-2013-01.csv", text)
        first = ns(dt.datetime(2013, 1, 1, 21, 59, 59, 123_000, tzinfo=dt.UTC))
        assert open_source(path).name == "truefx"
        assert rows(read(path), "symbol", "timestamp_utc") == [("EUR/USD", first), ("EUR/USD", first + 877_000_000)]
        assert set(read(path, symbol="EURUSD")["symbol"].to_pylist()) == {"EURUSD"}

    @pytest.mark.parametrize(
        ("pair", "options", "points"), [("USDJPY", {}, 3), ("XAUUSD", {}, 3), ("DEUIDXEUR", {"places": 2}, 2)]
    )
    def test_dukascopy_places(self, tmp_path: Path, pair: str, options: dict[str, Any], points: int) -> None:
        record = struct.pack(">IIIff", 1_000, 109_002, 109_000, 1.5, 0.75)
        path = written(tmp_path / pair / "2020/11/31/23h_ticks.bi5", lzma.compress(record, lzma.FORMAT_ALONE))
        start = ns(dt.datetime(2020, 12, 31, 23, tzinfo=dt.UTC))
        bid = Decimal(109_000).scaleb(-points).quantize(Decimal("1e-8"))
        assert rows(read(path, **options), "timestamp_utc", "bid", "bid_size") == [(start + SECOND, bid, 750_000)]

    def test_dukascopy_flat_names_and_empty_hours(self, tmp_path: Path) -> None:
        record = struct.pack(">IIIff", 0, 2, 1, 1.0, 1.0)
        path = written(tmp_path / "EURUSD_10h_ticks.bi5", lzma.compress(record, lzma.FORMAT_ALONE))
        with pytest.raises(SourceAmbiguousError, match="hour="):
            open_source(path)
        assert read(path, hour="2019-02-04T10")["timestamp_utc"].to_pylist() == [
            ns(dt.datetime(2019, 2, 4, 10, tzinfo=dt.UTC))
        ]
        written(tmp_path / "EURUSD/2020/00/01/00h_ticks.bi5", b"")
        assert read(tmp_path / "EURUSD").num_rows == 0
        with pytest.raises(ArgumentError, match="one file"):
            open_source([path, path], source="dukascopy", hour="2019-02-04T10")


class TestBinance:
    @pytest.mark.parametrize("header", [False, True])
    @pytest.mark.parametrize(
        ("name", "head", "row", "feed"),
        [
            ("BTCUSDT-trades-2024-08-08", "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch",
             "7,1.5,2.0,3.0,{time},True,True", "binance:spot"),
            ("BTCUSDT-trades-2024-08-08", "id,price,qty,quote_qty,time,is_buyer_maker",
             "7,1.5,2.0,3.0,{time},true", "binance:um"),
            ("BTCUSDT-aggTrades-2024-08-08", "agg_trade_id,price,quantity,first,last,time,maker",
             "7,1.5,2.0,1,2,{time},true", "binance:um:aggTrades"),
            ("BTCUSDT-aggTrades-2024-08-08", "a,p,q,f,l,T,m,M",
             "7,1.5,2.0,1,2,{time},True,True", "binance:spot:aggTrades"),
        ],
        ids=["spot", "um", "um-agg", "spot-agg"],
    )  # fmt: skip
    @pytest.mark.parametrize("digits", [13, 16])
    def test_trade_dumps(
        self, tmp_path: Path, name: str, head: str, row: str, feed: str, digits: int, *, header: bool
    ) -> None:
        time = str(NOON)[:digits]
        text = (head + "\n" if header else "") + row.format(time=time) + "\n"
        path = zipped(tmp_path / f"{name}.zip", **{f"{name}__csv": text})
        written(tmp_path / f"{name}.zip.CHECKSUM", "abc  file")
        opened = open_source(tmp_path)
        assert (opened.name, opened.feed) == ("binance", feed)
        assert rows(read(path), "symbol", "timestamp_utc", "sequence", "price", "volume") == [
            ("BTCUSDT", NOON, 7, Decimal("1.5"), 2)
        ]

    def test_book_ticker_dump(self, tmp_path: Path) -> None:
        text = (
            "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
            f"5,1.1,2,1.2,3,{NOON // 1_000_000},{NOON // 1_000_000 + 1}\n"
        )
        path = written(tmp_path / "BTCUSDT-bookTicker-2024-01-02.csv", text)
        names = ("timestamp_utc", "sequence", "bid", "bid_size", "ask", "ask_size")
        assert rows(read(path), *names) == [(NOON, 5, Decimal("1.1"), 2, Decimal("1.2"), 3)]

    def test_combined_and_futures_streams(self, tmp_path: Path) -> None:
        ms = NOON // 1_000_000
        trade = {"e": "trade", "E": ms + 1, "s": "X", "t": 7, "p": "2.5", "q": "1", "T": ms}
        quote = {"u": 9, "s": "X", "b": "2", "B": "1", "a": "3", "A": "4"}
        messages = [
            {"stream": "x@trade", "data": trade},
            {"e": "bookTicker", "T": ms, "E": ms + 1, **quote},
            {"e": "24hrTicker", **quote},
            {"lastUpdateId": 1, "s": "X", "u": 1, "b": [["1", "2"]], "a": []},
        ]
        lines = [f"{NOON + 5 + at} {json.dumps(message)}" for at, message in enumerate(messages)]
        path = written(tmp_path / "x.txt", "\n".join(lines))
        assert read(path)["timestamp_utc"].to_pylist() == [NOON, NOON]
        assert read(path, clock="receive")["timestamp_utc"].to_pylist() == [NOON + 5, NOON + 6]


class TestTardis:
    @pytest.mark.parametrize(
        ("name", "header"),
        [
            ("x_derivative_ticker", "exchange,symbol,timestamp,local_timestamp,funding_rate,last_price"),
            ("x_incremental_book_L2", "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"),
            ("x_liquidations", "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"),
        ],
    )
    def test_other_datasets_are_refused(self, tmp_path: Path, name: str, header: str) -> None:
        path = written(tmp_path / f"{name}.csv", header + "\nb,X,1583020803145000,1583020803145000,1,buy,1,1\n")
        with pytest.raises(SourceStructureError, match="not that of Tardis"):
            read(path)

    def test_gzip_of_book_ticker(self, tmp_path: Path) -> None:
        text = (
            "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
            "binance,X,1583020803145000,1583020803145001,1,2.5,2.25,4\n"
        )
        path = written(tmp_path / "binance_book_ticker_2020-03-01_X.csv.gz", gzip.compress(text.encode()))
        assert rows(read(path), "bid", "ask", "bid_size", "ask_size") == [(Decimal("2.25"), Decimal("2.5"), 4, 1)]


CSV = "symbol,timestamp,price,volume\nA,2024-01-02T12:00:00,1.5,2\nA,2024-01-02T12:00:01.5,1.25,3\n"
CSV_ROWS = [("A", NOON, Decimal("1.5"), 2), ("A", NOON + SECOND * 3 // 2, Decimal("1.25"), 3)]
NAMES = ("symbol", "timestamp_utc", "price", "volume")


class TestText:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n   \n"])
    def test_separators_and_line_ends(self, tmp_path: Path, separator: str, end: str) -> None:
        path = written(tmp_path / "a.csv", end + CSV.strip().replace(",", separator).replace("\n", end))
        assert rows(read(path), *NAMES) == CSV_ROWS

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "big5"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        column = {"latin-1": "prix_dernière"}.get(encoding, "成交價格")
        path = written(tmp_path / "a.csv", CSV.replace("price", column).encode(encoding))
        columns = {"symbol": "symbol", "timestamp_utc": "timestamp", "price": column, "volume": "volume"}
        given = {} if encoding == "utf-8-sig" else {"encoding": encoding}
        assert rows(read(path, columns=columns, **given), *NAMES) == CSV_ROWS

    def test_taifex_header_padding_and_time_in_two_columns(self, tmp_path: Path) -> None:
        text = (
            "成交日期,商品代號,到期月份(週別),成交時間,成交價格,成交數量(B+S),近月價格,遠月價格\r\n"
            "20240102,TXF     ,202401     ,084500,17890,2,-,-\r\n"
            "20240103,TXF     ,202401     ,134459,17891,4,-,-\r\n"
        )
        path = written(tmp_path / "Daily_2024_01_02.csv", text.encode("big5"))
        columns = {
            "symbol": "商品代號",
            "date": "成交日期",
            "timestamp_utc": "成交時間",
            "price": "成交價格",
            "volume": "成交數量(B+S)",
        }
        table = read(path, encoding="big5", columns=columns, timezone="Asia/Taipei")
        taipei = ZoneInfo("Asia/Taipei")
        assert rows(table, *NAMES) == [
            ("TXF", ns(dt.datetime(2024, 1, 2, 8, 45, tzinfo=taipei).astimezone(dt.UTC)), 17_890, 2),
            ("TXF", ns(dt.datetime(2024, 1, 3, 13, 44, 59, tzinfo=taipei).astimezone(dt.UTC)), 17_891, 4),
        ]

    def test_decimal_comma_is_asked_for(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "symbol;timestamp;price\nA;2024-01-02T12:00:00;1,5\nA;2024-01-02;1.234,5\n")
        with pytest.raises(SourceAmbiguousError, match="decimal="):
            read(path)
        table = read(path, decimal=",")
        assert table["price"].to_pylist() == [Decimal("1.5"), None]
        assert faults(table) == 1

    @pytest.mark.parametrize(
        "spelled",
        [
            "1704196800", "1704196800000", "1704196800000000", "1704196800000000000", "20240102120000",
            "20240102 120000", "20240102 12:00:00", "2024/01/02 12:00:00", "2024.01.02T12:00:00.000",
            "2024-01-02T12:00:00Z", "2024-01-02 12:00:00+00", "2024-01-02 07:00:00-05:00", "2024-01-02 12:00:00 UTC",
        ],
    )  # fmt: skip
    def test_times_are_recognised(self, tmp_path: Path, spelled: str) -> None:
        path = written(tmp_path / "a.csv", f"symbol,timestamp,price\nA,{spelled},1\n")
        assert read(path)["timestamp_utc"].to_pylist() == [NOON]

    @pytest.mark.parametrize(("spelled", "argument"), [("01/02/2024 12:00:00", "time_format="), ("12:00:00", "date=")])
    def test_times_that_could_be_several_are_asked_for(self, tmp_path: Path, spelled: str, argument: str) -> None:
        path = written(tmp_path / "a.csv", f"symbol,timestamp,price\nA,{spelled},1\n")
        with pytest.raises(SourceAmbiguousError, match=argument):
            read(path)

    def test_given_time_format(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "symbol,timestamp,price\nA,2/1/2024 12:00:00,1\nA,02/01/2024 12:00:00,1\n")
        assert read(path, time_format="%d/%m/%Y %H:%M:%S")["timestamp_utc"].to_pylist() == [NOON, NOON]

    def test_containers(self, tmp_path: Path) -> None:
        lines = CSV.splitlines(keepends=True)
        data = [line.encode() for line in lines]
        many = written(tmp_path / "a.csv.gz", b"".join(gzip.compress(line) for line in data))
        frames = written(tmp_path / "a.csv.zst", b"".join(zstandard.compress(line) for line in data))
        both = zipped(tmp_path / "b.zip", a__csv=CSV, sub=CSV.replace("A,", "B,"))
        assert rows(read(many), *NAMES) == rows(read(frames), *NAMES) == CSV_ROWS
        assert rows(read(both), *NAMES) == CSV_ROWS + [("B", *row[1:]) for row in CSV_ROWS]

    def test_a_symbol_called_pk_is_no_archive(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "PK,2024-01-02T12:00:00,1.5\n")
        table = read(path, source="csv", columns={"symbol": 0, "timestamp_utc": 1, "price": 2})
        assert table["symbol"].to_pylist() == ["PK"]

    @pytest.mark.parametrize("text", ["", "\n\n", "symbol,timestamp,price\n", "symbol,timestamp,price"])
    def test_texts_without_rows(self, tmp_path: Path, text: str) -> None:
        assert read(written(tmp_path / "a.csv", text)).num_rows == 0

    def test_one_new_name_over_chunks_of_several_symbols(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("backtestr.sources.text.CHUNK_BYTES", 40)
        path = written(tmp_path / "a.csv", CSV + CSV.split("\n", 1)[1].replace("A,", "B,"))
        with pytest.raises(SourceAmbiguousError, match="symbol="):
            read(path, symbol="C")
        assert set(read(path, symbol={"A": "X"})["symbol"].to_pylist()) == {"X", "B"}
        with pytest.raises(SourceAmbiguousError, match="one name"):
            read(path, symbol={"A": "B"})


def _columns(unit: str = "ns", zone: str | None = "UTC") -> pa.Table:
    times = pa.array([NOON, NOON + SECOND]).cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp(unit, "UTC"))
    times = times.cast(pa.timestamp(unit, zone)) if zone else times.cast(pa.timestamp(unit))
    return pa.table({"symbol": ["A", "A"], "timestamp": times, "price": [1.5, 1.25], "volume": [2, 3]})


class TestColumns:
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
    def test_instants_of_any_unit_and_zone(self, tmp_path: Path, unit: str, zone: str | None) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(_columns(unit, zone), path)
        accepted, _, _ = bt.validate_ticks(next(open_source(path).batches).columns)
        assert accepted["timestamp_utc"].cast(pa.int64()).to_pylist() == [NOON, NOON + SECOND]

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
    )
    def test_texts_of_any_type(self, kind: pa.DataType) -> None:
        table = _columns().set_column(0, "symbol", pa.array(["A", "A"]).cast(kind))
        assert read(table)["symbol"].to_pylist() == ["A", "A"]

    @pytest.mark.parametrize("shape", ["table", "batch", "reader", "polars", "pandas", "duckdb", "dict"])
    def test_frames_of_any_library(self, shape: str) -> None:
        table = _columns()
        if shape == "duckdb":
            duckdb = pytest.importorskip("duckdb")
            connection = duckdb.connect()
            connection.register("ticks", table.set_column(1, "timestamp", table["timestamp"].cast(pa.timestamp("us"))))
            frame: Any = connection.sql("FROM ticks")
        else:
            frame = {
                "table": lambda: table,
                "batch": lambda: table.to_batches()[0],
                "reader": table.to_reader,
                "polars": lambda: pl.from_arrow(table),
                "pandas": table.to_pandas,
                "dict": lambda: (
                    {name: np.asarray(table[name].to_pylist()) for name in ("symbol", "price", "volume")}
                    | {"timestamp": np.array([NOON, NOON + SECOND], "datetime64[ns]")}
                ),
            }[shape]()
        table = read(frame)
        assert table["symbol"].to_pylist() == ["A", "A"]
        assert table["price"].to_pylist() == [1.5, 1.25]

    def test_pandas_times_in_the_index(self) -> None:
        frame = pd.DataFrame({"price": [1.5]}, index=pd.DatetimeIndex(["2024-01-02T12:00"], name="timestamp"))
        assert read(frame, symbol="A").num_rows == 1

    @pytest.mark.parametrize("shape", ["file", "stream", "feather"])
    def test_arrow_files(self, tmp_path: Path, shape: str) -> None:
        path, table = tmp_path / "a.arrow", _columns()
        if shape == "feather":
            pyarrow.feather.write_feather(table, path)
        else:
            maker = pa.ipc.new_file if shape == "file" else pa.ipc.new_stream
            with maker(path, table.schema) as writer:
                writer.write_table(table)
        assert read(path)["timestamp_utc"].to_pylist() == [NOON, NOON + SECOND]

    @pytest.mark.parametrize("divisor", [1_000, 1_000_000])
    def test_whole_numbers_that_are_not_ns_are_refused(self, divisor: int) -> None:
        table = pa.table({"symbol": ["A"], "timestamp": [NOON // divisor], "price": [1.0]})
        with pytest.raises(SourceAmbiguousError, match="look like"):
            read(table)


def test_a_source_of_ones_own(tmp_path: Path) -> None:
    def mine(data: Any, /, *, factor: int) -> OpenedSource:
        table = pa.table({"symbol": ["A"], "ts": [NOON], "price": [float(data) * factor]})
        return open_source(table, source="arrow", feed="mine")

    register("mine", mine)
    with bt.open(tmp_path / "store") as store:
        report = store.ingest("2", source="mine", factor=3)
        assert (report.accepted, report.feed) == (1, "mine")
        assert store.ticks("A").to_pylist()[0]["price"] == Decimal(6)
    with pytest.raises(ArgumentError, match=r"no option 'fctor'; it takes factor"):
        open_source("2", source="mine", fctor=3)
